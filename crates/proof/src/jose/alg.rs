//! The algorithms there are: a closed table (RFC 7518 section 3, RFC 8037, RFC 9864, RFC 9964).

use aws_lc_rs::signature::{self as sig, RsaParameters, VerificationAlgorithm};
use aws_lc_rs::{digest, hmac};

/// A signature or MAC algorithm. `none` and everything not listed has no value of this type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256, salt of 32 octets.
    Ps256,
    /// RSASSA-PSS with SHA-384, salt of 48 octets.
    Ps384,
    /// RSASSA-PSS with SHA-512, salt of 64 octets.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519, under its old name `EdDSA` (RFC 8037) and its own, `Ed25519` (RFC 9864): one algorithm.
    EdDsa,
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// ML-DSA-44 (FIPS 204, RFC 9964).
    MlDsa44,
    /// ML-DSA-65 (FIPS 204, RFC 9964).
    MlDsa65,
}

/// What kind of key an algorithm takes: the JWK `kty` and, where it decides the algorithm, `crv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `RSA`.
    Rsa,
    /// `EC` with `crv` P-256.
    P256,
    /// `EC` with `crv` P-384.
    P384,
    /// `EC` with `crv` P-521.
    P521,
    /// `OKP` with `crv` Ed25519.
    Ed25519,
    /// `oct`.
    Symmetric,
    /// `AKP` with `alg` ML-DSA-44.
    MlDsa44,
    /// `AKP` with `alg` ML-DSA-65.
    MlDsa65,
}

impl Alg {
    /// Every algorithm.
    pub const ALL: [Self; 15] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::MlDsa44,
        Self::MlDsa65,
    ];

    /// What an issuer may use when its configuration does not say: asymmetric, widely used, cheap to verify.
    /// The others are opted into by naming them.
    pub const DEFAULT: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// The algorithm called `name` in a header, a JWK or the configuration. Case-sensitive (RFC 7515 section 4.1.1).
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }

    /// The registered name. For Ed25519 the one older verifiers know.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
        }
    }

    /// The kind of key it takes.
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyType::Rsa,
            Self::Es256 => KeyType::P256,
            Self::Es384 => KeyType::P384,
            Self::Es512 => KeyType::P521,
            Self::EdDsa => KeyType::Ed25519,
            Self::Hs256 | Self::Hs384 | Self::Hs512 => KeyType::Symmetric,
            Self::MlDsa44 => KeyType::MlDsa44,
            Self::MlDsa65 => KeyType::MlDsa65,
        }
    }

    /// Whether verifier and signer share the key.
    pub const fn is_symmetric(self) -> bool {
        matches!(self.key_type(), KeyType::Symmetric)
    }

    /// The HMAC behind `HS*`.
    pub(crate) fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    /// The parameters of `RS*` and `PS*`; the salt is as long as the hash (RFC 7518 section 3.5).
    pub(crate) fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&sig::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&sig::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&sig::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&sig::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&sig::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&sig::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }
}

impl KeyType {
    /// The algorithm of a type that has only one; RSA and symmetric keys have several.
    pub const fn only_alg(self) -> Option<Alg> {
        match self {
            Self::P256 => Some(Alg::Es256),
            Self::P384 => Some(Alg::Es384),
            Self::P521 => Some(Alg::Es512),
            Self::Ed25519 => Some(Alg::EdDsa),
            Self::MlDsa44 => Some(Alg::MlDsa44),
            Self::MlDsa65 => Some(Alg::MlDsa65),
            Self::Rsa | Self::Symmetric => None,
        }
    }

    /// Octets of one EC coordinate (RFC 7518 section 6.2.1.2).
    pub(crate) const fn coordinate_len(self) -> Option<usize> {
        match self {
            Self::P256 => Some(32),
            Self::P384 => Some(48),
            Self::P521 => Some(66),
            _ => None,
        }
    }

    /// How keys of a type with one algorithm verify. ECDSA signatures are r‖s of fixed length, never DER.
    pub(crate) fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::P256 => Some(&sig::ECDSA_P256_SHA256_FIXED),
            Self::P384 => Some(&sig::ECDSA_P384_SHA384_FIXED),
            Self::P521 => Some(&sig::ECDSA_P521_SHA512_FIXED),
            Self::Ed25519 => Some(&sig::ED25519),
            Self::MlDsa44 => Some(&sig::ML_DSA_44),
            Self::MlDsa65 => Some(&sig::ML_DSA_65),
            Self::Rsa | Self::Symmetric => None,
        }
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    array(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// A digest of 32 bytes as an array.
pub(crate) fn array(digest: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    for (to, from) in out.iter_mut().zip(digest) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_and_none_is_not_an_algorithm() {
        for alg in Alg::ALL {
            assert_eq!(Alg::from_name(alg.name()), Some(alg));
        }
        assert_eq!(Alg::from_name("Ed25519"), Some(Alg::EdDsa));
        for wrong in ["none", "None", "NONE", "nOnE", "", "rs256", "hs256", "HS256 ", "ES256K", "Ed448", "ML-DSA-87"] {
            assert_eq!(Alg::from_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_default_algorithm_is_symmetric() {
        assert!(Alg::DEFAULT.iter().all(|alg| !alg.is_symmetric()));
    }
}

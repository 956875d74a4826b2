//! Keys in PEM (RFC 7468), for an operator's key files.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::jwk::{KeyError, Origin};
use super::{KeyType, VerifyingKey};

const MAX_LEN: usize = 1 << 20;

/// `SubjectPublicKeyInfo` of a named curve up to the coordinates. DER has one encoding, so a prefix is a parser.
const SPKI: [(KeyType, &[u8]); 4] = [
    (
        KeyType::P256,
        &[
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
            0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
        ],
    ),
    (
        KeyType::P384,
        &[
            0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04,
            0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
        ],
    ),
    (
        KeyType::P521,
        &[
            0x30, 0x81, 0x9b, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
            0x04, 0x00, 0x23, 0x03, 0x81, 0x86, 0x00, 0x04,
        ],
    ),
    (KeyType::Ed25519, &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]),
];

/// Read every block of a PEM text. All must be usable: unlike a published set, the file is the operator's to fix.
pub(super) fn read(text: &[u8], origin: Origin) -> Result<Vec<VerifyingKey>, KeyError> {
    if text.len() > MAX_LEN {
        return Err(KeyError::Size);
    }
    let mut rest = std::str::from_utf8(text).map_err(|_| KeyError::Form)?.trim();
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let (label, after) =
            rest.strip_prefix("-----BEGIN ").and_then(|begun| begun.split_once("-----")).ok_or(KeyError::Form)?;
        if origin != Origin::Operator && label.ends_with("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let (body, after) = after.split_once(&format!("-----END {label}-----")).ok_or(KeyError::Form)?;
        let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
        let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| KeyError::Encoding)?);
        keys.push(block(label, &der)?);
        rest = after.trim_start();
    }
    Ok(keys)
}

fn block(label: &str, der: &[u8]) -> Result<VerifyingKey, KeyError> {
    match label {
        "PUBLIC KEY" => public(der),
        "RSA PUBLIC KEY" => rsa_public(der),
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => private(der),
        _ => Err(KeyError::UnsupportedType),
    }
}

fn public(der: &[u8]) -> Result<VerifyingKey, KeyError> {
    for (key_type, prefix) in SPKI {
        if let Some(rest) = der.strip_prefix(prefix) {
            return from_raw(key_type, rest);
        }
    }
    rsa_public(der)
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1), bare or inside a `SubjectPublicKeyInfo`.
fn rsa_public(der: &[u8]) -> Result<VerifyingKey, KeyError> {
    let (SEQUENCE, body, []) = element(der)? else { return Err(KeyError::UnsupportedType) };
    let numbers = match element(body)? {
        (SEQUENCE, RSA_ENCRYPTION, rest) => {
            let (BIT_STRING, bits, []) = element(rest)? else { return Err(KeyError::Encoding) };
            let inner = bits.strip_prefix(&[0]).ok_or(KeyError::Encoding)?;
            let (SEQUENCE, numbers, []) = element(inner)? else { return Err(KeyError::Encoding) };
            numbers
        }
        _ => body,
    };
    let (INTEGER, n, rest) = element(numbers)? else { return Err(KeyError::UnsupportedType) };
    let (INTEGER, e, []) = element(rest)? else { return Err(KeyError::Encoding) };
    VerifyingKey::rsa(positive(n)?, positive(e)?, None)
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// The algorithm identifier of an RSA key: `rsaEncryption` and NULL.
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The first DER element: tag, contents, and what follows it.
fn element(der: &[u8]) -> Result<(u8, &[u8], &[u8]), KeyError> {
    let [tag, length, rest @ ..] = der else { return Err(KeyError::UnsupportedType) };
    let (length, rest) = match (*length, rest) {
        (short @ 0..=0x7f, rest) => (usize::from(short), rest),
        (0x81, [a @ 0x80..=0xff, rest @ ..]) => (usize::from(*a), rest),
        (0x82, [a @ 1..=0xff, b, rest @ ..]) => (usize::from(*a) << 8 | usize::from(*b), rest),
        _ => return Err(KeyError::Encoding),
    };
    let (contents, after) = rest.split_at_checked(length).ok_or(KeyError::Encoding)?;
    Ok((*tag, contents, after))
}

/// A DER integer that must be positive, without the zero octet that keeps it so.
fn positive(integer: &[u8]) -> Result<&[u8], KeyError> {
    match integer {
        [0, rest @ ..] if rest.first().is_some_and(|b| *b >= 0x80) => Ok(rest),
        [1..=0x7f, ..] => Ok(integer),
        _ => Err(KeyError::Encoding),
    }
}

/// A public key from its coordinates (EC, without the leading octet that says uncompressed) or bytes (Ed25519).
fn from_raw(key_type: KeyType, raw: &[u8]) -> Result<VerifyingKey, KeyError> {
    match key_type.coordinate_len() {
        None => VerifyingKey::ed25519(raw),
        Some(len) => {
            let (x, y) = raw.split_at_checked(len).ok_or(KeyError::Encoding)?;
            VerifyingKey::ec(key_type, x, y)
        }
    }
}

/// The public half of a private key in PKCS#8, PKCS#1 or SEC 1.
fn private(der: &[u8]) -> Result<VerifyingKey, KeyError> {
    let curves = [
        (KeyType::P256, &ECDSA_P256_SHA256_FIXED_SIGNING),
        (KeyType::P384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        (KeyType::P521, &ECDSA_P521_SHA512_FIXED_SIGNING),
    ];
    for (key_type, algorithm) in curves {
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(algorithm, der) {
            let raw = pair.public_key().as_ref().strip_prefix(&[4]).ok_or(KeyError::Encoding)?;
            return from_raw(key_type, raw);
        }
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return VerifyingKey::ed25519(pair.public_key().as_ref());
    }
    let pair = rsa::KeyPair::from_pkcs8(der).or_else(|_| rsa::KeyPair::from_der(der));
    rsa_public(pair.map_err(|_| KeyError::UnsupportedType)?.public_key().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(text: &[u8]) -> Result<Vec<VerifyingKey>, KeyError> {
        read(text, Origin::Operator)
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn a_key_pair_reads_back_from_its_private_and_its_public_form() {
        use aws_lc_rs::encoding::AsDer;
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let pkcs8 = pair.to_pkcs8v1().unwrap();
        let spki = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
        let from_private = read_all(pem("PRIVATE KEY", pkcs8.as_ref()).as_bytes()).unwrap();
        let from_public = read_all(pem("PUBLIC KEY", spki.as_ref()).as_bytes()).unwrap();
        assert_eq!(from_private[0].thumbprint(), from_public[0].thumbprint());
        assert_eq!(from_public[0].key_type(), KeyType::P256);
        let both = [pem("PUBLIC KEY", spki.as_ref()), pem("PRIVATE KEY", pkcs8.as_ref())].concat();
        assert_eq!(read_all(both.as_bytes()).unwrap().len(), 2);
        assert_eq!(read(both.as_bytes(), Origin::IssuerFile).err(), Some(KeyError::Private));
    }

    #[test]
    fn other_blocks_and_broken_text_are_refused() {
        for (text, error) in [
            (pem("CERTIFICATE", b"x"), KeyError::UnsupportedType),
            (pem("PUBLIC KEY", b"x"), KeyError::UnsupportedType),
            ("-----BEGIN PUBLIC KEY-----\n".into(), KeyError::Form),
            ("-----BEGIN PUBLIC KEY-----\n?\n-----END PUBLIC KEY-----".into(), KeyError::Encoding),
            (format!("{}garbage", pem("PUBLIC KEY", &[1; 3])), KeyError::UnsupportedType),
            ("garbage".into(), KeyError::Form),
        ] {
            assert_eq!(read_all(text.as_bytes()).err(), Some(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(der in proptest::collection::vec(any::<u8>(), 0..120), label in "(PUBLIC|PRIVATE|RSA PUBLIC) KEY") {
            let _ = read_all(pem(&label, &der).as_bytes());
            let _ = read_all(&der);
        }
    }
}

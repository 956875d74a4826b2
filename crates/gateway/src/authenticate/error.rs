//! Why nobody is known to be calling, and what the caller is told of it.

use std::time::Duration;

use base::Problem;
use http::{HeaderName, HeaderValue, StatusCode};
use proof::dpop::DpopError;
use proof::signature::SignatureProofError;
use proof::token::TokenError;
use store::ReplayError;

use crate::challenge::{self, ACCEPT_SIGNATURE};
use crate::edge::Scheme;
use crate::problem::Refusal;

/// For so long after a start signatures may have been used before it, with the usual forgiven clock difference.
const AFTER_START: Duration = Duration::from_secs(6);

/// Why nobody is known to be calling.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticateError {
    /// No credential of an accepted scheme.
    #[error("send a credential as `Authorization: Bearer <token>`")]
    Missing,
    /// A credential in a field that its client is not configured for.
    #[error("the client may not send its credential in this field")]
    Field,
    /// A token that is not accepted.
    #[error("{0}")]
    Token(TokenError),
    /// A token that was revoked, or whose subject, client, device, session, issuer or key was.
    #[error("the token is revoked")]
    Revoked,
    /// A token that only the holder of a key may use, without a proof of that.
    #[error("the token is bound to a key, and nothing proves that the sender holds it")]
    Bound,
    /// A token or key that anybody may use, presented as if it were bound.
    #[error("the credential is not bound to a key, so no proof can go with it")]
    Unbound,
    /// A token that is bound to a client certificate, without one.
    #[error("the token is bound to a client certificate, and none was shown")]
    CertificateMissing,
    /// A token that is bound to another client certificate.
    #[error("the token is bound to another client certificate")]
    CertificateMismatch,
    /// The scheme `DPoP` without a proof.
    #[error("there is no DPoP proof")]
    ProofMissing,
    /// A proof that does not fit the request.
    #[error("{0}")]
    Proof(DpopError),
    /// A good proof without a nonce that is accepted now; this is one that is.
    #[error("the proof has no nonce that is accepted now")]
    Nonce(String),
    /// A proof that was used before.
    #[error("the proof has been used before")]
    ProofReplayed,
    /// A request signature that does not fit the request, or its body.
    #[error("{0}")]
    Signature(#[from] SignatureProofError),
    /// A signed request that was sent before.
    #[error("the signed request has been sent before")]
    SignatureReplayed,
    /// A token of an app whose requests are signed, without a signature.
    #[error("requests with this token are signed, and this one is not")]
    SignatureMissing,
    /// A token that goes with another user's token, or with none that is there.
    #[error("the token goes with the app's own user's token, which is absent or another one")]
    UserToken,
    /// Whether a proof was used before cannot be said.
    #[error("{0}")]
    Replay(#[from] ReplayError),
    /// Too many failures from this address.
    #[error("too many failed attempts from this address")]
    TooMany(Duration),
    /// A Vouchgate key that is unknown, revoked or expired: the answer does not say which.
    #[error("the key is not valid")]
    Key,
    /// The issuer's keys are not to be had now.
    #[error("the keys to check this token with are not available now")]
    Unavailable,
    /// What an installation of an app showed with its token does not do: whoever tries with a copy learns not what is missing.
    #[error("{0}")]
    Installation(Box<Self>),
}

impl AuthenticateError {
    /// A stable code for metrics and logs.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "credential_missing",
            Self::Field => "credential_field",
            Self::Token(error) => error.reason(),
            Self::Revoked => "token_revoked",
            Self::Bound => "token_bound",
            Self::Unbound => "token_unbound",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateMismatch => "certificate_mismatch",
            Self::ProofMissing => "proof_missing",
            Self::Proof(error) => error.reason(),
            Self::Nonce(_) => "use_dpop_nonce",
            Self::ProofReplayed => "proof_replayed",
            Self::Signature(error) => error.reason(),
            Self::SignatureReplayed => "signature_replayed",
            Self::SignatureMissing => "signature_missing",
            Self::UserToken => "user_token_mismatch",
            Self::Replay(error) => error.reason(),
            Self::TooMany(_) => "too_many_failures",
            Self::Key => "key_invalid",
            Self::Unavailable => "keys_unavailable",
            Self::Installation(error) => error.reason(),
        }
    }

    /// The same of the token of an installation. What it needs to try again is no secret: a nonce, or when.
    pub(crate) fn of_installation(self) -> Self {
        match self {
            Self::Revoked
            | Self::Bound
            | Self::CertificateMissing
            | Self::CertificateMismatch
            | Self::ProofMissing
            | Self::Proof(_)
            | Self::ProofReplayed
            | Self::SignatureReplayed
            | Self::SignatureMissing
            | Self::UserToken => Self::Installation(Box::new(self)),
            Self::Signature(error) if error != SignatureProofError::BeforeStart => Self::Installation(Box::new(self)),
            other => other,
        }
    }

    /// The kind of proof that failed, where one did.
    pub(crate) fn proof(&self) -> Option<&'static str> {
        match self {
            Self::ProofMissing | Self::Proof(_) | Self::Nonce(_) | Self::ProofReplayed => Some("dpop"),
            Self::CertificateMissing | Self::CertificateMismatch => Some("mtls"),
            Self::Signature(_) | Self::SignatureReplayed | Self::SignatureMissing => Some("signature"),
            Self::Installation(error) => error.proof(),
            _ => None,
        }
    }

    /// The answer (RFC 6750 section 3.1, RFC 9449 section 7.1), for a credential presented as `scheme`.
    pub(crate) fn refusal(&self, scheme: Scheme) -> Refusal {
        let refusal = Refusal::from(self.problem(scheme)).reason(self.reason());
        match self {
            Self::Nonce(nonce) => match HeaderValue::from_str(nonce) {
                Ok(nonce) => refusal.header(HeaderName::from_static("dpop-nonce"), nonce),
                Err(_) => refusal,
            },
            Self::Signature(_) | Self::SignatureReplayed | Self::SignatureMissing | Self::Installation(_) => {
                let accept = HeaderValue::from_static(ACCEPT_SIGNATURE);
                refusal.header(HeaderName::from_static("accept-signature"), accept)
            }
            _ => refusal,
        }
    }

    /// With a fixed vocabulary: what was sent is never repeated.
    fn problem(&self, scheme: Scheme) -> Problem {
        let unauthorized = |scheme, code, description: &str| {
            Problem::client(StatusCode::UNAUTHORIZED, code, format!("{description}.")).challenge(challenge::error(
                scheme,
                code,
                Some(description),
            ))
        };
        let invalid = |description: &str| unauthorized(scheme, "invalid_token", description);
        match self {
            Self::Missing => Problem::client(
                StatusCode::UNAUTHORIZED,
                "credential_missing",
                "Send a token or Vouchgate key as `Authorization: Bearer <token>`.",
            )
            .challenge(challenge::plain(Scheme::Bearer))
            .challenge(challenge::plain(Scheme::Dpop)),
            Self::Field => Problem::client(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "Send the credential as `Authorization: Bearer <token>`, `x-api-key` or `x-goog-api-key`.",
            ),
            Self::Token(error) => invalid(error.description()),
            Self::Revoked => invalid("The access token is revoked"),
            Self::Installation(_) => invalid("The access token, or what has to come with it, is not accepted"),
            Self::Bound => {
                let description = "The access token is bound to a key and cannot be used as a bearer token";
                unauthorized(Scheme::Dpop, "invalid_token", description)
            }
            Self::Unbound => invalid("The credential is not bound to a key: send it as a bearer token"),
            Self::CertificateMissing | Self::CertificateMismatch => {
                invalid("The access token is bound to a client certificate that was not shown")
            }
            Self::Proof(error) if error.error_code() == "invalid_token" => {
                invalid("The access token is bound to another key")
            }
            Self::ProofMissing | Self::Proof(_) | Self::ProofReplayed => unauthorized(
                Scheme::Dpop,
                "invalid_dpop_proof",
                &format!("The DPoP proof is refused: {}", self.reason()),
            ),
            Self::Nonce(_) => {
                let description = "The DPoP proof must carry the nonce in DPoP-Nonce";
                Problem::client(StatusCode::UNAUTHORIZED, "use_dpop_nonce", format!("{description}."))
                    .challenge(challenge::error(Scheme::Dpop, "use_dpop_nonce", Some(description)))
            }
            Self::SignatureMissing => invalid("Requests with this access token have to be signed"),
            Self::UserToken => invalid("The access token goes with another user's token"),
            Self::Signature(_) | Self::SignatureReplayed => {
                // RFC 9421 has no error code; the token is what cannot be used like this.
                let description = format!("The request signature is refused: {}", self.reason());
                let problem = Problem::client(StatusCode::UNAUTHORIZED, "invalid_signature", format!("{description}."))
                    .challenge(challenge::error(scheme, "invalid_token", Some(&description)));
                match self {
                    // Nothing is wrong with the client: it signs again when nobody could have seen such a signature before.
                    Self::Signature(SignatureProofError::BeforeStart) => problem.retry_after(AFTER_START),
                    _ => problem,
                }
            }
            Self::Replay(error) => {
                Problem::us(StatusCode::SERVICE_UNAVAILABLE, error.reason(), "Proofs cannot be checked now.")
                    .retry_after(Duration::from_secs(5))
            }
            Self::TooMany(wait) => Problem::client(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "Too many failed attempts from this address.",
            )
            .retry_after(*wait),
            Self::Key => invalid("The key is unknown, expired or revoked"),
            Self::Unavailable => Problem::us(
                StatusCode::SERVICE_UNAVAILABLE,
                "keys_unavailable",
                "The keys to check this token with are not available now.",
            )
            .retry_after(Duration::from_secs(30)),
        }
    }
}

//! What shows that this app runs on this device: App Attest, Android Key Attestation, a browser's proof of work.
//!
//! The platform's own interfaces are called by the app (Swift, Kotlin); here is what they are asked for.

use std::sync::Arc;

use serde_json::Value;

use crate::signer::{KeyError, PublicJwk, Signer};

/// The kinds of devices, as the server names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// iOS, iPadOS and macOS.
    Ios,
    /// Android.
    Android,
    /// A browser, or a program without hardware that vouches for it.
    Web,
}

impl Platform {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ios => "ios",
            Self::Android => "android",
            Self::Web => "web",
        }
    }
}

/// Why a device gave no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttestError {
    /// The device has no such thing: an App Clip, an extension, an emulator.
    #[error("the device cannot attest")]
    Unsupported,
    /// The platform refused or did not answer (App Attest asks Apple). To be tried again later, each time after longer.
    #[error("the platform gave no evidence")]
    Unavailable,
    /// The platform's key is gone: enrolment has to begin again.
    #[error("the platform's key is gone")]
    KeyGone,
    /// The server asks for evidence that this device does not give.
    #[error("the server takes no evidence of this device")]
    NotAccepted,
    /// The installation's own key did not sign.
    #[error("{0}")]
    Key(#[from] KeyError),
}

impl AttestError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unsupported => "attest_unsupported",
            Self::Unavailable => "attest_unavailable",
            Self::KeyGone => "attest_key_gone",
            Self::NotAccepted => "evidence_not_accepted",
            Self::Key(error) => error.reason(),
        }
    }
}

/// What evidence is made over.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is attested: the platform is given its SHA-256.
    pub client_data: &'a [u8],
    /// The server's answer to the challenge request, for evidence that needs more than a nonce (proof of work).
    pub challenge: &'a Value,
}

/// What is to be shown besides evidence.
#[derive(Debug, Clone, Copy)]
pub struct StepUp<'a> {
    /// What the server can ask for: `turnstile`, `hcaptcha`, `recaptcha`, `webauthn`; one of them will do.
    pub kinds: &'a [String],
    /// The thumbprint of the installation's key, which Turnstile's widget is given as `cData`.
    pub jkt: &'a str,
    /// What a passkey signs: its challenge is the SHA-256 of this.
    pub client_data: &'a [u8],
}

/// What a device gives.
pub struct Attestation {
    /// The `evidence` member: an object with its `type`.
    pub evidence: Value,
    /// The key of the installation. With Android it is the key that is attested, made after the challenge.
    pub signer: Arc<dyn Signer>,
}

/// A device that attests. Calls may take seconds, because some platforms ask their maker; they are made from a thread on
/// which that is no harm.
pub trait Attester: Send + Sync {
    /// Which kind.
    fn platform(&self) -> Platform;

    /// What the app found out about its surroundings (`debugger`, `rooted`, `frida`): names of the server's catalogue.
    /// They can only lower the trust in the installation.
    fn reported(&self) -> Vec<String> {
        Vec::new()
    }

    /// The app's own version, as it says itself.
    fn app_version(&self) -> Option<String> {
        None
    }

    /// A new key for a new installation, where it is made before the challenge (iOS, browsers). `None` where the
    /// evidence is about the key itself and the challenge goes into its making (Android).
    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError>;

    /// Evidence. `key` is what [`Attester::new_key`] gave.
    fn attest(&self, request: &Request<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError>;

    /// Fresh evidence at a refresh, where there is any: the App Attest assertion over `client_data`.
    fn assert(&self, client_data: &[u8]) -> Result<Option<Vec<u8>>, AttestError> {
        let _ = client_data;
        Ok(None)
    }

    /// What a person shows besides: the app has its user solve a puzzle or touch a passkey, and gives the `step_up` member, an
    /// object with its `type`. Work is done without asking. `None` where the user does not want to, or cannot.
    fn step_up(&self, asked: &StepUp<'_>) -> Result<Option<Value>, AttestError> {
        let _ = asked;
        Ok(None)
    }

    /// The key of the installation that was enrolled before, where it can still be used after a restart.
    fn key(&self, public: &PublicJwk) -> Option<Arc<dyn Signer>> {
        let _ = public;
        None
    }
}

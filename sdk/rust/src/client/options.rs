//! What a client is made of, and what it says of itself.

use std::sync::Arc;

use http::HeaderName;

use crate::clock::{Clock, SystemClock};
use crate::http::Deadlines;
use crate::memory::{Memory, Volatile};
use crate::pins::Stale;
use crate::proof::Proof;
use crate::secrets::Curve;
use crate::signer::PublicJwk;

/// What a client is made of, beside the device.
#[derive(Debug)]
pub struct Options {
    /// The gateway's origin, such as `https://ai.example.com`.
    pub gateway: String,
    /// The app's name at the gateway.
    pub app: String,
    /// What goes with each request.
    pub proof: Proof,
    /// The header in which the app sends its own user's token, as the gateway's `user_token` names it: tokens are bound to what
    /// [`Client::set_user_token`](super::Client::set_user_token) gave.
    pub user_token: Option<HeaderName>,
    /// What the keys are on that runtime secrets are sealed to.
    pub secrets: Curve,
    /// Certificates to trust beside those of the web's authorities, in DER.
    pub extra_roots: Vec<Vec<u8>>,
    /// The root keys for what is told over the air; none: nothing is fetched, nothing is pinned.
    pub config_roots: Vec<PublicJwk>,
    /// What becomes of pinned hosts when that has expired.
    pub stale: Stale,
    /// How long to wait.
    pub deadlines: Deadlines,
    /// What outlives the process.
    pub memory: Arc<dyn Memory>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// For this gateway and app, with a signature on each request, no pins, and nothing that outlives the process.
    pub fn new(gateway: &str, app: &str) -> Self {
        Self {
            gateway: gateway.to_owned(),
            app: app.to_owned(),
            proof: Proof::default(),
            user_token: None,
            secrets: Curve::default(),
            extra_roots: Vec::new(),
            config_roots: Vec::new(),
            stale: Stale::default(),
            deadlines: Deadlines::default(),
            memory: Arc::new(Volatile::default()),
            clock: Arc::new(SystemClock),
        }
    }
}

/// What an installation has: for an app's screen of support.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Its id: the subject of its tokens.
    pub instance: String,
    /// The code of its last token, for support.
    pub arc: String,
    /// When the token ends, by this device's clock in seconds since the epoch.
    pub token_ends: i64,
    /// What was shown besides evidence to get it, where something was: `altcha`, `turnstile`, `webauthn`.
    pub stepped_up: Option<String>,
}

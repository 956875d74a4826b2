//! What an app links to call AI APIs through Vouchgate without a key in the app.
//!
//! A [`Client`] enrols the installation with evidence of its platform, gets short tokens bound to a key in the device's
//! hardware, and signs each request with it. An app only makes its requests:
//!
//! ```no_run
//! # async fn call(device: std::sync::Arc<dyn vouchgate_client::attester::Attester>) -> Result<(), vouchgate_client::Error> {
//! use vouchgate_client::{Client, Options};
//!
//! let client = Client::new(Options::new("https://ai.example.com", "chat-ios"), device)?;
//! let request = http::Request::post("/v1/chat/completions")
//!     .header("content-type", "application/json")
//!     .body(bytes::Bytes::from_static(br#"{"model":"fast","messages":[{"role":"user","content":"Hello"}]}"#));
//! let mut answer = client.send(request.map_err(|_| vouchgate_client::Error::Internal)?).await?;
//! while let Some(piece) = answer.chunk().await? {
//!     // A piece of the answer, as it comes.
//!     drop(piece);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The hardware stays with the app: a [`signer::Signer`] holds the installation's key, an [`attester::Attester`] asks the
//! platform for evidence. Devices made of software that do both are in `simulator` (a feature), for tests and for
//! trying things out; their evidence counts only where a server is told to trust their roots.

pub mod altcha;
pub mod app_config;
pub mod attester;
mod client;
pub mod clock;
mod error;
mod http;
mod jws;
mod memory;
mod pins;
mod proof;
pub mod secrets;
pub mod signer;
#[cfg(feature = "simulator")]
pub mod simulator;
mod wire;

pub use client::{Client, Installation, Options};
pub use error::{Action, Error, Status};
pub use http::{Answer, Deadlines};
pub use memory::{Memory, Volatile};
pub use pins::{Mismatch, Stale};
pub use proof::Proof;

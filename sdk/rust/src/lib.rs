//! What an app links to call AI APIs through Vouchgate without a key in the app.
//!
//! The hardware stays with the app: a [`signer::Signer`] holds the installation's key, an [`attester::Attester`] asks the
//! platform for evidence. Devices made of software that do both are in `simulator` (a feature), for tests and for
//! trying things out; their evidence counts only where a server is told to trust their roots.

pub mod altcha;
pub mod attester;
pub mod clock;
pub mod signer;
#[cfg(feature = "simulator")]
pub mod simulator;

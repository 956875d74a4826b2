//! Devices made of software, with roots of their own: for tests, and to see the whole flow without a phone.
//!
//! What they say is what real devices say, in the same bytes and signed in the same places; only the root at the end is
//! [`Apple`]'s or [`Google`]'s of this module instead of the makers'. A server believes them only where it is told to trust
//! these roots, which is for development. Each has defects: attempts that must fail, each with the reason a verifier must
//! give for it.

mod android;
mod cbor;
mod certificate;
mod der;
mod ios;
mod receipt;
mod web;

pub use android::{AndroidApp, AndroidDefect, AndroidPhone, Boot, Google, Keybox, Origin, SecurityLevel};
pub use ios::{Apple, Environment, IosVersion, Iphone, IphoneDefect};
pub use web::{Browser, Passkey};

use std::sync::{Mutex, MutexGuard, PoisonError};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// What a thread that panicked left behind is as good as before: every change of these values is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

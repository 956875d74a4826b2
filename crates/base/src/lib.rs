//! Words everyone shares: typed ids, [`Clock`], [`Rng`], [`Secret`], [`Money`], [`Problem`]. No I/O.
//!
//! Everything above this crate takes time from a [`Clock`] and randomness from an [`Rng`] it is handed,
//! so that a test decides both.

mod clock;
mod id;
mod limits;
mod money;
mod problem;
mod rng;
mod secret;
mod table;
mod units;

pub use clock::{Clock, FakeClock, SystemClock, Timestamp};
pub use id::{Name, NameError, RequestId, Tenant};
pub use limits::LimitedBuffer;
pub use money::{Money, MoneyError};
pub use problem::{Problem, Who};
pub use rng::{InBlocks, Rng, SeededRng, SystemRng};
pub use secret::Secret;
pub use table::{Hashing, Table};
pub use units::{ByteSize, Span, UnitError};

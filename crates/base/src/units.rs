//! Durations (`"30s"`) and sizes (`"10MiB"`) as a configuration writes them.

use std::fmt;
use std::time::Duration;

/// A length of time as written in the configuration: a whole number and one of `ms s m h d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

/// A size in bytes as written in the configuration: a whole number and one of `B KiB MiB GiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is not a duration or size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("write a duration as a whole number and ms, s, m, h or d: \"30s\"")]
    Span,
    /// Not a size.
    #[error("write a size as a whole number and B, KiB, MiB or GiB: \"10MiB\"")]
    Size,
}

impl Span {
    /// From a duration (shown in whole milliseconds).
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// From seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl ByteSize {
    /// From bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes, as an index into memory; saturates on 32-bit machines.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// In bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Split `"30s"` into its number and unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit))
}

impl std::str::FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = number_and_unit(text).ok_or(UnitError::Span)?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(UnitError::Span),
        };
        number.checked_mul(millis).map(|ms| Self(Duration::from_millis(ms))).ok_or(UnitError::Span)
    }
}

impl std::str::FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = number_and_unit(text).ok_or(UnitError::Size)?;
        let bytes = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(UnitError::Size),
        };
        number.checked_mul(bytes).map(Self).ok_or(UnitError::Size)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if ms >= size && ms.is_multiple_of(size) {
                return write!(f, "{}{unit}", ms / size);
            }
        }
        write!(f, "{ms}ms")
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}B", self.0)
    }
}

macro_rules! as_text {
    ($($kind:ty),*) => {$(
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(Span, ByteSize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_and_nonsense_is_refused() {
        assert_eq!("30s".parse(), Ok(Span::secs(30)));
        assert_eq!("10MiB".parse(), Ok(ByteSize::bytes(10 << 20)));
        for wrong in ["", "30", "s", "1.5s", "-1s", "30 s", "99999999999999999999s", "9999999999999999999d"] {
            assert_eq!(wrong.parse::<Span>(), Err(UnitError::Span), "{wrong}");
        }
        assert_eq!("10MB".parse::<ByteSize>(), Err(UnitError::Size));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(ms in 0u64..10_000_000_000, bytes in any::<u64>()) {
            let span = Span::new(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
            let size = ByteSize::bytes(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}

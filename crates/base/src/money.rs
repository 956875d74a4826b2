//! Money as integers: nano-USD, never floats.

use std::fmt;

/// An amount of money in nano-USD (1 USD = 1,000,000,000 nano-USD).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i128);

/// Why a text is not an amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not of the form `"0.50 USD"`.
    #[error("write an amount as \"0.50 USD\"")]
    Form,
    /// More than nine decimal places.
    #[error("an amount has at most nine decimal places (nano-USD)")]
    Precision,
    /// Over 10^15 USD.
    #[error("the amount is too large")]
    TooLarge,
}

const NANO: i128 = 1_000_000_000;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From nano-USD.
    pub const fn from_nano_usd(nano: i128) -> Self {
        Self(nano)
    }

    /// In nano-USD.
    pub const fn nano_usd(self) -> i128 {
        self.0
    }

    /// Parse `"0.50 USD"`: digits, an optional fraction of up to nine digits, a space, `USD`. Not negative.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let number = text.strip_suffix(" USD").ok_or(MoneyError::Form)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(MoneyError::Form);
        }
        if fraction.len() > 9 {
            return Err(MoneyError::Precision);
        }
        if whole.len() > 15 {
            return Err(MoneyError::TooLarge);
        }
        let whole: i128 = whole.parse().map_err(|_| MoneyError::Form)?;
        let fraction: i128 = format!("{fraction:0<9}").parse().map_err(|_| MoneyError::Form)?;
        Ok(Self(whole * NANO + fraction))
    }
}

impl std::str::FromStr for Money {
    type Err = MoneyError;
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        Self::parse(text)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nano = self.0.unsigned_abs();
        let fraction = format!("{:09}", nano % NANO.unsigned_abs());
        let fraction = fraction.trim_end_matches('0');
        write!(f, "{sign}{}.{fraction:0<2} USD", nano / NANO.unsigned_abs())
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Money {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!(Money::parse("0.50 USD").map(Money::nano_usd), Ok(500_000_000));
        assert_eq!(Money::parse("200 USD").map(Money::nano_usd), Ok(200 * NANO));
        assert_eq!(Money::parse("0.000000001 USD").map(Money::nano_usd), Ok(1));
        assert_eq!(Money::parse("0.0000000001 USD"), Err(MoneyError::Precision));
        for wrong in ["1", "1 EUR", "-1 USD", "1. USD", ".5 USD", "1e3 USD", "1,0 USD", " 1 USD", "١ USD"] {
            assert_eq!(Money::parse(wrong), Err(MoneyError::Form), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nano in 0i128..1_000_000_000_000_000_000_000) {
            let money = Money::from_nano_usd(nano);
            prop_assert_eq!(Money::parse(&money.to_string()), Ok(money));
        }
    }
}

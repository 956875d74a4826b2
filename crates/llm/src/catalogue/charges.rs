//! What costs by something else than tokens: requests, pictures, minutes of audio, characters to be spoken.

use base::Money;

/// Prices of things that are no tokens; absent: no such price is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charges {
    /// A request, besides everything else.
    pub request: Option<Money>,
    /// A picture of any size and quality that `images` does not name.
    pub image: Option<Money>,
    /// Pictures of one size or quality.
    pub images: Vec<ImageCharge>,
    /// A minute of audio heard.
    pub minute: Option<Money>,
    /// A million characters to be spoken.
    pub characters: Option<Money>,
}

/// What a picture costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCharge {
    /// Of this size, as requests write it; absent: of any.
    pub size: Option<String>,
    /// Of this quality; absent: of any.
    pub quality: Option<String>,
    /// Each.
    pub price: Money,
}

impl Charges {
    /// What a picture costs at most that is asked for in this size and quality. What the request leaves to the provider (or calls `auto`)
    /// may be the dearest.
    pub fn image(&self, size: Option<&str>, quality: Option<&str>) -> Option<Money> {
        let said = |asked: Option<&str>| asked.filter(|asked| *asked != "auto").map(str::to_ascii_lowercase);
        let (size, quality) = (said(size), said(quality));
        let may_be = |named: &Option<String>, asked: &Option<String>| match (named, asked) {
            (Some(named), Some(asked)) => named.eq_ignore_ascii_case(asked),
            _ => true,
        };
        let fits = self.images.iter().filter(|image| may_be(&image.size, &size) && may_be(&image.quality, &quality));
        let exact = size.is_some() && quality.is_some();
        let dearest = fits.map(|image| image.price).max();
        // Whatever is not named costs the general price.
        if exact && dearest.is_some() { dearest } else { dearest.max(self.image) }
    }

    /// What so many characters cost, rounded up to a whole nano-USD.
    pub fn spoken(&self, characters: u64) -> Option<Money> {
        part(self.characters?, characters, 1_000_000)
    }

    /// What so many milliseconds of audio cost, rounded up to a whole nano-USD.
    pub fn heard(&self, millis: u64) -> Option<Money> {
        part(self.minute?, millis, 60_000)
    }
}

fn part(price: Money, count: u64, per: i128) -> Option<Money> {
    let all = price.nano_usd().checked_mul(i128::from(count))?;
    Some(Money::from_nano_usd(all.div_euclid(per) + i128::from(all.rem_euclid(per) != 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Money {
        Money::parse(&format!("{text} USD")).expect("money")
    }

    fn charges() -> Charges {
        let one = |size: Option<&str>, quality: Option<&str>, price: &str| ImageCharge {
            size: size.map(str::to_owned),
            quality: quality.map(str::to_owned),
            price: usd(price),
        };
        Charges {
            image: Some(usd("0.05")),
            images: vec![
                one(Some("1024x1024"), Some("low"), "0.011"),
                one(Some("1024x1024"), Some("high"), "0.167"),
                one(Some("1536x1024"), Some("high"), "0.25"),
            ],
            ..Charges::default()
        }
    }

    #[test]
    fn a_picture_costs_what_is_named_and_otherwise_the_dearest_it_may_be() {
        let charges = charges();
        assert_eq!(charges.image(Some("1024x1024"), Some("low")), Some(usd("0.011")));
        assert_eq!(charges.image(Some("1024x1024"), None), Some(usd("0.167")));
        assert_eq!(charges.image(None, Some("HIGH")), Some(usd("0.25")));
        assert_eq!(charges.image(Some("auto"), Some("auto")), Some(usd("0.25")));
        assert_eq!(charges.image(Some("512x512"), Some("low")), Some(usd("0.05")));
        assert_eq!(Charges::default().image(None, None), None);
    }

    #[test]
    fn minutes_and_characters_are_rounded_up_once() {
        let charges = Charges { minute: Some(usd("0.006")), characters: Some(usd("15")), ..Charges::default() };
        assert_eq!(charges.heard(30_000), Some(usd("0.003")));
        assert_eq!(charges.heard(1).map(Money::nano_usd), Some(100));
        assert_eq!(charges.spoken(1000), Some(usd("0.015")));
        assert!(charges.spoken(u64::MAX).is_some());
    }
}

//! `buckets` of a `[[provider]]`: what of the operator's storage callers may name in requests. The provider reads it with the
//! operator's rights, so nothing else of it can be named.

use std::fmt;
use std::str::FromStr;

use crate::fault::{Code, Faults};
use crate::text::{ValueError, text_value};
use crate::{Provider, ProviderKind};

/// A bucket or a path in one: `gs://bucket`, `gs://bucket/public/`, `s3://bucket/pictures/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(String);

text_value!(
    Bucket,
    "bucket",
    "A bucket, or a path in one with everything below it: `gs://` at Google, `s3://` at AWS.",
    "gs://my-bucket/public"
);

/// Longest address of an object: Google's and AWS's longest names of a bucket and of what is in it.
const LONGEST: usize = 1200;

impl Bucket {
    /// It as text, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `address` is in it. Addresses that two readers could read differently are in none.
    pub fn holds(&self, address: &str) -> bool {
        is_plain(address)
            && address.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn is_googles(&self) -> bool {
        self.0.starts_with("gs://")
    }
}

/// Whether it names one object, and means the same to whoever unescapes, trims or resolves it and to whoever does not.
fn is_plain(address: &str) -> bool {
    let Some((_, path)) = address.split_once("://") else { return false };
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '%' | '?' | '#' | '*' | '"');
    address.len() <= LONGEST
        && !path.contains(odd)
        && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

impl FromStr for Bucket {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |why| ValueError::new(why).hint("for example gs://my-bucket/public or s3://my-bucket");
        let plain = text.strip_suffix('/').unwrap_or(text);
        if !plain.starts_with("gs://") && !plain.starts_with("s3://") {
            return Err(wrong("neither gs:// nor s3://"));
        }
        let name = plain.get(5..).unwrap_or_default().split('/').next().unwrap_or_default();
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || !name.bytes().all(good) {
            return Err(wrong("its bucket is no bucket's name"));
        }
        if !is_plain(plain) {
            return Err(wrong("its path has an empty segment, . or .., or a character that can be read in two ways"));
        }
        Ok(Self(plain.to_owned()))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Provider {
    /// Faults of `buckets`.
    pub(crate) fn buckets_alone(&self, faults: &mut Faults) {
        for (index, bucket) in self.buckets.iter().enumerate() {
            let fits = match self.kind {
                ProviderKind::Vertex | ProviderKind::Gemini => bucket.is_googles(),
                ProviderKind::Bedrock => !bucket.is_googles(),
                // One of these clouds may be behind them.
                ProviderKind::OpenAiCompatible
                | ProviderKind::Portkey
                | ProviderKind::LlmGateway
                | ProviderKind::ApiPark => true,
                _ => false,
            };
            if !fits {
                faults
                    .add(format!("buckets[{index}]"), Code::Conflict, format!("{} reads no such bucket", self.kind))
                    .hint("vertex and gemini read gs://, bedrock reads s3://");
            } else if self.buckets.get(..index).is_some_and(|before| before.contains(bucket)) {
                faults.add(format!("buckets[{index}]"), Code::BadValue, "named twice");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket(text: &str) -> Bucket {
        text.parse().expect("a bucket")
    }

    #[test]
    fn a_bucket_holds_what_is_below_it_and_nothing_that_could_be_read_otherwise() {
        for (allowed, address, holds) in [
            ("gs://b", "gs://b/a.png", true),
            ("gs://b", "gs://b/x/y.png", true),
            ("gs://b/", "gs://b/x", true),
            ("gs://b/x", "gs://b/x/y", true),
            ("gs://b/x/", "gs://b/x", true),
            ("gs://b/x.png", "gs://b/x.png", true),
            ("gs://b", "gs://bb/a.png", false),
            ("gs://b", "gs://b.evil/a.png", false),
            ("gs://b/x", "gs://b/xy/z", false),
            ("gs://b/x", "gs://b/y", false),
            ("gs://b/x", "gs://b/x/../y", false),
            ("gs://b/x", "gs://b/x/./y", false),
            ("gs://b/x", "gs://b/x//y", false),
            ("gs://b/x", "gs://b/x/%2e%2e/y", false),
            ("gs://b/x", "gs://b/x/..\\y", false),
            ("gs://b/x", "gs://b/x/y?alt=media", false),
            ("gs://b/x", "gs://b/x/*", false),
            ("gs://b/x", " gs://b/x/y", false),
            ("gs://b/x", "GS://b/x/y", false),
            ("gs://b/x", "s3://b/x/y", false),
            ("s3://b", "s3://b/a.png", true),
        ] {
            assert_eq!(bucket(allowed).holds(address), holds, "{allowed} {address}");
        }
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        for text in
            ["", "b", "gs:/b", "gs://", "gs:///x", "https://b/x", "gs://B", "gs://b/../c", "gs://b//c", "gs://b/*"]
        {
            assert!(text.parse::<Bucket>().is_err(), "{text}");
        }
        assert_eq!(bucket("gs://my-bucket/a/").as_str(), "gs://my-bucket/a");
    }

    proptest! {
        #[test]
        fn nothing_held_leaves_the_bucket(address in "(gs|s3)://[ab./%\\\\]{0,12}") {
            let allowed = bucket("gs://a/b");
            if allowed.holds(&address) {
                let rest = address.strip_prefix("gs://a/b").expect("below it");
                prop_assert!(rest.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | "..")), "{}", address);
            }
        }
    }
}

//! What a caller's `Cache-Control` asks (RFC 9111 section 5.2.1), as far as it asks for less than it would get.

use std::time::Duration;

use http::header::{self, HeaderMap};

/// A caller's wishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    /// Neither look nor keep.
    pub(crate) no_store: bool,
    /// Do not look; the answer may be kept.
    pub(crate) no_cache: bool,
    /// Nothing older than this.
    pub(crate) max_age: Option<Duration>,
}

impl Directives {
    /// What the header fields ask. An age that cannot be read is none at all.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut wishes = Self::default();
        let fields = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for directive in fields.flat_map(|value| value.split(',')) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => wishes.no_store = true,
                "no-cache" => wishes.no_cache = true,
                "max-age" => {
                    let seconds = value.trim().trim_matches('"');
                    let digits = !seconds.is_empty() && seconds.bytes().all(|b| b.is_ascii_digit());
                    let seconds = if digits { seconds.parse().unwrap_or(u64::MAX) } else { 0 };
                    let age = Duration::from_secs(seconds);
                    wishes.max_age = Some(wishes.max_age.map_or(age, |least| least.min(age)));
                }
                _ => {}
            }
        }
        wishes.no_cache |= wishes.max_age.is_some_and(|age| age.is_zero());
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(values: &[&'static str]) -> Directives {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CACHE_CONTROL, HeaderValue::from_static(value));
        }
        Directives::of(&headers)
    }

    #[test]
    fn wishes_are_read_in_any_case_and_from_any_field() {
        assert_eq!(of(&[]), Directives::default());
        assert!(of(&["No-Store"]).no_store);
        assert!(of(&["private, no-cache "]).no_cache);
        assert_eq!(of(&["max-age=30"]).max_age, Some(Duration::from_secs(30)));
        assert_eq!(of(&["max-age=\"30\"", "MAX-AGE=5"]).max_age, Some(Duration::from_secs(5)));
        assert_eq!(of(&["stale-if-error=60, foo"]), Directives::default());
    }

    #[test]
    fn an_age_of_nothing_or_one_that_cannot_be_read_is_no_answer_from_before() {
        for value in ["max-age=0", "max-age=", "max-age=-1", "max-age=1.5", "max-age"] {
            assert!(of(&[value]).no_cache, "{value}");
        }
        assert_eq!(of(&["max-age=99999999999999999999"]).max_age, Some(Duration::from_secs(u64::MAX)));
    }
}

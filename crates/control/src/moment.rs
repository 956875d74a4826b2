//! A moment as people ask for it: the one way in which `since` and `until` are read.

use base::{Span, Timestamp};

/// What [`moment`] reads, for messages.
pub const MOMENTS: &str =
    "how long ago (24h), a moment as RFC 3339 writes it (2026-11-21T00:00:00Z) or seconds since 1970";

/// How long before `now` (`24h`), a moment as RFC 3339 writes it, or seconds since 1970.
pub fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(Timestamp::from_secs(seconds));
    }
    let ago = || text.parse::<Span>().ok().map(|ago| now.minus(ago.duration()));
    Timestamp::parse_rfc3339(text).or_else(ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_each_way_it_is_written() {
        let now = Timestamp::from_secs(1_790_000_000);
        let hour_ago = Timestamp::from_secs(1_790_000_000 - 3600);
        for text in ["1h", "60m", &hour_ago.rfc3339(), "1789996400"] {
            assert_eq!(moment(text, now), Some(hour_ago), "{text}");
        }
        assert_eq!(moment("2026-11-21T01:00:00+01:00", now), moment("2026-11-21T00:00:00Z", now));
        for text in ["", "soon", "-1h", "2026-11-21", "1h ago", "99999999999999999999"] {
            assert_eq!(moment(text, now), None, "{text}");
        }
    }
}

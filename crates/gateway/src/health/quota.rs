//! When a key may be used again, as its provider tells: `Retry-After` and its kin on a refusal, and the rate-limit fields
//! that come with every answer.

use std::time::Duration;

use base::Timestamp;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;

/// No rest is longer: a field may be wrong, and only asking tells.
const LONGEST: Duration = Duration::from_hours(1);
/// What a key without credit rests: paying for more takes a while.
const WITHOUT_CREDIT: Duration = Duration::from_mins(5);
/// What a key rests that was refused without a word of when.
const UNSAID: Duration = Duration::from_millis(500);

/// What a provider said of its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// This model's quota is used up for so long.
    Rest(Duration),
    /// The key has no credit left: for no model.
    NoCredit(Duration),
}

/// What an answer says of quota, as far as its head and the first piece of its body (of errors only) tell.
pub(crate) fn said(status: StatusCode, headers: &HeaderMap, first: &[u8], now: Timestamp) -> Option<Said> {
    let refused = matches!(status.as_u16(), 429 | 503 | 529);
    let error = if status.is_client_error() || refused { serde_json::from_slice::<Value>(first).ok() } else { None };
    if is_without_credit(status, error.as_ref()) {
        return Some(Said::NoCredit(WITHOUT_CREDIT));
    }
    if refused {
        let said = retry_after(headers, now).or_else(|| error.as_ref().and_then(retry_info));
        let rest =
            said.or_else(|| used_up(headers, now)).or((status == StatusCode::TOO_MANY_REQUESTS).then_some(UNSAID));
        return rest.map(|rest| Said::Rest(rest.min(LONGEST)));
    }
    used_up(headers, now).map(|rest| Said::Rest(rest.min(LONGEST)))
}

/// `OpenAI` answers 429 `insufficient_quota`, `DeepSeek`, `OpenRouter` and others 402.
fn is_without_credit(status: StatusCode, error: Option<&Value>) -> bool {
    let code =
        |name: &str| error.and_then(|error| error.get("error")?.get(name)?.as_str()) == Some("insufficient_quota");
    status == StatusCode::PAYMENT_REQUIRED
        || (status == StatusCode::TOO_MANY_REQUESTS && (code("code") || code("type")))
}

/// `retry-after-ms` (OpenAI, Azure), and `Retry-After` in seconds, also with a fraction, or as a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let millis = text("retry-after-ms").and_then(|text| seconds(text, 0.001)).filter(|wait| !wait.is_zero());
    millis.or_else(|| {
        let text = text("retry-after")?;
        seconds(text, 1.0).or_else(|| Some(Timestamp::parse_http_date(text)?.since(now)))
    })
}

/// `google.rpc.RetryInfo` among the details of an error: `"retryDelay": "34.4s"`.
fn retry_info(error: &Value) -> Option<Duration> {
    // A streamed call's error is the one element of an array.
    let error = error.get(0).unwrap_or(error).get("error")?;
    let details = error.get("details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    seconds(delay.strip_suffix('s')?, 1.0)
}

/// How long until the limits are renewed of which an answer says that nothing remains.
///
/// `OpenAI`, Azure, Groq and others: `x-ratelimit-remaining-requests`, `-reset-requests` (`6m0s`), the same for tokens.
/// Anthropic: `anthropic-ratelimit-requests-remaining`, `-reset` (RFC 3339). Others: `x-ratelimit-remaining` and
/// `x-ratelimit-reset`, or `ratelimit-remaining` and `ratelimit-reset`.
fn used_up(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    static PAIRS: [(HeaderName, HeaderName); 9] = [
        (
            HeaderName::from_static("x-ratelimit-remaining-requests"),
            HeaderName::from_static("x-ratelimit-reset-requests"),
        ),
        (HeaderName::from_static("x-ratelimit-remaining-tokens"), HeaderName::from_static("x-ratelimit-reset-tokens")),
        (
            HeaderName::from_static("x-ratelimit-remaining-tokens_usage_based"),
            HeaderName::from_static("x-ratelimit-reset-tokens_usage_based"),
        ),
        (
            HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
            HeaderName::from_static("anthropic-ratelimit-requests-reset"),
        ),
        (
            HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
            HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
        ),
        (
            HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
            HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
        ),
        (
            HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
            HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
        ),
        (HeaderName::from_static("x-ratelimit-remaining"), HeaderName::from_static("x-ratelimit-reset")),
        (HeaderName::from_static("ratelimit-remaining"), HeaderName::from_static("ratelimit-reset")),
    ];
    // Most providers say nothing of it, and then nothing is looked for.
    if !headers.keys().any(|name| name.as_str().contains("ratelimit-")) {
        return None;
    }
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let rests = PAIRS.iter().filter_map(|(remaining, reset)| {
        let spent = text(remaining).is_some_and(|text| text == "0" || text.starts_with('-'));
        if spent { until(text(reset)?, now) } else { None }
    });
    rests.max().filter(|rest| !rest.is_zero())
}

/// A moment or a duration, in any of the ways providers write it.
fn until(text: &str, now: Timestamp) -> Option<Duration> {
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Some(at.since(now));
    }
    match text.parse::<u64>() {
        // Milliseconds and seconds since 1970 are larger than any wait.
        Ok(millis @ 1_000_000_000_000..) => Some(Timestamp::from_millis(i64::try_from(millis).ok()?).since(now)),
        Ok(secs @ 1_000_000_000..) => Some(Timestamp::from_secs(i64::try_from(secs).ok()?).since(now)),
        Ok(secs) => Some(Duration::from_secs(secs)),
        Err(_) => span(text),
    }
}

/// `1h2m3.5s`, `6m0s`, `120ms`, `7.66`.
fn span(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(unit)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let factor = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" | "" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum = sum.checked_add(seconds(number, factor)?)?;
        rest = after;
    }
    Some(sum)
}

/// A decimal number of units of so many seconds.
fn seconds(text: &str, unit: f64) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(text.parse::<f64>().ok()? * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    const NOW: i64 = 1_795_000_000;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("value"))
        };
        fields.iter().map(field).collect()
    }

    fn of(status: u16, fields: &[(&'static str, &str)], body: &str) -> Option<Said> {
        let status = StatusCode::from_u16(status).expect("status");
        said(status, &headers(fields), body.as_bytes(), Timestamp::from_secs(NOW))
    }

    #[allow(clippy::unnecessary_wraps)] // as it is compared
    fn rest(millis: u64) -> Option<Said> {
        Some(Said::Rest(Duration::from_millis(millis)))
    }

    #[test]
    fn a_refusal_says_when_in_every_way_providers_have() {
        assert_eq!(of(429, &[("retry-after", "15")], ""), rest(15_000));
        assert_eq!(of(429, &[("retry-after", "1.5")], ""), rest(1_500));
        assert_eq!(of(429, &[("retry-after", "1"), ("retry-after-ms", "250")], ""), rest(250));
        assert_eq!(of(429, &[("retry-after", "1"), ("retry-after-ms", "0")], ""), rest(1_000), "as Azure writes it");
        // 1 795 000 000 is Wed, 18 Nov 2026 11:06:40 GMT.
        assert_eq!(of(503, &[("retry-after", "Wed, 18 Nov 2026 11:07:10 GMT")], ""), rest(30_000));
        assert_eq!(of(529, &[("retry-after", "2")], ""), rest(2_000));
        let google = r#"{"error":{"code":429,"details":[{"violations":[]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.4s"}]}}"#;
        assert_eq!(of(429, &[], google), rest(34_400));
        assert_eq!(of(429, &[], &format!("[{google}]")), rest(34_400));
        assert_eq!(of(429, &[], "<html>"), rest(500), "nothing is said");
        assert_eq!(of(503, &[], ""), None);
        assert_eq!(of(429, &[("retry-after", "99999999")], ""), rest(3_600_000), "no longer than an hour");
    }

    #[test]
    fn an_answer_that_used_the_last_of_a_quota_says_when_there_is_more() {
        assert_eq!(
            of(200, &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")], ""),
            rest(360_000)
        );
        assert_eq!(
            of(200, &[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "120ms")], ""),
            rest(120)
        );
        assert_eq!(
            of(200, &[("x-ratelimit-remaining-requests", "1"), ("x-ratelimit-reset-requests", "6m0s")], ""),
            None
        );
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "12"),
            ("anthropic-ratelimit-requests-reset", "2026-11-18T12:00:00Z"),
            ("anthropic-ratelimit-output-tokens-remaining", "0"),
            ("anthropic-ratelimit-output-tokens-reset", "2026-11-18T11:06:45Z"),
        ];
        assert_eq!(of(200, &anthropic, ""), rest(5_000));
        for reset in ["20", "1795000020", "1795000020000", "20s"] {
            assert_eq!(
                of(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)], ""),
                rest(20_000),
                "{reset}"
            );
        }
        assert_eq!(of(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")], ""), None);
        assert_eq!(of(200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1000")], ""), rest(1_000_000));
    }

    #[test]
    fn a_key_without_credit_is_told_from_one_that_is_too_quick() {
        let openai = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        assert_eq!(of(429, &[("retry-after", "1")], openai), Some(Said::NoCredit(WITHOUT_CREDIT)));
        assert_eq!(of(402, &[], ""), Some(Said::NoCredit(WITHOUT_CREDIT)));
        assert_eq!(of(400, &[], openai), None);
    }

    proptest! {
        #[test]
        fn no_field_makes_it_panic_or_rest_for_longer_than_an_hour(
            status in 200u16..600, name in "retry-after|retry-after-ms|x-ratelimit-reset|anthropic-ratelimit-tokens-reset",
            value in "[ -~]{0,30}", body in "\\PC{0,60}",
        ) {
            let mut fields = headers(&[("x-ratelimit-remaining", "0"), ("anthropic-ratelimit-tokens-remaining", "0")]);
            fields.insert(HeaderName::try_from(name).expect("name"), HeaderValue::try_from(value).expect("value"));
            let status = StatusCode::from_u16(status).expect("status");
            if let Some(Said::Rest(rest)) = said(status, &fields, body.as_bytes(), Timestamp::from_secs(NOW)) {
                prop_assert!(rest <= LONGEST);
            }
        }
    }
}

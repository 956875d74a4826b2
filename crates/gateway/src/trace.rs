//! W3C Trace Context in, one event per request out. The event (target [`TARGET`], level debug) has `OpenTelemetry`'s `GenAI`
//! names, so that whoever exports spans makes one of it; nothing of a trace is sent to providers.

use http::{HeaderMap, HeaderName};

/// The target of the event that is a finished request's span.
pub const TARGET: &str = "vouchgate::span";

/// Where a request belongs in its client's trace (W3C Trace Context, `traceparent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceParent {
    text: [u8; 55],
}

impl TraceParent {
    /// Read the request's `traceparent`; anything malformed is as good as none.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        const FIELD: HeaderName = HeaderName::from_static("traceparent");
        let mut values = headers.get_all(FIELD).iter();
        let value = values.next()?.as_bytes();
        if values.next().is_some() {
            return None;
        }
        let text: [u8; 55] = value.get(..55)?.try_into().ok()?;
        let (version, tail) = (text.get(..2)?, value.get(55..)?);
        // A later version may be longer, but only after another dash.
        let length_fits = tail.is_empty() || (version != b"00" && tail.starts_with(b"-"));
        let digits = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let some = |part: &[u8]| part.iter().any(|b| *b != b'0');
        let (trace, parent, flags) = (text.get(3..35)?, text.get(36..52)?, text.get(53..55)?);
        let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
        let valid = length_fits
            && dashes
            && version != b"ff"
            && [version, trace, parent, flags].into_iter().all(digits)
            && some(trace)
            && some(parent);
        valid.then_some(Self { text })
    }

    /// The trace's id, 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> &str {
        self.part(3, 35)
    }

    /// The parent span's id, 16 hexadecimal digits.
    pub(crate) fn parent_id(&self) -> &str {
        self.part(36, 52)
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<TraceParent> {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_str(text).expect("value"));
        TraceParent::of(&headers)
    }

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_parent_is_read() {
        let parent = read(GOOD).expect("valid");
        assert_eq!(parent.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.parent_id(), "b7ad6b7169203331");
        assert!(read(&GOOD.replacen("00", "cc", 1)).is_some());
        assert!(read(&(GOOD.replacen("00", "cc", 1) + "-more")).is_some());
    }

    #[test]
    fn a_malformed_parent_is_none() {
        for wrong in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &(GOOD.to_owned() + "-more"),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(text in "[ -~]{0,80}") {
            read(&text);
        }
    }
}

//! Which paths are accepted at all: one spelling per resource, so that no second spelling can dodge a policy.

use std::borrow::Cow;

/// Model ids hold slashes, and SDKs send them raw or as `%2F`: what follows this prefix is one opaque id, never a path.
const MODEL_PREFIX: &str = "/v1/models/";

/// Check a request path. It must already be in the one form that policies are matched against: no empty, `.` or `..`
/// segment, no encoded unreserved character, separator or control, no `;`, `\` or NUL (RFC 3986 section 6.2.2).
pub(crate) fn is_clean(path: &str) -> bool {
    let checked = path.strip_prefix(MODEL_PREFIX).map_or(path, |_| MODEL_PREFIX);
    let Some(rest) = checked.strip_prefix('/') else { return false };
    // What nearly every path is: letters, digits, hyphens and underscores between single slashes.
    let mut before = b'/';
    let plain = rest.bytes().all(|byte| {
        let slash = byte == b'/' && before != b'/';
        before = byte;
        slash || byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
    });
    if plain {
        return true;
    }
    let last = rest.split('/').count();
    let named = names_model(rest);
    rest.split('/')
        .enumerate()
        .all(|(at, segment)| (named && at == 3 && is_arn(segment)) || segment_is_clean(segment, at + 1 == last))
}

/// Whether the fourth segment names a model at a provider: `providers/NAME/model/MODEL/..`.
fn names_model(rest: &str) -> bool {
    let mut segments = rest.split('/');
    segments.next() == Some("providers") && segments.nth(1) == Some("model")
}

/// An ARN as AWS's SDKs send it where a model is named, `/model/arn%3Aaws%3A..%3Ainference-profile%2Fx/..`: the one name that
/// holds slashes. Between them nothing is empty and nothing leads upwards.
fn is_arn(segment: &str) -> bool {
    let begins = |prefix: &str| segment.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if !begins("arn%3Aaws") && !begins("arn:aws") {
        return false;
    }
    let pieces = segment.split("%2F").flat_map(|piece| piece.split("%2f"));
    pieces.into_iter().all(|piece| segment_is_clean(piece, false))
}

/// One path segment; only the last may be empty (a trailing slash).
fn segment_is_clean(segment: &str, last: bool) -> bool {
    if segment.is_empty() {
        return last;
    }
    if matches!(segment, "." | "..") {
        return false;
    }
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (Some(high), Some(low)) = (bytes.next().and_then(hex), bytes.next().and_then(hex)) else {
                    return false;
                };
                if !may_be_encoded(high << 4 | low) {
                    return false;
                }
            }
            0..=0x20 | 0x7f.. => return false,
            other if br#";\"<>^`{|}"#.contains(&other) => return false,
            _ => {}
        }
    }
    true
}

/// Whether a percent-encoded byte is one that has to be encoded and means nothing to a path matcher.
fn may_be_encoded(byte: u8) -> bool {
    let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let separator = b"/\\;%?#".contains(&byte);
    !unreserved && !separator && byte >= 0x20 && byte != 0x7f
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The model id of `/v1/models/{id}`, decoded once. `None` if it is empty or not UTF-8.
pub(crate) fn model_id(path: &str) -> Option<Cow<'_, str>> {
    let encoded = path.strip_prefix(MODEL_PREFIX)?;
    let id = percent_encoding::percent_decode_str(encoded).decode_utf8().ok()?;
    (!id.is_empty()).then_some(id)
}

/// Whether the query names `parameter` (compared after decoding, as any server behind would).
pub(crate) fn query_names(query: Option<&str>, parameter: &str) -> bool {
    query.is_some_and(|query| url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == parameter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_paths_are_clean() {
        for path in [
            "/",
            "/v1/chat/completions",
            "/maps/",
            "/a/b%20c",
            "/files/file-abc_1.2~x",
            "/v1beta/models/m:embed",
            "/providers/b/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A000000000000%3Ainference-profile%2Fus.x-v1%3A0/converse",
        ] {
            assert!(is_clean(path), "{path}");
        }
    }

    #[test]
    fn a_second_spelling_of_a_path_is_refused() {
        let tricks = [
            "",
            "v1",
            "//v1/x",
            "/v1//x",
            "/v1/./x",
            "/v1/../x",
            "/v1/..",
            "/v1/%2e%2e/x",
            "/v1/%2E/x",
            "/v1%2fx",
            "/v1%2Fx",
            "/v1/x;a=b",
            "/v1/x%3b",
            "/v1\\x",
            "/v1%5cx",
            "/v1/x%00",
            "/v1/x\0",
            "/v1/%63hat",
            "/v1/x%",
            "/v1/x%2",
            "/v1/x%zz",
            "/v1/%252e",
            "/v1/x%3fa",
            "/v1/x%23",
            "/v1/x y",
            "/v1/\u{e9}",
            "/providers/b/model/x%2Fy/converse",
            "/providers/b/model/arn%3Aaws%3Abedrock%2F..%2Fx/converse",
            "/providers/b/model/arn%3Aaws%3Abedrock%2F%2Fx/converse",
            "/providers/b/model/arn%3Aaws%3Abedrock%2F/converse",
            "/providers/b/model/arn%3Aaws%3Abedrock%2F%2e%2e/converse",
            "/providers/b/model/arn%3Aaws%3Abedrock%252Fx/converse",
            "/providers/b/other/arn%3Aaws%3Abedrock%2Fx/converse",
            "/maps/b/model/arn%3Aaws%3Abedrock%2Fx/converse",
            "/providers/b/model/x/arn%3Aaws%3Abedrock%2Fx",
        ];
        for path in tricks {
            assert!(!is_clean(path), "{path:?}");
        }
    }

    #[test]
    fn a_model_id_may_hold_an_encoded_slash_and_is_decoded_once() {
        assert!(is_clean("/v1/models/vouchgate%2Fecho"));
        assert_eq!(model_id("/v1/models/vouchgate%2Fecho").as_deref(), Some("vouchgate/echo"));
        assert_eq!(model_id("/v1/models/vouchgate/echo").as_deref(), Some("vouchgate/echo"));
        assert_eq!(model_id("/v1/models/%252e").as_deref(), Some("%2e"));
        assert_eq!(model_id("/v1/models/"), None);
        assert_eq!(model_id("/v1/models/%ff"), None);
    }

    #[test]
    fn a_query_parameter_is_found_however_it_is_spelt() {
        assert!(query_names(Some("a=1&access%5Ftoken=x"), "access_token"));
        assert!(query_names(Some("access_token"), "access_token"));
        assert!(!query_names(Some("a=access_token"), "access_token"));
        assert!(!query_names(None, "access_token"));
    }

    proptest! {
        #[test]
        fn a_clean_path_survives_url_normalisation_unchanged(path in "/[a-z0-9._~%/;:\\\\-]{0,40}") {
            if is_clean(&path) && !path.starts_with(MODEL_PREFIX) {
                let url = url::Url::parse(&format!("http://host{path}")).expect("a clean path makes a URL");
                prop_assert_eq!(url.path(), path.as_str());
            }
        }

        #[test]
        fn any_text_is_judged_without_panic(path in any::<String>()) {
            let _ = (is_clean(&path), model_id(&path), query_names(Some(&path), "access_token"));
        }
    }
}

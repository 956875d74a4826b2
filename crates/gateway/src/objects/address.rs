//! Addresses that a provider reads with this gateway's rights, not the caller's: what is in a bucket, and the files that Google
//! keeps. They stand wherever a picture or a file may: a client in another dialect writes `image_url`, and after translation it is
//! Google's `fileUri`.

use serde_json::Value;

use super::google;
use super::references::OF_EVERYBODY;

/// What a name of a member that holds an address ends in, without `_` and in lower case: `image_url`, `gcsUri`, `outputUriPrefix`,
/// `input_audio.data`.
const ADDRESSES: [&str; 6] = ["url", "urls", "uri", "uris", "uriprefix", "data"];
/// Members whose value is a tool's or a note of the caller's: nobody follows an address there.
const WORDS: [&str; 5] = ["args", "arguments", "response", "metadata", "labels"];
/// How much of an address is looked at for whose it is.
const LONGEST_HOST: usize = 64;

/// Whether the member `name` holds an address, or some.
pub(super) fn is_address(name: &str) -> bool {
    let plain = plain(name);
    ADDRESSES.iter().any(|end| plain.ends_with(end))
}

/// Where in a request an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where the provider reads what it leads to.
    Request,
    /// Where the provider writes: no caller may say where in the operator's storage.
    Written,
    /// Where nobody follows it.
    Words,
}

impl Place {
    /// What the member `name`, here, is.
    pub(super) fn below(self, name: &str, value: &Value) -> Self {
        let plain = plain(name);
        let writes = plain.contains("destination")
            || plain.starts_with("storageuri")
            || (plain.contains("output") && plain != "output");
        if self == Self::Words || WORDS.contains(&name) || (name == "input" && value.is_object()) {
            Self::Words
        } else if writes {
            Self::Written
        } else {
            self
        }
    }

    /// What the address `text`, here, has to be looked up as, if it leads into a bucket or to a file of Google's.
    pub(super) fn named(self, text: &str) -> Option<String> {
        match self {
            Self::Request => named(text),
            Self::Written => named(text).map(|_| OF_EVERYBODY.to_owned()),
            Self::Words => None,
        }
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether `text` leads into a bucket.
pub(super) fn is_bucket(text: &str) -> bool {
    ["gs:", "s3:"].iter().any(|scheme| text.get(..3).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme)))
}

/// What of a bucket or of Google's `text` leads to, as it is looked up; `None`: anything else.
fn named(text: &str) -> Option<String> {
    let trimmed = text.trim_start();
    if is_bucket(trimmed) {
        return Some(text.to_owned());
    }
    let host = trimmed.split_once("://").filter(|(scheme, _)| scheme.to_ascii_lowercase().starts_with("http"))?.1;
    let host = host.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    host.contains("generativelanguage").then(|| google::file(trimmed)).flatten()
}

/// Whether there may be such an address in a body: seen without parsing it.
pub(super) fn may_be_in(body: &[u8]) -> bool {
    memchr::memchr_iter(b':', body).any(|at| {
        let Some((before, after)) = body.split_at_checked(at) else { return false };
        // `\/` is a slash too.
        if !matches!(after.get(1), Some(b'/' | b'\\')) {
            return false;
        }
        let begins = |scheme: &[u8]| {
            before
                .len()
                .checked_sub(scheme.len())
                .and_then(|start| before.get(start..))
                .is_some_and(|b| b.eq_ignore_ascii_case(scheme))
        };
        if begins(b"gs") || begins(b"s3") {
            return true;
        }
        let host = after.get(..LONGEST_HOST.min(after.len())).unwrap_or_default();
        (begins(b"http") || begins(b"https"))
            && host.windows(b"generativelanguage".len()).any(|part| part.eq_ignore_ascii_case(b"generativelanguage"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_known_by_the_name_of_its_member_and_by_its_beginning() {
        for name in
            ["url", "image_url", "fileUri", "gcs_uri", "uris", "output_uri_prefix", "storageUri", "data", "file_data"]
        {
            assert!(is_address(name), "{name}");
        }
        for name in ["text", "content", "curious", "urlish", "name"] {
            assert!(!is_address(name), "{name}");
        }
        for (text, expected) in [
            ("gs://b/a.png", Some("gs://b/a.png")),
            (" gs://b/a.png", Some(" gs://b/a.png")),
            ("GS://b/a", Some("GS://b/a")),
            ("gs:b", Some("gs:b")),
            ("s3://b/a", Some("s3://b/a")),
            ("https://generativelanguage.googleapis.com/v1beta/files/a", Some("files/a")),
            ("HTTPS://GenerativeLanguage.googleapis.com/v1beta/files/a", Some("files/a")),
            ("https://generativelanguage.googleapis.com/else", Some("*")),
            ("https://storage.googleapis.com/public/a.png", None),
            ("https://example.com/generativelanguage/files/a", None),
            ("data:image/png;base64,gs://", None),
            ("settings: gs://b", None),
            ("", None),
        ] {
            assert_eq!(named(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_named_is_seen_before_parsing(start in "( |\\\\n)?(gs|GS|s3|https|HTTP)", rest in "(generativelanguage)?[a-z./]{0,20}") {
            let text = format!("{start}://{rest}");
            if named(&text).is_some() {
                let seen = |text: &str| may_be_in(["{\"url\":\"", text, "\"}"].concat().as_bytes());
                prop_assert!(seen(&text) && seen(&text.replace('/', "\\/")), "{}", text);
            }
        }

        #[test]
        fn any_text_is_judged_without_panic(text in any::<String>()) {
            named(&text);
            is_address(&text);
            may_be_in(text.as_bytes());
        }
    }
}

//! AWS Signature Version 4: a request proves that its sender holds a key, which is not sent itself
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
//!
//! What is signed is what is sent: the method, the path and the query in their bytes, the fields named, and the body. The path
//! is encoded once more, as every service wants it but S3, which wants the hash of the body in a field of its own instead.

use aws_lc_rs::{digest, hmac};
use base::{Secret, Timestamp};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// All but the unreserved characters (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path, whose slashes stay.
const IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// The service that is signed for in its own way.
const S3: &str = "s3";

/// Who signs, for which service in which region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The access key's id, which is no secret.
    pub access_key_id: String,
    /// The region: `us-east-1`.
    pub region: String,
    /// The service's name in signatures: `bedrock`, `s3`.
    pub service: String,
}

impl Signer {
    /// What `request` to `origin` proves with `secret`: its `Authorization`. It gets the date, and is otherwise as it will be
    /// sent. `None`: a value that no header field may hold.
    pub fn sign<B: AsRef<[u8]>>(
        &self,
        secret: &[u8],
        origin: &str,
        request: &mut Request<B>,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let time = compact(now);
        let date = time.get(..8)?;
        request.headers_mut().insert(DATE, HeaderValue::from_str(&time).ok()?);
        let s3 = self.service == S3;
        if s3 {
            let hash = HeaderValue::from_str(&hash(request.body().as_ref())).ok()?;
            request.headers_mut().insert(CONTENT_HASH, hash);
        }
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        let fields = signed(host, request.headers());
        let names = fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
        let canonical = canonical(request, &fields, (&names, !s3));
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hash(canonical.as_bytes()));
        let signature = hex(mac(self.key(secret, date).expose(), text.as_bytes()).as_ref());
        let id = &self.access_key_id;
        let value = format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The key of the day: good for one region and one service.
    fn key(&self, secret: &[u8], date: &str) -> Secret<Vec<u8>> {
        let mut first = Vec::with_capacity(4 + secret.len());
        first.extend_from_slice(b"AWS4");
        first.extend_from_slice(secret);
        let parts = [date, self.region.as_str(), self.service.as_str(), "aws4_request"];
        parts
            .iter()
            .fold(Secret::new(first), |key, part| Secret::new(mac(key.expose(), part.as_bytes()).as_ref().to_vec()))
    }
}

/// `20150830T123600Z`.
fn compact(now: Timestamp) -> String {
    let text = now.rfc3339();
    let seconds = text.split('.').next().unwrap_or_default();
    seconds.chars().filter(|c| !matches!(c, '-' | ':')).chain(['Z']).collect()
}

/// The fields that are signed, by their names: the host, what the body is, and everything of Amazon's.
fn signed(host: &str, headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| {
        // Spaces in a row are one (and none at the ends), as AWS reads them.
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    let mut fields = vec![("host".to_owned(), host.to_owned())];
    for name in headers.keys() {
        if *name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz") {
            let values: Vec<String> = headers.get_all(name).iter().map(text).collect();
            fields.push((name.as_str().to_owned(), values.join(",")));
        }
    }
    fields.sort();
    fields
}

/// The canonical request.
fn canonical<B: AsRef<[u8]>>(
    request: &Request<B>,
    fields: &[(String, String)],
    (names, encoded): (&str, bool),
) -> String {
    let lines: String = fields.iter().flat_map(|(name, value)| [name, ":", value, "\n"]).collect();
    let (uri, query) = (request.uri(), query(request.uri()));
    let path = if encoded { path(uri) } else { uri.path().to_owned() };
    let body = hash(request.body().as_ref());
    format!("{}\n{path}\n{query}\n{lines}\n{names}\n{body}", request.method())
}

fn path(uri: &Uri) -> String {
    utf8_percent_encode(uri.path(), IN_PATH).to_string()
}

fn query(uri: &Uri) -> String {
    let encoded = |text: &str| {
        let bytes: Vec<u8> = percent_decode_str(text).collect();
        percent_encoding::percent_encode(&bytes, RESERVED).to_string()
    };
    let pieces = uri.query().unwrap_or_default().split('&').filter(|piece| !piece.is_empty());
    let mut pairs: Vec<(String, String)> = pieces
        .map(|piece| piece.split_once('=').unwrap_or((piece, "")))
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn mac(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2015-08-30T12:36:00Z, the moment of AWS's examples.
    const THEN: i64 = 1_440_938_160;
    /// The key of AWS's examples.
    const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn request(
        method: &str,
        uri: &str,
        fields: &[(&'static str, &str)],
        body: &'static [u8],
    ) -> Request<&'static [u8]> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(body).expect("a request")
    }

    fn sign(service: &str, host: &str, request: &mut Request<&[u8]>) -> String {
        let (access_key_id, region) = ("AKIDEXAMPLE".to_owned(), "us-east-1".to_owned());
        let signer = Signer { access_key_id, region, service: service.to_owned() };
        let origin = format!("https://{host}");
        let value = signer.sign(SECRET, &origin, request, Timestamp::from_secs(THEN)).expect("signed");
        assert!(value.is_sensitive());
        value.to_str().expect("text").to_owned()
    }

    #[test]
    fn requests_are_signed_as_in_awss_examples() {
        const HOST: &str = "example.amazonaws.com";
        let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        for (service, host, mut asked, names, signature) in [
            (
                "service",
                HOST,
                request("GET", "/", &[], b""),
                "host;x-amz-date",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "service",
                HOST,
                request("POST", "/", &[], b""),
                "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "service",
                HOST,
                request("GET", "/?Param2=value2&Param1=value1", &[], b""),
                "host;x-amz-date",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "service",
                HOST,
                request("GET", "/?Param1=value2&Param1=Value1", &[], b""),
                "host;x-amz-date",
                "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
            ),
            (
                "iam",
                "iam.amazonaws.com",
                request("GET", "/?Action=ListUsers&Version=2010-05-08", &form, b""),
                "content-type;host;x-amz-date",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ] {
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, SignedHeaders={names}, Signature={signature}"
            );
            assert_eq!(sign(service, host, &mut asked), expected, "{}", asked.uri());
        }
    }

    /// The examples of <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.
    #[test]
    fn requests_to_s3_are_signed_as_in_its_examples() {
        const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (uri, signature) in [
            ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
            ("/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
        ] {
            let mut get = request("GET", uri, &[], b"");
            let (access_key_id, region) = ("AKIAIOSFODNN7EXAMPLE".to_owned(), "us-east-1".to_owned());
            let signer = Signer { access_key_id, region, service: "s3".to_owned() };
            let (then, origin) = (Timestamp::from_secs(1_369_353_600), "https://examplebucket.s3.amazonaws.com");
            let told = signer.sign(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", origin, &mut get, then);
            let told = told.expect("signed").to_str().expect("text").to_owned();
            assert_eq!(get.headers()["x-amz-content-sha256"], EMPTY);
            let names = "SignedHeaders=host;x-amz-content-sha256;x-amz-date";
            assert!(told.ends_with(&format!("{names}, Signature={signature}")), "{uri}: {told}");
        }
    }

    /// Signatures that AWS's own SDK for Python makes of the same requests.
    #[test]
    fn a_models_id_is_signed_as_it_stands_in_the_path_and_everything_of_amazons_with_it() {
        const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";
        let json = ("content-type", "application/json");
        let path = "/model/us.anthropic.claude-3-7-sonnet-20250219-v1%3A0/converse";
        let mut plain = request("POST", path, &[json], br#"{"messages":[]}"#);
        let told = sign("bedrock", HOST, &mut plain);
        assert!(told.ends_with("SignedHeaders=content-type;host;x-amz-date, Signature=0731241cbb64ecc4dc2e27b2169397f5609ffc2540ed1eaf30db55c4b92c2746"), "{told}");
        assert_eq!(plain.headers()["x-amz-date"], "20150830T123600Z");
        let path = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A000000000000%3Ainference-profile%2Fus.anthropic.claude-3-7-sonnet-20250219-v1%3A0/converse-stream";
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI";
        let fields = [
            json,
            ("x-amzn-bedrock-trace", "ENABLED"),
            ("x-amz-security-token", token),
            ("accept", "*/*"),
            ("user-agent", "x"),
        ];
        let mut temporary = request("POST", path, &fields, br#"{"messages":[]}"#);
        let told = sign("bedrock", HOST, &mut temporary);
        assert!(told.ends_with("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amzn-bedrock-trace, Signature=5df3aea4c12988bed619887b5166abbaffd5044b5259ec6e097f13a9a0190c24"), "{told}");
    }

    proptest! {
        #[test]
        fn any_change_of_what_is_sent_changes_the_signature(
            path in "/[a-z0-9%.~:-]{1,20}", query in "[a-z]{1,5}=[a-z0-9]{0,5}", value in "[a-z]{1,9}", body in "[ -~]{0,30}",
        ) {
            let sign = |method: &str, path: &str, query: &str, value: &str, body: &str| {
                let mut request = Request::builder()
                    .method(method)
                    .uri(format!("{path}?{query}"))
                    .header("x-amzn-bedrock-trace", value)
                    .body(body.as_bytes().to_vec())
                    .expect("a request");
                let signer = Signer { access_key_id: "A".to_owned(), region: "r".to_owned(), service: "s".to_owned() };
                signer.sign(SECRET, "https://h", &mut request, Timestamp::from_secs(THEN)).expect("signed")
            };
            let signed = sign("POST", &path, &query, &value, &body);
            prop_assert_eq!(&signed, &sign("POST", &path, &query, &value, &body));
            prop_assert_ne!(&signed, &sign("PUT", &path, &query, &value, &body));
            prop_assert_ne!(&signed, &sign("POST", &format!("{path}x"), &query, &value, &body));
            prop_assert_ne!(&signed, &sign("POST", &path, &format!("{query}x"), &value, &body));
            prop_assert_ne!(&signed, &sign("POST", &path, &query, &format!("{value}x"), &body));
            prop_assert_ne!(&signed, &sign("POST", &path, &query, &value, &format!("{body}x")));
        }

        #[test]
        fn the_order_of_parameters_does_not_matter(pairs in proptest::collection::vec("[a-c]{1,2}=[a-c%20]{0,2}", 1..6)) {
            let of = |pairs: &[String]| query(&Uri::try_from(format!("/?{}", pairs.join("&"))).expect("uri"));
            let mut turned = pairs.clone();
            turned.reverse();
            prop_assert_eq!(of(&pairs), of(&turned));
        }
    }
}

//! A store that speaks as much of S3's API as checkpoints need: objects are put once and read again, by signed requests only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac};

use crate::mock::{Answer, Mock, Received};

/// What its one user signs with.
pub const KEY_ID: &str = "AKIDEXAMPLE";
/// The user's secret: no real one.
pub const SECRET: &str = "not-a-secret-of-any-store";
/// Where it is.
pub const REGION: &str = "eu-central-1";

/// The store; it stops when dropped.
#[derive(Debug)]
pub struct S3 {
    mock: Mock,
    objects: Objects,
}

type Objects = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

impl S3 {
    /// An empty store on a free port.
    pub async fn start() -> Self {
        let objects = Objects::default();
        let kept = Arc::clone(&objects);
        let mock = Mock::start_with(move |request| answer(request, &kept)).await;
        Self { mock, objects }
    }

    /// The URL of a bucket, with a prefix.
    pub fn bucket(&self, path: &str) -> String {
        format!("{}/{path}", self.mock.url())
    }

    /// The server itself: what it was asked, and answers it is to give instead of its own.
    pub fn mock(&self) -> &Mock {
        &self.mock
    }

    /// All objects, by their paths as they were asked for.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.objects.lock().unwrap().clone()
    }

    /// Put something there, by nobody's request.
    pub fn place(&self, path: &str, bytes: &[u8]) {
        self.objects.lock().unwrap().insert(path.to_owned(), bytes.to_vec());
    }
}

fn answer(request: &Received, objects: &Objects) -> Answer {
    let refusal = |status: u16, code: &str| {
        Answer::bytes(status, "application/xml", format!("<Error><Code>{code}</Code></Error>"))
    };
    if let Err(why) = signed(request) {
        return refusal(403, why);
    }
    let (path, mut objects) = (request.path().to_owned(), objects.lock().unwrap());
    match (&*request.method, objects.get(&path)) {
        ("GET", Some(bytes)) => Answer::bytes(200, "text/plain", bytes.clone()),
        ("GET", None) => refusal(404, "NoSuchKey"),
        ("PUT", Some(_)) if request.header("if-none-match") == Some("*") => refusal(412, "PreconditionFailed"),
        ("PUT", _) => {
            objects.insert(path, request.body.clone());
            Answer::bytes(200, "application/xml", "")
        }
        _ => refusal(405, "MethodNotAllowed"),
    }
}

/// Whether the request is signed by the key, as AWS describes it (Signature Version 4, header-based). Written apart from what
/// signs, so that both have to be right.
fn signed(request: &Received) -> Result<(), &'static str> {
    let told = request.header("authorization").ok_or("AccessDenied")?;
    let parts = told.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("AuthorizationHeaderMalformed")?;
    let part = |name: &str| parts.split(", ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let malformed = "AuthorizationHeaderMalformed";
    let credential = part("Credential").ok_or(malformed)?;
    let names = part("SignedHeaders").ok_or(malformed)?;
    let signature = part("Signature").ok_or(malformed)?;
    let date = request.header("x-amz-date").filter(|date| date.len() == 16).ok_or("AccessDenied")?;
    let (day, _) = date.split_at(8);
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    if credential != format!("{KEY_ID}/{scope}") {
        return Err("InvalidAccessKeyId");
    }
    let hash = hex(digest::digest(&digest::SHA256, &request.body).as_ref());
    if request.header("x-amz-content-sha256") != Some(&*hash) {
        return Err("XAmzContentSHA256Mismatch");
    }
    for needed in ["host", "x-amz-content-sha256", "x-amz-date"] {
        if !names.split(';').any(|name| name == needed) {
            return Err("AccessDenied");
        }
    }
    let mut canonical = format!("{}\n{}\n\n", request.method, request.path());
    for name in names.split(';') {
        let value = request.header(name).ok_or("AccessDenied")?;
        canonical.push_str(&format!("{name}:{}\n", value.trim()));
    }
    canonical.push_str(&format!("\n{names}\n{hash}"));
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}");
    let mac =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let first = format!("AWS4{SECRET}").into_bytes();
    let key = [day, REGION, "s3", "aws4_request"].iter().fold(first, |key, part| mac(&key, part));
    if hex(&mac(&key, &text)) == signature { Ok(()) } else { Err("SignatureDoesNotMatch") }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

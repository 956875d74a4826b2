//! Whole sign-ins from outside, with a real provider of the tests: a router, a browser with cookies, and the way to the
//! provider over HTTP.

mod attacks;
mod code;
mod device;
mod parts;
mod provider;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::body::Body;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Method, Request};
use serde_json::Value;
use testkit::keys::b64;
use testkit::op::{Op, encode, parameters};

use self::provider::OverHttp;
use crate::ClientAddress;
use crate::credential::FileHash;
use crate::fixture::{Answer, EXTERNAL, Fixture, NOW, Outside, send};

/// Where the confidential client takes codes.
const WEB: &str = "https://app.example.com/cb";
/// Where the public one does.
const LOOPBACK_URI: &str = "http://127.0.0.1:49152/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const SECRET: &str = "vgs_a-secret-of-the-tests-that-is-long-enough-0";

/// An installation, a provider, and one browser.
struct Flow {
    fixture: Fixture,
    op: Op,
    browser: Visitor,
}

/// A browser: cookies, and where it comes from.
#[derive(Debug, Clone)]
struct Visitor {
    cookies: Arc<Mutex<HashMap<String, String>>>,
    address: IpAddr,
}

impl Flow {
    async fn new() -> Self {
        Self::with(Op::start("ES256").await).await
    }

    async fn with(op: Op) -> Self {
        op.change(|behaviour| behaviour.now = Some(NOW));
        let toml = config(&op.issuer());
        let provider = Arc::new(OverHttp::new(&op));
        let fixture = Fixture::reaching(&toml, Outside { provider, ..Outside::default() }).await;
        Self { fixture, op, browser: Visitor::new() }
    }

    /// A page or redirect of ours, for the browser.
    async fn get(&self, target: &str) -> Answer {
        self.visit(&self.browser, Method::GET, target, &[]).await
    }

    async fn visit(&self, browser: &Visitor, method: Method, target: &str, form: &[(&str, &str)]) -> Answer {
        self.visit_with(browser, (method, target), form, &[]).await
    }

    async fn visit_with(
        &self,
        browser: &Visitor,
        (method, target): (Method, &str),
        form: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let target = target.strip_prefix(EXTERNAL).unwrap_or(target);
        let mut request = Request::builder().method(&method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let cookies = browser.cookies.lock().unwrap().clone();
        if !cookies.is_empty() {
            let pairs: Vec<String> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", pairs.join("; "));
        }
        let body = if method == Method::POST {
            request = request.header("content-type", "application/x-www-form-urlencoded");
            encode(&owned(form))
        } else {
            String::new()
        };
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(ClientAddress(browser.address));
        let answer = send(&self.fixture.public, request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            browser.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    /// Begin at our authorization endpoint, sign in at the provider: the URL the provider sends the browser back to.
    async fn to_callback(&self, request: &[(&str, &str)]) -> String {
        let answer = self.get(&authorize(request)).await;
        let location = location(&answer);
        assert!(location.starts_with(&self.op.issuer()), "{location} {}", answer.text);
        self.op.visit(&location)
    }

    /// The whole way: what the client's URI gets.
    async fn sign_in(&self, request: &[(&str, &str)]) -> String {
        let callback = self.to_callback(request).await;
        location(&self.get(&callback).await)
    }

    /// Redeem a code at the token endpoint as the confidential client.
    async fn redeem(&self, code: &str, more: &[(&str, &str)]) -> Answer {
        let mut form = vec![("grant_type", "authorization_code"), ("code", code)];
        form.extend_from_slice(more);
        self.fixture.ask_token(&encode(&owned(&form)), &[("authorization", &basic())]).await
    }

    /// A form to one of our endpoints for programs.
    async fn post(&self, path: &str, form: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        self.visit_with(&Visitor::new(), (Method::POST, path), form, headers).await
    }
}

impl Visitor {
    fn new() -> Self {
        Self::from("192.0.2.44")
    }

    fn from(address: &str) -> Self {
        Self { cookies: Arc::default(), address: address.parse().unwrap() }
    }
}

/// One configuration for all: a provider, a confidential web client, a public one, one that must push.
fn config(issuer: &str) -> String {
    let hash = FileHash::of(SECRET).unwrap();
    let secret = format!("auth = {{ method = \"client_secret\", hash = \"{hash}\" }}");
    let grants =
        "grants = [\"authorization_code\", \"device_code\", \"refresh_token\"]\nscopes = [\"openid\", \"chat\"]";
    format!(
        r#"
[[issuer]]
name = "corp"
issuer = "{issuer}"
audience = ["{EXTERNAL}"]
discovery = true
allow_private = true

[signin]
issuer = "corp"
client_id = "vouchgate-at-op"
client_secret = {{ env = "SIGNIN_SECRET" }}

[[client]]
name = "web"
{secret}
{grants}
redirect_uris = ["{WEB}"]

[[client]]
name = "many"
{secret}
{grants}
redirect_uris = ["{WEB}?tenant=1", "https://app.example.com/other"]

[[client]]
name = "pushes"
{secret}
{grants}
redirect_uris = ["{WEB}"]
require = ["par"]

[[client]]
name = "tool"
auth = {{ method = "none" }}
{grants}
redirect_uris = ["http://127.0.0.1/callback", "com.example.tool:/cb", "https://tool.example.com/cb"]
require = ["dpop"]

[[client]]
name = "batch"
{secret}
"#
    )
}

/// A request a careful client makes.
const GOOD: [(&str, &str); 8] = [
    ("response_type", "code"),
    ("client_id", "web"),
    ("redirect_uri", WEB),
    ("scope", "openid chat"),
    ("state", "the client's own state"),
    ("nonce", "the client's nonce"),
    ("code_challenge", CHALLENGE),
    ("code_challenge_method", "S256"),
];

/// The good request with these parameters instead; an empty value takes one away.
fn but<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all: Vec<(&str, &str)> = GOOD.to_vec();
    for (name, value) in changes {
        all.retain(|(other, _)| other != name);
        if !value.is_empty() {
            all.push((name, value));
        }
    }
    all
}

fn authorize(request: &[(&str, &str)]) -> String {
    format!("/oauth/authorize?{}", encode(&owned(request)))
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn location(answer: &Answer) -> String {
    assert_eq!(answer.status.as_u16(), 303, "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.header("location").to_owned()
}

/// The parameters a client's URI got.
fn told(location: &str) -> HashMap<String, String> {
    parameters(location.split_once('?').map_or("", |(_, query)| query))
}

fn basic() -> String {
    basic_of("web")
}

fn basic_of(client: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{client}:{SECRET}")))
}

/// The value of a hidden or visible field of a page.
fn field(page: &str, name: &str) -> String {
    let at = page.find(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name} in {page}"));
    let value = page[at..].split("value=\"").nth(1).unwrap();
    value.split('"').next().unwrap().to_owned()
}

/// Whether the answer is a page that says no, and nothing was sent anywhere.
fn is_refusal(answer: &Answer) -> bool {
    answer.status.is_client_error()
        && answer.headers.get("location").is_none()
        && answer.header("content-type").starts_with("text/html")
        && answer.header("content-security-policy").contains("frame-ancestors 'none'")
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

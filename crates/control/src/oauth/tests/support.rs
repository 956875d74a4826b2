//! What the tests of the token service share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Clock, FakeClock, Name, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proof::jose::KeySet;
use proof::token::{CacheLimits, Issuer, IssuerRules, Issuers, StaticKeys, TokenError, VerifiedToken};
use serde_json::{Value, json};
use testkit::dpop::Holder;
use testkit::keys::{TestKey, key_set};

use crate::admin::Pending;
use crate::fixture::{Answer, EXTERNAL, Fixture, NOW, Outside};
use crate::oauth::pending::{AuthorizationCode, Decision, DeviceGrant, SignedIn, new_session};
use crate::oauth::{Document, Documents, FetchError, SubjectTokens};

pub(super) const TOKEN_URL: &str = "https://ai.example.com/oauth/token";
pub(super) const CORP: &str = "https://id.example.com/";
/// RFC 7636 appendix B.
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub(super) const CALLBACK: &str = "https://app.example.com/cb";

/// The error of an answer.
pub(super) fn error(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["error"].as_str().unwrap_or_default().to_owned())
}

pub(super) fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// What a JWT says, unverified.
pub(super) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// An access token of an answer.
pub(super) fn access_token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

/// A refresh token of an answer.
pub(super) fn refresh_token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["refresh_token"].as_str().unwrap().to_owned()
}

/// Percent-encode what would not survive in a form.
pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// Ask for a token with a proof, as a client does: once to be told the nonce, then with it.
pub(super) async fn with_proof(fixture: &Fixture, key: &Holder, body: &str) -> Answer {
    let at = fixture.clock.now().as_secs();
    let first = key.proof("POST", TOKEN_URL, at).sign();
    let challenge = fixture.ask_token(body, &[("dpop", &first)]).await;
    if error_of(&challenge) != "use_dpop_nonce" {
        return challenge;
    }
    let nonce = challenge.header("dpop-nonce").to_owned();
    let second = key.proof("POST", TOKEN_URL, at).nonce(&nonce).sign();
    fixture.ask_token(body, &[("dpop", &second)]).await
}

fn error_of(answer: &Answer) -> String {
    serde_json::from_str::<Value>(&answer.text)
        .ok()
        .and_then(|v| Some(v["error"].as_str()?.to_owned()))
        .unwrap_or_default()
}

/// A nonce for this key.
pub(super) async fn nonce(fixture: &Fixture, key: &Holder) -> String {
    let proof = key.proof("POST", TOKEN_URL, fixture.clock.now().as_secs()).sign();
    fixture.ask_token("client_id=whoever", &[("dpop", &proof)]).await.header("dpop-nonce").to_owned()
}

/// Somebody of the company who has just signed in.
pub(super) fn alice(fixture: &Fixture) -> SignedIn {
    let now = fixture.clock.now();
    SignedIn {
        issuer: Name::new("corp").unwrap(),
        subject: "alice".to_owned(),
        groups: vec!["staff".to_owned()],
        auth_time: now,
        at: now,
        sid: new_session(&base::SystemRng),
        upstream_sid: Some("corp-session".to_owned()),
    }
}

/// An authorization code for `client`, as the browser's side makes one.
pub(super) async fn code(fixture: &Fixture, client: &str, change: impl FnOnce(&mut AuthorizationCode)) -> String {
    let mut body = AuthorizationCode {
        client: Name::new(client).unwrap(),
        redirect_uri: Some(CALLBACK.to_owned()),
        scopes: vec!["openid".to_owned(), "chat".to_owned()],
        code_challenge: CHALLENGE.to_owned(),
        nonce: Some("n-1".to_owned()),
        dpop_jkt: None,
        person: alice(fixture),
    };
    change(&mut body);
    let code = fixture.operations.new_code();
    let ttl = fixture.operations.file().token.code_ttl.duration();
    fixture.operations.grant_put(store::GrantKind::Code, code.expose(), &body, ttl).await.unwrap();
    code.expose().clone()
}

/// A device code for `client`.
pub(super) async fn device_code(fixture: &Fixture, client: &str) -> String {
    let body = DeviceGrant {
        client: Name::new(client).unwrap(),
        scopes: vec!["chat".to_owned()],
        dpop_jkt: None,
        decision: Decision::Waiting,
    };
    let code = fixture.operations.new_code();
    let ttl = fixture.operations.file().token.device_ttl.duration();
    fixture.operations.grant_put(store::GrantKind::Device, code.expose(), &body, ttl).await.unwrap();
    code.expose().clone()
}

/// Decide about a device.
pub(super) async fn decide(fixture: &Fixture, code: &str, decision: Decision) {
    let kind = store::GrantKind::Device;
    let kept = fixture.operations.grant_get::<DeviceGrant>(kind, code).await.unwrap().unwrap();
    let body = DeviceGrant { decision, ..kept.body };
    fixture.operations.grant_replace(kind, (kept.hash, kept.revision), &body).await.unwrap();
}

/// The form that redeems a code.
pub(super) fn redeem(client: &str, code: &str) -> String {
    format!(
        "grant_type=authorization_code&client_id={client}&code={code}&code_verifier={VERIFIER}&redirect_uri={}",
        encode(CALLBACK)
    )
}

/// The company's issuer, whose tokens are verified as the data plane would.
pub(super) struct Corp {
    pub(super) key: TestKey,
    issuers: Issuers,
    clock: FakeClock,
}

impl Corp {
    /// A new one.
    pub(super) fn new() -> Arc<Self> {
        let key = TestKey::generate("ES256").with_kid("corp-1");
        let keys = KeySet::from_published(key_set(&[&key]).to_string().as_bytes()).unwrap();
        let rules = |name: &str, iss: &str| {
            let mut rules = IssuerRules::new(Name::new(name).unwrap(), iss, vec![EXTERNAL.to_owned()]);
            rules.id_tokens = true;
            rules
        };
        let source = Arc::new(StaticKeys::new(keys));
        let issuers = vec![
            Issuer::new(rules("corp", CORP), source.clone()),
            Issuer::new(rules("partner", "https://partner.example/"), source),
        ];
        let issuers = Issuers::new(issuers, CacheLimits::default(), 1).unwrap();
        Arc::new(Self { key, issuers, clock: FakeClock::at(Timestamp::from_secs(NOW)) })
    }

    /// A token with these claims over the usual ones; `null` takes one out.
    pub(super) fn token(&self, change: &Value) -> String {
        let mut claims = json!({
            "iss": CORP, "sub": "alice", "aud": EXTERNAL, "iat": NOW - 10, "exp": NOW + 3600, "jti": "corp-jti",
            "groups": ["staff"], "sid": "corp-session", "device_id": "laptop-7"
        });
        let members = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            members.insert(name.clone(), value.clone());
        }
        members.retain(|_, value| !value.is_null());
        self.key.mint(&claims)
    }

    pub(super) fn outside(self: &Arc<Self>) -> Outside {
        Outside { subject_tokens: Arc::clone(self) as Arc<dyn SubjectTokens>, ..Outside::default() }
    }
}

impl SubjectTokens for Corp {
    fn verify<'a>(&'a self, token: &'a str) -> Pending<'a, Result<Arc<VerifiedToken>, TokenError>> {
        Box::pin(std::future::ready(self.issuers.verify(token, self.clock.now())))
    }
}

/// Documents at places, which can be changed; counts how often they are fetched.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    documents: Mutex<HashMap<String, String>>,
    pub(super) fetched: AtomicUsize,
    /// Whose time passes while one is fetched, and how much.
    pub(super) slow: Mutex<Option<(FakeClock, Duration)>>,
}

impl Shelf {
    pub(super) fn put(&self, url: &str, document: &Value) {
        self.documents.lock().unwrap().insert(url.to_owned(), document.to_string());
    }

    pub(super) fn clear(&self) {
        self.documents.lock().unwrap().clear();
    }
}

impl Documents for Shelf {
    fn get<'a>(&'a self, url: &'a str, _: bool) -> Pending<'a, Result<Document, FetchError>> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        if let Some((clock, time)) = &*self.slow.lock().unwrap() {
            clock.advance(*time);
        }
        let found = self.documents.lock().unwrap().get(url).cloned();
        let found = found.map(|body| Document { body: body.into_bytes(), max_age: None });
        let missing = FetchError { reason: "fetch_status", message: "the server answered 404".to_owned() };
        Box::pin(std::future::ready(found.ok_or(missing)))
    }
}

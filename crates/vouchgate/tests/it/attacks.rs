//! Attacks on tokens, as HTTP requests to the running product (the numbers are those of the threat model's catalogue;
//! the verifier alone is attacked in `crates/proof`).
//!
//! The oracle is always the same ([`World::refused`], [`World::fine`]): the right 4xx with a challenge, the provider
//! sees nothing, nothing is fetched from an address the attacker chose, and the next good token works. `cargo xtask tidy`
//! makes sure that every attack has its test.

mod claims;
mod dpop;
mod forged;
mod form;
mod keysets;
mod mtls;
mod presented;
mod proof_replay;
pub(crate) mod refresh;
mod revoked;
mod signature;

use std::path::PathBuf;
use std::time::Duration;

use base::{Clock, FakeClock, SystemClock};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::idp::Idp;
use testkit::keys::{TestKey, key_set};
use testkit::mock::{Answer as Reply, Mock};

use crate::support::{APP, Answer, Gateway, provider, secret_file};

const AUD: &str = "https://ai.example.com";
const PROVIDER_KEY: &str = "fake-key-of-the-provider";

/// Room for a hundred callers at once from one address, beside those who are still leaving.
const CROWD: &str = "\n[limits]\nconnections_per_address = 300\n";

/// What the two issuers' callers may.
const GUESTS: &str =
    "name = \"guests\"\nwho = { issuer = [\"corp\", \"other\"], scope = [\"chat\"] }\nmay = { models = [\"*\"] }\n";

/// A gateway between two issuers, an attacker's server and a provider.
pub(super) struct World {
    pub(super) gateway: Gateway,
    /// Its configuration.
    pub(super) file: PathBuf,
    pub(super) idp: Idp,
    pub(super) other: Idp,
    pub(super) attacker: Mock,
    pub(super) provider: Mock,
    /// The first issuer's keys.
    pub(super) es: TestKey,
    pub(super) rs: TestKey,
    pub(super) ed: TestKey,
    /// The second issuer's; its key id is that of `es`.
    pub(super) twin: TestKey,
}

/// A provider that answers every chat.
pub(crate) fn chat_answer() -> Reply {
    Reply::json(
        200,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m1",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }),
    )
}

/// A chat request that any policy here may allow.
pub(crate) fn question() -> Value {
    json!({"model": "prov/m1", "messages": [{"role": "user", "content": "hello"}]})
}

impl World {
    pub(super) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more in the policy of the two issuers' callers.
    pub(super) async fn start_with(policy: &str) -> Self {
        Self::start_as(&format!("{GUESTS}{policy}")).await
    }

    /// With this policy for the two issuers' callers, which a good token has to satisfy unless it asks for proofs.
    pub(super) async fn start_as(guests: &str) -> Self {
        Self::start_configured("", guests, "").await
    }

    /// With more keys of `[server]`, this policy, and more sections.
    pub(super) async fn start_configured(server: &str, guests: &str, more: &str) -> Self {
        let (es, rs, ed) = (TestKey::generate("ES256"), TestKey::generate("RS256"), TestKey::generate("EdDSA"));
        let twin = TestKey::generate("ES256").with_kid(&es.kid);
        let idp = Idp::start(&[&es, &rs, &ed]).await;
        let other = Idp::start(&[&twin]).await;
        let lure = key_set(&[&TestKey::generate("ES256")]);
        let attacker = Mock::start_with(move |_| Reply::json(200, &lure)).await;
        let prov = Mock::start_with(|_| chat_answer()).await;
        let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let key = secret_file(dir.path(), "provider.key", PROVIDER_KEY);
        let issuer = |name: &str, idp: &Idp| {
            format!(
                "\n[[issuer]]\nname = \"{name}\"\nissuer = \"{}\"\naudience = [\"{AUD}\"]\njwks_url = \"{}\"\n\
                 allow_private = true\nmax_lifetime = \"1h\"\n",
                idp.issuer(),
                idp.jwks_url()
            )
        };
        let config = format!(
            "{server}\n{APP}{}{}{}\n[[policy]]\n{guests}\n{more}",
            issuer("corp", &idp),
            issuer("other", &other),
            provider("prov", "openai-compatible", &format!("{}/v1", prov.url()), &key),
        );
        let file = dir.path().join("vouchgate.toml");
        let clock = FakeClock::at(SystemClock.now());
        let gateway = Gateway::start_at(dir, &config, clock, Some(file.clone())).await;
        let world = Self { gateway, file, idp, other, attacker, provider: prov, es, rs, ed, twin };
        if !guests.contains("bound") {
            world.fine("at the start").await;
        }
        world
    }

    pub(super) fn now(&self) -> i64 {
        self.gateway.clock.now().as_secs()
    }

    /// Claims that are accepted.
    pub(super) fn claims(&self) -> Value {
        let now = self.now();
        json!({
            "iss": self.idp.issuer(), "sub": "user-1", "aud": AUD, "client_id": "web", "scope": "chat",
            "iat": now, "exp": now + 300, "jti": format!("jti-{now}"),
        })
    }

    /// The same with members changed; `null` removes one.
    pub(super) fn claims_with(&self, changes: &Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    pub(super) fn good(&self) -> String {
        self.es.mint(&self.claims())
    }

    /// The header of a good token, with more in it.
    pub(super) fn header_with(&self, more: &Value) -> Value {
        let mut header = json!({"alg": "ES256", "kid": self.es.kid, "typ": "at+jwt"});
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    }

    /// Ask for a chat with this as bearer token; `None` where no HTTP client could send it.
    pub(super) async fn ask(&self, token: impl AsRef<[u8]>) -> Option<Answer> {
        let value = HeaderValue::from_bytes(&[b"Bearer ", token.as_ref()].concat()).ok()?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.gateway.url("/v1/chat/completions"))
            .header("authorization", value)
            .header("content-type", "application/json");
        Some(self.gateway.send(request.body(Full::new(Bytes::from(question().to_string()))).unwrap()).await)
    }

    /// The token is refused with the right answer, quickly, and the provider hears nothing of it.
    pub(super) async fn refused(&self, what: &str, token: impl AsRef<[u8]>) {
        let before = self.provider.count();
        let began = tokio::time::Instant::now();
        let Some(answer) = self.ask(token.as_ref()).await else { return };
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: took {:?}", began.elapsed());
        let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
        let right = match answer.status.as_u16() {
            401 => challenge.contains("error=\"invalid_token\""),
            400 => challenge.contains("error=\"invalid_request\""),
            431 => true,
            _ => false,
        };
        assert!(right, "{what}: {} {challenge:?} {}", answer.status, answer.text());
        assert_eq!(self.provider.count(), before, "{what}: the provider was asked");
        let token = String::from_utf8_lossy(token.as_ref()).into_owned();
        let said = format!("{challenge}{}", answer.text());
        assert!(token.len() < 20 || !said.contains(&token), "{what}: the token is repeated");
    }

    pub(super) async fn refused_all<T: AsRef<[u8]>>(&self, what: &str, tokens: impl IntoIterator<Item = T>) {
        for (number, token) in tokens.into_iter().enumerate() {
            self.refused(&format!("{what}, number {number}"), token).await;
        }
        self.fine(what).await;
    }

    /// Each of these headers over good claims, truly signed.
    pub(super) async fn refused_headers(&self, what: &str, headers: impl IntoIterator<Item = String>) {
        let claims = self.claims().to_string();
        let tokens: Vec<String> = headers.into_iter().map(|header| self.es.compact(&header, &claims)).collect();
        self.refused_all(what, tokens).await;
    }

    /// Each of these changes to good claims, truly signed.
    pub(super) async fn refused_claims(&self, what: &str, changes: impl IntoIterator<Item = Value>) {
        let tokens: Vec<String> = changes.into_iter().map(|change| self.es.mint(&self.claims_with(&change))).collect();
        self.refused_all(what, tokens).await;
    }

    /// A good token works, and the attacker's server was never spoken to.
    pub(super) async fn fine(&self, when: &str) {
        let before = self.provider.count();
        let answer = self.ask(self.good()).await.unwrap();
        assert_eq!(answer.status, 200, "{when}: {}", answer.text());
        assert_eq!(self.provider.count(), before + 1, "{when}");
        assert_eq!(self.attacker.connections(), 0, "{when}: the attacker's server was contacted");
    }

    /// Change a text of the configuration and put it in force.
    pub(super) async fn reload_with(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(&self.file).unwrap();
        assert!(text.contains(from), "{from} in {text}");
        std::fs::write(&self.file, text.replace(from, to)).unwrap();
        self.gateway.server().reload().await.unwrap();
    }

    /// Time passes until the issuers may be asked for their keys again.
    pub(super) fn cool_down(&self) {
        self.gateway.clock.advance(Duration::from_secs(31));
    }
}

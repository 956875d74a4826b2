//! Attacks on tokens, as HTTP requests to the running product (the numbers are those of the threat model's catalogue;
//! the verifier alone is attacked in `crates/proof`).
//!
//! The oracle is always the same ([`World::refused`], [`World::fine`]): the right 4xx with a challenge, the provider
//! sees nothing, nothing is fetched from an address the attacker chose, and the next good token works.

mod claims;
mod forged;
mod keysets;
mod presented;

use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::idp::Idp;
use testkit::keys::{TestKey, key_set};
use testkit::mock::{Answer as Reply, Mock};

use crate::support::{APP, Answer, Gateway, provider, secret_file};

/// Each attack and the test that makes it.
pub(crate) const ATTACKS: [(&str, &str); 40] = [
    ("A-1", "forged::a_01_alg_none"),
    ("A-2", "forged::a_02_signature_stripped_or_altered"),
    ("A-3", "forged::a_03_public_key_as_hmac_secret"),
    ("A-4", "forged::a_04_another_algorithm_of_the_same_key"),
    ("A-5", "forged::a_05_embedded_jwk"),
    ("A-6", "forged::a_06_jku_and_x5u"),
    ("A-7", "forged::a_07_x5c_and_x5t"),
    ("A-8", "forged::a_08_kid_injection"),
    ("A-9", "forged::a_09_crit"),
    ("A-10", "forged::a_10_unencoded_payload"),
    ("A-11", "forged::a_11_psychic_signatures"),
    ("A-12", "forged::a_12_ecdsa_malleability_makes_no_second_identity"),
    ("A-13", "forged::a_13_ed25519_small_order_and_non_canonical"),
    ("A-14", "keysets::a_14_weak_hmac_secrets"),
    ("A-15", "keysets::a_15_weak_keys_in_a_set"),
    ("A-16", "claims::a_16_duplicate_members"),
    ("A-17", "claims::a_17_claim_type_confusion"),
    ("A-18", "claims::a_18_time"),
    ("A-19", "claims::a_19_audience_confusion"),
    ("A-20", "claims::a_20_issuer_mix_up"),
    ("A-21", "claims::a_21_the_same_subject_of_two_issuers_shares_nothing"),
    ("A-22", "claims::a_22_other_kinds_of_token"),
    ("A-23", "forged::a_23_encrypted_nested_and_json_forms"),
    ("A-24", "forged::a_24_encodings"),
    ("A-25", "forged::a_25_resource_exhaustion"),
    ("A-26", "forged::a_26_malformed_json_in_every_place"),
    ("A-27", "keysets::a_27_ten_thousand_unknown_kids_are_one_fetch"),
    ("A-28", "keysets::a_28_poisoned_key_sets"),
    ("A-29", "keysets::a_29_rotation"),
    ("A-30", "presented::a_30_tokens_in_other_places"),
    ("A-31", "presented::a_31_several_or_malformed_credentials"),
    ("A-32", "presented::a_32_header_smuggling"),
    ("A-40", "claims::a_40_tokens_that_share_parts_share_no_verdict"),
    ("A-41", "presented::a_41_garbage_is_nobody_on_any_route"),
    ("A-42", "claims::a_42_the_cache_and_time"),
    ("A-44", "presented::a_44_refusals_say_nothing"),
    ("A-45", "keysets::a_45_our_list_of_algorithms_wins"),
    ("A-46", "presented::a_46_credentials_stay_on_their_side"),
    ("A-47", "claims::a_47_lifetime"),
    ("A-48", "claims::a_48_scope_confusables"),
];

const AUD: &str = "https://ai.example.com";
const PROVIDER_KEY: &str = "fake-key-of-the-provider";

/// A gateway between two issuers, an attacker's server and a provider.
pub(super) struct World {
    pub(super) gateway: Gateway,
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
            "{APP}{}{}{}\n[[policy]]\nname = \"guests\"\nwho = {{ issuer = [\"corp\", \"other\"], scope = [\"chat\"] }}\n\
             may = {{ models = [\"*\"] }}\n{policy}\n",
            issuer("corp", &idp),
            issuer("other", &other),
            provider("prov", "openai-compatible", &format!("{}/v1", prov.url()), &key),
        );
        let gateway = Gateway::start_in(dir, &config).await;
        let world = Self { gateway, idp, other, attacker, provider: prov, es, rs, ed, twin };
        world.fine("at the start").await;
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

    /// Time passes until the issuers may be asked for their keys again.
    pub(super) fn cool_down(&self) {
        self.gateway.clock.advance(Duration::from_secs(31));
    }
}

#[test]
fn every_attack_has_its_test() {
    let sources = [
        ("claims", include_str!("attacks/claims.rs")),
        ("forged", include_str!("attacks/forged.rs")),
        ("keysets", include_str!("attacks/keysets.rs")),
        ("presented", include_str!("attacks/presented.rs")),
    ];
    for (number, test) in ATTACKS {
        let (module, function) = test.split_once("::").unwrap();
        let source = sources.iter().find(|(name, _)| *name == module).unwrap().1;
        assert!(source.contains(&format!("async fn {function}()")), "{number}: {test}");
    }
    for number in (1..=32).chain(40..=42).chain(44..=48) {
        assert!(ATTACKS.iter().any(|(known, _)| *known == format!("A-{number}")), "A-{number}");
    }
}

//! Tokens that are bound to a key: worth nothing to whoever does not hold it.

mod attested;
mod dpop;
mod mtls;
mod nonces;
mod replay;
mod signature;

use bytes::Bytes;
use gateway::{GatewayBody, Peer};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::dpop::Holder;

use crate::harness::{API_KEY, Answer, NOW, World, peer, read, request};

/// Where clients reach the gateway: what proofs name.
pub const ORIGIN: &str = "https://ai.example.com";
pub const CHAT: &str = "/v1/chat/completions";

pub const ANY: &str = "[server]\nexternal_url = \"https://ai.example.com\"\n\
    [[policy]]\nname = \"all\"\nmay = { models = [\"vouchgate/echo\"] }\n";

/// A world whose one policy asks for these proofs.
pub fn demanding(bound: &str) -> World {
    let config = ANY.replace("[[policy]]", "trusted_proxies = [\"192.0.2.250\"]\n[[policy]]");
    World::new(&config.replace("name = \"all\"", &format!("name = \"all\"\nwho = {{ bound = [{bound}] }}")))
}

pub fn hello() -> Bytes {
    json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "hi"}]}).to_string().into()
}

/// A caller: a key, and a token bound to it.
pub struct Caller {
    pub holder: Holder,
    pub token: String,
}

impl Caller {
    pub fn new(world: &World) -> Self {
        Self::with(world, &json!({}))
    }

    /// With more members in `cnf`.
    pub fn with(world: &World, cnf: &Value) -> Self {
        let holder = Holder::new("ES256");
        let mut cnf = cnf.clone();
        cnf["jkt"] = json!(holder.jkt());
        let token = world.token_with(&json!({"cnf": cnf}));
        Self { holder, token }
    }

    /// The value of `Authorization`.
    pub fn credential(&self) -> String {
        format!("DPoP {}", self.token)
    }

    /// A proof for a chat request now, without nonce.
    pub fn proof(&self) -> testkit::dpop::Proof<'_> {
        self.holder.proof("POST", &format!("{ORIGIN}{CHAT}"), NOW).token(&self.token)
    }

    /// What the gateway answers to a good proof without nonce: the nonce.
    pub async fn nonce(&self, world: &World) -> String {
        let iat = base::Clock::now(&world.clock).as_secs();
        let proof = self.holder.proof("GET", &format!("{ORIGIN}/v1/models"), iat).token(&self.token).sign();
        let headers = [("authorization", self.credential()), ("dpop", proof)];
        let answer = send(world, request("GET", "/v1/models", &borrowed(&headers), "")).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "use_dpop_nonce"), "{}", answer.text());
        answer.header("dpop-nonce").to_owned()
    }

    /// POST a chat request with this proof.
    pub async fn chat(&self, world: &World, proof: &str) -> Answer {
        send(world, self.request(CHAT, proof)).await
    }

    /// A chat request to this path, with this proof.
    pub fn request(&self, path: &str, proof: &str) -> Request<Full<Bytes>> {
        let headers = [("authorization", self.credential()), ("dpop", proof.to_owned())];
        request("POST", path, &borrowed(&headers), hello())
    }
}

pub fn borrowed<'a>(headers: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

pub async fn send(world: &World, request: Request<Full<Bytes>>) -> Answer {
    read(world.raw(request).await).await
}

/// The same from another peer.
pub async fn send_from(world: &World, peer: &Peer, request: Request<Full<Bytes>>) -> Answer {
    let response: Response<GatewayBody> = world.gateway.handle(request, peer).await;
    read(response).await
}

/// Whether this reason was counted.
pub fn counted(world: &World, reason: &str) -> bool {
    world.metrics().contains(&format!("vouchgate_blocked_total{{reason=\"{reason}\"}}"))
}

async fn with(world: &World, headers: &[(&str, &str)]) -> Answer {
    send_from(world, &peer(), request("POST", CHAT, headers, hello())).await
}

#[tokio::test]
async fn a_34_a_bound_token_is_no_bearer_token() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    let proof = caller.proof().nonce(&nonce).sign();
    let bearer = format!("Bearer {}", caller.token);
    for headers in [
        vec![("authorization", bearer.as_str())],
        vec![("authorization", bearer.as_str()), ("dpop", proof.as_str())],
        vec![("x-api-key", caller.token.as_str())],
        vec![("x-api-key", caller.token.as_str()), ("dpop", proof.as_str())],
        vec![("x-goog-api-key", caller.token.as_str())],
    ] {
        let answer = with(&world, &headers).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"), "{headers:?}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("DPoP realm=\"vouchgate\", algs=\"ES256 "), "{challenge}");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        assert!(
            challenge.contains(", resource_metadata=\"https://ai.example.com/.well-known/oauth-protected-resource\"")
        );
    }
    assert!(counted(&world, "token_bound"));
    assert_eq!(caller.chat(&world, &proof).await.status, 200, "the proof is still good where it belongs");
}

#[tokio::test]
async fn a_34_a_token_anybody_may_use_is_not_taken_for_a_bound_one() {
    let world = World::new(&format!(
        "{ANY}[[policy]]\nname = \"keys\"\nwho = {{ key = \"tool\" }}\nmay = {{ models = [\"vouchgate/echo\"] }}\n"
    ));
    let holder = Holder::new("ES256");
    for credential in [world.token("alice"), API_KEY.to_owned()] {
        let proof = holder.proof("POST", &format!("{ORIGIN}{CHAT}"), NOW).token(&credential).sign();
        let presented = format!("DPoP {credential}");
        let answer = with(&world, &[("authorization", &presented), ("dpop", &proof)]).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"));
        assert!(answer.header("www-authenticate").starts_with("DPoP "));
    }
    let bearer = format!("Bearer {}", world.token("alice"));
    let answer = with(&world, &[("authorization", &bearer), ("dpop", "garbage")]).await;
    assert_eq!(answer.status, 200, "a proof that nothing asks for is not looked at");
}

#[tokio::test]
async fn a_34_a_policy_that_demands_a_proof_is_not_met_without() {
    let world = demanding("\"dpop\"");
    let bearer = format!("Bearer {}", world.token("alice"));
    let answer = with(&world, &[("authorization", &bearer), ("dpop", "garbage")]).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "proof_required"));
    assert!(answer.header("www-authenticate").starts_with("DPoP "), "{}", answer.header("www-authenticate"));
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    assert_eq!(caller.chat(&world, &caller.proof().nonce(&nonce).sign()).await.status, 200);

    let other = demanding("\"signature\", \"mtls\"");
    let caller = Caller::new(&other);
    let nonce = caller.nonce(&other).await;
    let answer = caller.chat(&other, &caller.proof().nonce(&nonce).sign()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "proof_required"), "another proof is none");
    assert!(answer.header("accept-signature").starts_with("gw=(\"@method\" \"@target-uri\""));
}

#[tokio::test]
async fn a_41_no_kind_of_garbage_gets_a_bound_token_further() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let credential = caller.credential();
    for (method, path) in [("GET", "/v1/models"), ("POST", CHAT), ("POST", "/v1/messages"), ("GET", "/openapi.json")] {
        for proof in ["", "x", "a.b.c", "e30.e30.e30", &caller.token, &"a".repeat(9000)] {
            let headers = [("authorization", credential.as_str()), ("dpop", proof)];
            let answer = send(&world, request(method, path, &headers, hello())).await;
            assert_eq!(answer.status, 401, "{method} {path} {proof}");
            assert!(answer.header("www-authenticate").contains("error=\"invalid_dpop_proof\""));
        }
        let answer = send(&world, request(method, path, &[("authorization", &credential)], hello())).await;
        assert_eq!(answer.status, 401);
        assert!(answer.header("www-authenticate").contains("error=\"invalid_dpop_proof\""), "no proof at all");
    }
    assert!(counted(&world, "proof_missing"));
    assert!(world.records.0.lock().unwrap().is_empty(), "nobody's requests are not recorded");
}

#[tokio::test]
async fn a_confirmation_nobody_can_check_is_refused() {
    let world = World::new(ANY);
    for cnf in [json!({"kid": "x"}), json!({}), json!({"jku": "https://evil.example"}), json!({"jkt": "short"})] {
        let bearer = format!("Bearer {}", world.token_with(&json!({"cnf": cnf})));
        let answer = with(&world, &[("authorization", &bearer)]).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"), "{cnf}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(128))]

    #[test]
    fn whatever_stands_in_the_fields_of_a_proof_is_refused_without_a_fault_of_ours(
        scheme in "(DPoP|dpop|Bearer|DPoP ) ", dpop in "[ -~]{0,200}", signature in "(gw=)?[ -~]{0,80}",
        input in "(gw=\\()?[ -~]{0,200}", digest in "(sha-256=)?[ -~]{0,60}", certificate in ":?[ -~]{0,60}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(&ANY.replace("[[policy]]", "trusted_proxies = [\"203.0.113.7\"]\n[[policy]]"));
            let caller = Caller::new(&world);
            let credential = format!("{scheme}{}", caller.token);
            let headers = [
                ("authorization", credential.as_str()),
                ("dpop", &dpop),
                ("signature", &signature),
                ("signature-input", &input),
                ("content-digest", &digest),
                ("client-cert", &certificate),
            ];
            let answer = with(&world, &headers).await;
            assert!(matches!(answer.status.as_u16(), 400 | 401), "{} {}", answer.status, answer.text());
        });
    }
}

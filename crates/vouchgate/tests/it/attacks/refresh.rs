//! Refresh tokens that were stolen, used twice, used by somebody else or for more than was granted; codes likewise.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use serde_json::{Value, json};
use testkit::dpop::{Holder, random, sha256};
use testkit::keys::TestKey;
use testkit::mock::Mock;
use testkit::op::{CLIENT, Op};

use super::{AUD, PROVIDER_KEY, chat_answer};
use crate::caller::refused_as;
use crate::oauth::{Auth, Client, EXCHANGE, REDIRECT};
use crate::support::{Gateway, provider, secret_file};

const SECRET: &str = "a secret of the tests' own client";

/// A token service people sign in at through their own provider.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) op: Op,
    op_key: Arc<TestKey>,
    pub(crate) provider: Mock,
}

const CLIENTS: &str = "\
grants = [\"client_credentials\", \"authorization_code\", \"refresh_token\", \"device_code\", \"token_exchange\"]\n\
redirect_uris = [\"http://127.0.0.1/callback\"]\nscopes = [\"openid\", \"chat\", \"files\"]\nrequire = [\"dpop\"]\nexchange = [\"corp\"]\n";

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap())).await
    }

    pub(crate) async fn start_in(dir: Arc<tempfile::TempDir>) -> Self {
        let op_key = Arc::new(TestKey::generate("ES256"));
        let op = Op::with_key(Arc::clone(&op_key)).await;
        let hash = sha256(SECRET);
        let prov = Mock::start_with(|_| chat_answer()).await;
        let key = secret_file(dir.path(), "provider.key", PROVIDER_KEY);
        let secret = secret_file(dir.path(), "op.secret", CLIENT.1);
        let confidential = |name: &str| {
            format!(
                "\n[[client]]\nname = \"{name}\"\nauth = {{ method = \"client_secret\", hash = \"sha256:{hash}\" }}\n{CLIENTS}"
            )
        };
        let public = CLIENTS.replace("\"client_credentials\", ", "").replace(", \"token_exchange\"", "");
        let public = public.replace("exchange = [\"corp\"]\n", "");
        let config = format!(
            "\n[[issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = [\"{AUD}\"]\ndiscovery = true\nallow_private = true\n\n\
             [signin]\nissuer = \"corp\"\nclient_id = \"{}\"\nclient_secret = {{ file = {:?} }}\n{}{}\n\
             [[client]]\nname = \"signer\"\nauth = {{ method = \"client_secret\", hash = \"sha256:{hash}\" }}\nscopes = [\"chat\"]\n\
             require = [\"dpop\", \"signature\"]\n\n\
             [[policy]]\nname = \"signed\"\nwho = {{ issuer = \"vouchgate\", client = \"signer\", bound = [\"signature\"] }}\nmay = {{ models = [\"prov/m1\"] }}\n\n\
             [[client]]\nname = \"web\"\nauth = {{ method = \"none\" }}\n{public}\n\
             [[policy]]\nname = \"all\"\nwho = {{ issuer = \"vouchgate\", client = [\"agent\", \"other\", \"web\"], scope = [\"chat\"] }}\nmay = {{ models = [\"prov/m1\"] }}\n{}",
            op.issuer(),
            CLIENT.0,
            secret.display().to_string(),
            confidential("agent"),
            confidential("other"),
            provider("prov", "openai-compatible", &format!("{}/v1", prov.url()), &key),
        );
        let gateway = Gateway::start_in(dir, &config).await;
        let world = Self { gateway, op, op_key, provider: prov };
        world.set_time();
        world
    }

    /// The provider's clock follows ours.
    pub(crate) fn set_time(&self) {
        let now = self.gateway.clock.now().as_secs();
        self.op.change(|behaviour| behaviour.now = Some(now));
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.gateway.clock.advance(time);
        self.set_time();
    }

    /// A client with a secret and a key of its own.
    pub(crate) fn client(&self, id: &str) -> Client {
        let auth = if id == "web" { Auth::Public } else { Auth::Secret(SECRET.to_owned()) };
        Client::new(self.gateway.public, id, auth, Arc::new(self.gateway.clock.clone())).bound()
    }

    /// An access token of the company's provider.
    fn foreign_token(&self) -> String {
        let now = self.gateway.clock.now().as_secs();
        self.op_key.mint(&json!({"iss": self.op.issuer(), "sub": "u1", "aud": AUD, "iat": now, "exp": now + 300,
            "jti": random(), "client_id": "portal", "scope": "chat"}))
    }

    /// The token opens the data plane, or does not, as its owner says.
    pub(crate) async fn opens(&self, client: &mut Client, token: &str) -> bool {
        let caller = client.caller(token);
        let before = self.provider.count();
        let nonce = {
            let answer = caller.ask(&caller.bare().sign()).await;
            if answer.status() == 401 && answer.header("dpop-nonce").is_none() {
                refused_as(&answer, "invalid_token");
                client.holder = Some(caller.holder);
                return false;
            }
            crate::caller::challenged(&answer)
        };
        let answer = caller.ask(&caller.proof(&nonce).sign()).await;
        client.holder = Some(caller.holder);
        let opened = answer.status() == 200;
        assert_eq!(self.provider.count(), before + usize::from(opened), "{}", answer.text());
        opened
    }
}

fn member(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap_or_else(|| panic!("no {name} in {json}")).to_owned()
}

fn refreshing(token: &str) -> [(&str, &str); 2] {
    [("grant_type", "refresh_token"), ("refresh_token", token)]
}

#[tokio::test]
async fn a_43_a_used_refresh_token_ends_its_family() {
    for id in ["agent", "web"] {
        let world = World::start().await;
        let mut client = world.client(id);
        let first = client.sign_in(&world.op, "openid chat").await;
        let second = client.granted(&refreshing(&member(&first, "refresh_token"))).await;
        let third = client.granted(&refreshing(&member(&second, "refresh_token"))).await;
        let access = member(&third, "access_token");
        assert!(world.opens(&mut client, &access).await, "{id}");
        world.pass(Duration::from_secs(11));
        // Whoever comes with it now, one of two has it who should not.
        client.refused("used before", "invalid_grant", &refreshing(&member(&first, "refresh_token"))).await;
        client.refused("its successor", "invalid_grant", &refreshing(&member(&second, "refresh_token"))).await;
        client.refused("the last one", "invalid_grant", &refreshing(&member(&third, "refresh_token"))).await;
        assert!(!world.opens(&mut client, &access).await, "{id}: access tokens of the session end with it");
        // The same person signs in again, and is not locked out.
        world.pass(Duration::from_secs(2));
        let again = client.sign_in(&world.op, "openid chat").await;
        assert!(world.opens(&mut client, &member(&again, "access_token")).await, "{id}");
        world.gateway.stop().await;
    }
}

#[tokio::test]
async fn a_43_two_legitimate_refreshes_at_once_have_one_successor() {
    let world = World::start().await;
    let client = world.client("web");
    let first = client.sign_in(&world.op, "openid chat").await;
    let token = member(&first, "refresh_token");
    let form = refreshing(&token);
    // The nonce is known by now, so that each of these is one request.
    let answers = futures_util::future::join_all((0..20).map(|_| client.granted(&form))).await;
    let mut successors: Vec<String> = answers.iter().map(|answer| member(answer, "refresh_token")).collect();
    successors.sort_unstable();
    successors.dedup();
    assert_eq!(successors.len(), 1, "{successors:?}");
    assert_ne!(successors[0], token);
    // A little later the same client may have missed the answer: the same successor once more.
    world.pass(Duration::from_secs(5));
    assert_eq!(member(&client.granted(&form).await, "refresh_token"), successors[0]);
    let next = client.granted(&refreshing(&successors[0])).await;
    assert_ne!(member(&next, "refresh_token"), successors[0]);
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_43_no_more_than_was_granted() {
    let world = World::start().await;
    let client = world.client("agent");
    let first = client.sign_in(&world.op, "openid chat").await;
    let token = member(&first, "refresh_token");
    for scope in ["chat files", "files", "openid chat files", "admin", "chat admin"] {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("scope", scope)];
        client.refused(scope, "invalid_scope", &form).await;
    }
    // Less may be asked for, and does not lessen what was granted.
    let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("scope", "chat")];
    let less = client.granted(&form).await;
    assert_eq!(less["scope"], "chat");
    let all = client.granted(&refreshing(&member(&less, "refresh_token"))).await;
    let mut scopes: Vec<&str> = all["scope"].as_str().unwrap().split(' ').collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["chat", "openid"]);
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_43_another_client_or_another_key() {
    let world = World::start().await;
    let client = world.client("agent");
    let token = member(&client.sign_in(&world.op, "openid chat").await, "refresh_token");
    // Another client, even one that is honest about itself, gets nothing and harms nobody.
    for thief in ["other", "web"] {
        world.client(thief).refused(thief, "invalid_grant", &refreshing(&token)).await;
    }
    let mut unproven = world.client("agent");
    unproven.holder = None;
    let answer = unproven.refresh(&token).await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
    assert_eq!(answer.json()["error"], "invalid_dpop_proof", "{}", answer.text());
    let token = member(&client.granted(&refreshing(&token)).await, "refresh_token");
    // Anybody can say a public client's name. With another key the token has been stolen, so it ends for both.
    let mut public = world.client("web");
    let public_token = member(&public.sign_in(&world.op, "openid chat").await, "refresh_token");
    let own = public.holder.replace(Holder::new("ES256"));
    public.refused("another key", "invalid_grant", &refreshing(&public_token)).await;
    public.holder = own;
    public.refused("its own key, afterwards", "invalid_grant", &refreshing(&public_token)).await;
    // The other family is not touched.
    client.granted(&refreshing(&token)).await;
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_43_after_its_end() {
    let world = World::start().await;
    let mut client = world.client("agent");
    // Revoked by its client (RFC 7009), as when somebody signs out.
    let signed_in = client.sign_in(&world.op, "openid chat").await;
    let token = member(&signed_in, "refresh_token");
    let answer = client.post("/oauth/revoke", &[("token", &token), ("token_type_hint", "refresh_token")]).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    client.refused("after the end of the session", "invalid_grant", &refreshing(&token)).await;
    assert!(!world.opens(&mut client, &member(&signed_in, "access_token")).await);
    // By another client: it is refused (RFC 7009 section 2.1), learns nothing, and nothing happens.
    world.pass(Duration::from_secs(2));
    let token = member(&client.sign_in(&world.op, "openid chat").await, "refresh_token");
    let other = world.client("other");
    let answer = other.post("/oauth/revoke", &[("token", &token)]).await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
    assert!(!other.active(&token).await);
    let token = member(&client.granted(&refreshing(&token)).await, "refresh_token");
    // Not used for two weeks.
    world.pass(Duration::from_hours(14 * 24 + 1));
    client.refused("not used for so long", "invalid_grant", &refreshing(&token)).await;
    // Used all the time, but for three months.
    let mut token = member(&client.sign_in(&world.op, "openid chat").await, "refresh_token");
    for _ in 0..8 {
        world.pass(Duration::from_hours(11 * 24));
        token = member(&client.granted(&refreshing(&token)).await, "refresh_token");
    }
    world.pass(Duration::from_hours(3 * 24));
    client.refused("so long after the sign-in", "invalid_grant", &refreshing(&token)).await;
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_43_a_code_is_good_once_for_its_client_its_key_and_its_verifier() {
    let world = World::start().await;
    let mut client = world.client("agent");
    let form = |code: &str, verifier: &str, redirect: &str| {
        [("grant_type", "authorization_code"), ("code", code), ("code_verifier", verifier), ("redirect_uri", redirect)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let pairs = |form: &[(String, String); 4]| form.clone();
    let (code, verifier) = client.code(&world.op, "openid chat").await;
    for (what, bent) in [
        ("another verifier", form(&code, &random().repeat(3), REDIRECT)),
        ("no verifier to speak of", form(&code, "short", REDIRECT)),
        ("another redirect URI", form(&code, &verifier, "http://127.0.0.1/other")),
    ] {
        // Each on a code of its own: a wrong guess may end the code it was made for.
        let (own, its_verifier) = client.code(&world.op, "openid chat").await;
        let mut bent = pairs(&bent);
        bent[1].1.clone_from(&own);
        if what == "another redirect URI" {
            bent[2].1 = its_verifier;
        }
        let bent: Vec<(&str, &str)> = bent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = client.token(&bent).await;
        assert_eq!(answer.status(), 400, "{what}: {}", answer.text());
        let error = answer.json()["error"].clone();
        assert!([json!("invalid_grant"), json!("invalid_request")].contains(&error), "{what}: {error}");
    }
    let good = form(&code, &verifier, REDIRECT);
    let good: Vec<(&str, &str)> = good.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    world.client("other").refused("another client", "invalid_grant", &good).await;
    let signed_in = client.granted(&good).await;
    assert!(world.opens(&mut client, &member(&signed_in, "access_token")).await);
    client.refused("a second time", "invalid_grant", &good).await;
    // The code was in two hands: what came of it ends.
    client.refused("its tokens", "invalid_grant", &refreshing(&member(&signed_in, "refresh_token"))).await;
    assert!(!world.opens(&mut client, &member(&signed_in, "access_token")).await);
    let (late, verifier) = client.code(&world.op, "openid chat").await;
    world.pass(Duration::from_secs(61));
    let late = form(&late, &verifier, REDIRECT);
    let late: Vec<(&str, &str)> = late.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    client.refused("too late", "invalid_grant", &late).await;
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_22_tokens_of_one_kind_as_another_at_the_token_service() {
    let world = World::start().await;
    let mut client = world.client("agent");
    let signed_in = client.sign_in(&world.op, "openid chat").await;
    let (access, refresh) = (member(&signed_in, "access_token"), member(&signed_in, "refresh_token"));
    let id_token = member(&signed_in, "id_token");
    let (code, _) = client.code(&world.op, "openid chat").await;
    // As refresh token.
    for (what, token) in [("access token", &access), ("ID token", &id_token), ("code", &code)] {
        client.refused(what, "invalid_grant", &refreshing(token)).await;
    }
    // As subject of an exchange: only access tokens of the named issuer, never one of the others.
    let proof = client.holder.as_ref().unwrap().proof("POST", "http://x.example/", 1).sign();
    for kind in ["access_token", "jwt", "id_token"] {
        let kind = format!("urn:ietf:params:oauth:token-type:{kind}");
        for (what, token) in
            [("refresh token", &refresh), ("code", &code), ("proof", &proof), ("our own ID token", &id_token)]
        {
            let form =
                [("grant_type", EXCHANGE), ("subject_token", token.as_str()), ("subject_token_type", kind.as_str())];
            let answer = client.token(&form).await;
            assert_eq!(answer.status(), 400, "{what} as {kind}: {}", answer.text());
            assert_eq!(answer.json()["error"], "invalid_request", "{what} as {kind}: {}", answer.text());
        }
    }
    // As access token at the data plane.
    for (what, token) in [("refresh token", &refresh), ("ID token", &id_token), ("code", &code), ("proof", &proof)] {
        let answer = world.gateway.get("/v1/models", token).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
    }
    // As a client's assertion.
    for (what, token) in [("access token", &access), ("ID token", &id_token), ("proof", &proof)] {
        let mut pairs = crate::oauth::asserted(token);
        pairs.push(("grant_type".to_owned(), "client_credentials".to_owned()));
        let answer = crate::oauth::send(world.gateway.public, "/oauth/token", &pairs, None).await;
        assert!([400, 401].contains(&answer.status()), "{what}: {}", answer.text());
        assert_eq!(answer.json()["error"], "invalid_client", "{what}: {}", answer.text());
    }
    let exchange = world.foreign_token();
    let kind = "urn:ietf:params:oauth:token-type:access_token";
    let given =
        client.granted(&[("grant_type", EXCHANGE), ("subject_token", &exchange), ("subject_token_type", kind)]).await;
    assert!(world.opens(&mut client, &member(&given, "access_token")).await, "what it is meant for");
    world.gateway.stop().await;
}

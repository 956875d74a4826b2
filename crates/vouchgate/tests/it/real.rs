//! The real program among its peers: a company's issuer, a provider people sign in at, an upstream provider, two clients.
//! It can be killed; what it left behind is what it starts on again.

use std::sync::Arc;

use base::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::dpop::{Holder, random, sha256};
use testkit::idp::Idp;
use testkit::keys::{TestKey, key_set};
use testkit::mock::Mock;
use testkit::op::{CLIENT, Op};
use testkit::raw::Response;

use crate::attacks::{chat_answer, question};
use crate::caller::{Caller, PATH, bound_to, challenges};
use crate::oauth::{Auth, Client};
use crate::support::{Program, provider, secret_file, write_config};

/// What its clients know it by.
pub(crate) const ORIGIN: &str = "https://ai.example.com";
const SECRET: &str = "a secret of the tests' own client";

/// The real program, which can be killed, and everybody around it, who cannot.
pub(crate) struct Real {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) program: Program,
    pub(crate) idp: Idp,
    pub(crate) key: TestKey,
    pub(crate) op: Op,
    pub(crate) provider: Mock,
    pub(crate) assertion_key: TestKey,
}

impl Real {
    pub(crate) async fn start(more: &str) -> Self {
        let (key, assertion_key) = (TestKey::generate("ES256"), TestKey::generate("ES256"));
        let idp = Idp::start(&[&key]).await;
        let op = Op::start("ES256").await;
        let prov = Mock::start_with(|_| chat_answer()).await;
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let secret = secret_file(at, "provider.key", "fake-provider-key");
        let op_secret = secret_file(at, "op.secret", CLIENT.1);
        std::fs::write(at.join("client.jwks"), key_set(&[&assertion_key]).to_string()).unwrap();
        let grants = "grants = [\"client_credentials\", \"authorization_code\", \"refresh_token\", \"token_exchange\"]\nexchange = [\"corp\"]\nscopes = [\"openid\", \"chat\"]\n\
                      redirect_uris = [\"http://127.0.0.1/callback\"]\n";
        let config = format!(
            "[limits]\nconnections_per_address = 300\n{}\n\
             [[issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = [\"{ORIGIN}\"]\njwks_url = \"{}\"\nallow_private = true\n\n\
             [[transmitter]]\nname = \"events\"\nissuer = \"{}\"\naudience = [\"{ORIGIN}/oauth/events\"]\njwks_url = \"{}\"\n\
             allow_private = true\nsubjects = \"corp\"\n\n\
             [[issuer]]\nname = \"people\"\nissuer = \"{}\"\naudience = [\"{ORIGIN}\"]\ndiscovery = true\nallow_private = true\n\n\
             [signin]\nissuer = \"people\"\nclient_id = \"{}\"\nclient_secret = {{ file = {:?} }}\n\n\
             [[client]]\nname = \"agent\"\nauth = {{ method = \"private_key_jwt\", jwks_file = \"client.jwks\" }}\n{grants}\n\
             [[client]]\nname = \"web\"\nauth = {{ method = \"client_secret\", hash = \"sha256:{}\" }}\n{grants}\n\
             [[policy]]\nname = \"once\"\nwho = {{ issuer = \"corp\", scope = [\"once\"] }}\nmay = {{ models = [\"prov/*\"] }}\nsingle_use = true\n\n\
             [[policy]]\nname = \"cut\"\nwho = {{ issuer = \"corp\", scope = [\"cut\"] }}\nmay = {{ models = [\"prov/*\"] }}\non_revocation = \"cut\"\n\n\
             [[policy]]\nname = \"all\"\nwho = {{ issuer = [\"corp\", \"vouchgate\"], scope = [\"chat\"] }}\nmay = {{ models = [\"prov/*\"] }}\n\n{more}",
            provider("prov", "openai-compatible", &format!("{}/v1", prov.url()), &secret),
            idp.issuer(),
            idp.jwks_url(),
            idp.issuer(),
            idp.jwks_url(),
            op.issuer(),
            CLIENT.0,
            op_secret.display().to_string(),
            sha256(SECRET),
        );
        write_config(at, &format!("external_url = \"{ORIGIN}\""), &config);
        let program = Program::serve(at, &[]).await;
        Self { dir, program, idp, key, op, provider: prov, assertion_key }
    }

    /// `kill -9`, and a new start on what it left behind.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.program.process.signal("KILL");
        assert!(!self.program.process.ended().await.success());
        self.program = Program::serve(self.dir.path(), &[]).await;
    }

    /// A token of the company's with this scope and more.
    pub(crate) fn token(&self, scope: &str, more: &Value) -> String {
        let now = SystemClock.now().as_secs();
        let mut claims = json!({"iss": self.idp.issuer(), "sub": "user-1", "aud": ORIGIN, "client_id": "portal", "scope": scope,
            "iat": now, "exp": now + 300, "jti": random()});
        for (name, value) in more.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        self.key.mint(&claims)
    }

    pub(crate) fn caller(&self) -> Caller {
        let holder = Holder::new("ES256");
        let token = self.token("chat", &json!({"cnf": bound_to(&holder)}));
        Caller::new(self.program.public, holder, token, Arc::new(SystemClock)).at(ORIGIN)
    }

    pub(crate) fn agent(&self) -> Client {
        // The same key again, for another client of the same name.
        let key = TestKey::copy_of(&self.assertion_key);
        Client::new(self.program.public, "agent", Auth::Key(key), Arc::new(SystemClock)).at(ORIGIN)
    }

    pub(crate) fn web(&self) -> Client {
        let auth = Auth::Secret(SECRET.to_owned());
        Client::new(self.program.public, "web", auth, Arc::new(SystemClock)).at(ORIGIN)
    }

    pub(crate) async fn bearer(&self, token: &str) -> Response {
        self.program.post(PATH, token, &question()).await
    }

    /// Refused as `invalid_token`, unheard by the provider.
    pub(crate) async fn refused(&self, what: &str, token: &str) {
        let before = self.provider.count();
        let answer = self.bearer(token).await;
        assert_eq!(answer.status(), 401, "{what}: {}", answer.text());
        assert!(challenges(&answer).contains("error=\"invalid_token\""), "{what}: {:?}", answer.head);
        assert_eq!(self.provider.count(), before, "{what}: the provider was asked");
    }
}

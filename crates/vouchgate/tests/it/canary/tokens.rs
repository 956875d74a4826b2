//! The token service's part of the scenario: sign-ins, refresh tokens, assertions, proofs, signatures, security events;
//! each used well and badly.

use std::path::Path;
use std::sync::Arc;

use base::{Clock, SystemClock};
use serde_json::json;
use testkit::dpop::{Holder, random};
use testkit::keys::{TestKey, key_set};
use testkit::op::{CLIENT, Op};
use testkit::signature::Signing;

use super::{World, chat};
use crate::caller::{PATH, challenged};
use crate::oauth::{Auth, Client, REDIRECT, asserted, encode};
use crate::support::secret_file;

/// What the operator was given at the provider people sign in at.
pub(super) const SECRET_AT_OP: &str = CLIENT.1;

/// Where people sign in, who sends security events, and the key of a client.
pub(super) struct People {
    op: Op,
    key: Arc<TestKey>,
    client_key: TestKey,
}

impl People {
    pub(super) async fn start() -> Self {
        let key = Arc::new(TestKey::generate("ES256"));
        Self { op: Op::with_key(Arc::clone(&key)).await, key, client_key: TestKey::generate("ES256") }
    }

    /// More sections of the configuration.
    pub(super) fn configuration(&self, dir: &Path) -> String {
        let secret = secret_file(dir, "op.secret", SECRET_AT_OP);
        let jwks = key_set(&[&self.client_key]).to_string();
        std::fs::write(dir.join("client.jwks"), jwks).unwrap();
        std::fs::write(dir.join("op.jwks"), key_set(&[&self.key]).to_string()).unwrap();
        format!(
            "\n[[issuer]]\nname = \"people\"\nissuer = \"{issuer}\"\naudience = [\"https://ai.example.com\"]\ndiscovery = true\nallow_private = true\n\n\
             [signin]\nissuer = \"people\"\nclient_id = \"{}\"\nclient_secret = {{ file = {:?} }}\n\n\
             [[transmitter]]\nname = \"events\"\nissuer = \"{issuer}\"\naudience = [\"https://ai.example.com/oauth/events\"]\njwks_file = \"op.jwks\"\nsubjects = \"people\"\n\n\
             [[client]]\nname = \"agent\"\nauth = {{ method = \"private_key_jwt\", jwks_file = \"client.jwks\" }}\n\
             grants = [\"client_credentials\", \"authorization_code\", \"refresh_token\"]\nredirect_uris = [\"{REDIRECT}\"]\n\
             scopes = [\"openid\", \"chat\"]\nrequire = [\"dpop\"]\n\n\
             [[policy]]\nname = \"agents\"\nwho = {{ issuer = \"vouchgate\", client = \"agent\", scope = [\"chat\"] }}\nmay = {{ models = [\"byfile/m\"] }}\n",
            CLIENT.0,
            secret.display().to_string(),
            issuer = self.op.issuer(),
        )
    }
}

/// The part of a token, proof or assertion that makes it one.
fn signature(token: &str) -> &str {
    token.rsplit('.').next().unwrap()
}

impl World {
    fn canary(&mut self, name: &str, value: &str) {
        assert!(value.len() >= 16, "{name} is too short to be looked for");
        self.canaries.push((name.to_owned(), value.to_owned()));
    }

    async fn form(&mut self, path: &str, form: &[(&str, &str)], proof: Option<&str>) -> u16 {
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        headers.extend(proof.map(|proof| ("dpop", proof)));
        self.call("POST", path, &headers, encode(form).as_bytes()).await.status()
    }

    /// Everything the token service hands out or is shown.
    pub(super) async fn token_service(&mut self) {
        let key = TestKey::copy_of(&self.people.client_key);
        let mut client = Client::new(self.program.public, "agent", Auth::Key(key), Arc::new(SystemClock)).bound();
        let (code, verifier) = client.code(&self.people.op, "openid chat").await;
        let redeem = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("code_verifier", verifier.as_str()),
            ("redirect_uri", REDIRECT),
        ];
        let first = client.granted(&redeem).await;
        let text = |name: &str| first[name].as_str().unwrap().to_owned();
        let (access, refresh, id_token) = (text("access_token"), text("refresh_token"), text("id_token"));
        let second = client.granted(&[("grant_type", "refresh_token"), ("refresh_token", &refresh)]).await;
        let rotated = second["refresh_token"].as_str().unwrap().to_owned();
        for (name, value) in [
            ("authorization code", code.as_str()),
            ("PKCE verifier", &verifier),
            ("bound access token", signature(&access)),
            ("ID token", signature(&id_token)),
            ("refresh token", &refresh),
            ("rotated refresh token", &rotated),
        ] {
            self.canary(name, value);
        }
        self.proofs(&mut client, &access).await;
        self.badly_used(&client, &redeem, &[&refresh, &rotated, &access, &id_token]).await;
        self.security_events().await;
    }

    /// Calls of the data plane with proofs and signatures that are right, wrong, and sent twice.
    async fn proofs(&mut self, client: &mut Client, access: &str) {
        let caller = client.caller(access);
        let nonce = challenged(&caller.ask(&caller.bare().sign()).await);
        let credential = format!("DPoP {access}");
        let body = chat("byfile/m").to_string();
        let (good, wrong) = (caller.proof(&nonce).sign(), caller.proof(&nonce).claim("htm", json!("GET")).sign());
        for proof in [&good, &good, &wrong, &format!("{good}x")] {
            let headers = [("authorization", credential.as_str()), ("dpop", proof.as_str())];
            self.call("POST", PATH, &headers, body.as_bytes()).await;
        }
        let bearer = format!("Bearer {access}");
        let thief = Holder::new("ES256");
        let signing =
            Signing::new(&thief, "POST", &format!("{}{PATH}", caller.origin), ("authorization", &bearer), caller.now());
        let fields = signing.body("application/json", body.as_bytes()).sign();
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        self.call("POST", PATH, &headers, body.as_bytes()).await;
        let signed = fields.iter().find(|(name, _)| name == "signature").unwrap().1.clone();
        self.canary("proof", signature(&good));
        self.canary("wrong proof", signature(&wrong));
        self.canary("request signature", signed.trim_start_matches("gw=:").trim_end_matches(':'));
        client.holder = Some(caller.holder);
    }

    /// Codes, tokens and assertions where they do not belong.
    async fn badly_used(&mut self, client: &Client, redeem: &[(&str, &str)], tokens: &[&String]) {
        client.refused("a code again", "invalid_grant", redeem).await;
        let assertion = client.assertion(&json!({}));
        let late = client.assertion(&json!({"exp": 1}));
        self.canary("client assertion", signature(&assertion));
        self.canary("expired client assertion", signature(&late));
        for token in tokens {
            for assertion in [&assertion, &late, *token] {
                let pairs = asserted(assertion);
                let mut form: Vec<(&str, &str)> =
                    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                form.extend([
                    ("token", token.as_str()),
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.as_str()),
                ]);
                for path in
                    ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/par", "/oauth/device_authorization"]
                {
                    self.form(path, &form, Some(token)).await;
                }
            }
            let bearer = format!("Bearer {token}");
            self.call("GET", "/v1/models", &[("authorization", &bearer)], b"").await;
            let query =
                format!("/oauth/authorize?client_id=agent&state={token}&request_uri={token}&code_challenge={token}");
            self.call("GET", &query, &[], b"").await;
            self.call("GET", &format!("/oauth/callback?code={token}&state={token}&iss=x"), &[], b"").await;
        }
    }

    /// A security event that is obeyed, and some that are not.
    async fn security_events(&mut self) {
        let now = SystemClock.now().as_secs();
        let issuer = self.people.op.issuer();
        let mut claims = json!({
            "iss": issuer, "aud": "https://ai.example.com/oauth/events", "iat": now, "jti": random(),
            "sub_id": {"format": "iss_sub", "iss": issuer, "sub": "somebody-else"},
            "events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {"event_timestamp": now}},
        });
        let header = json!({"alg": "ES256", "kid": self.people.key.kid, "typ": "secevent+jwt"});
        let good = self.people.key.mint_with(&header, &claims);
        claims["aud"] = json!("https://elsewhere.example");
        let misdirected = self.people.key.mint_with(&header, &claims);
        let kind = [("content-type", "application/secevent+jwt")];
        for event in [&good, &good, &misdirected, &format!("{good}x")] {
            self.call("POST", "/oauth/events", &kind, event.as_bytes()).await;
        }
        let bearer = format!("Bearer {good}");
        self.call("GET", "/v1/models", &[("authorization", &bearer)], b"").await;
        self.canary("security event", signature(&good));
        self.canary("misdirected security event", signature(&misdirected));
    }
}

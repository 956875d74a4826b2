//! A client of the token service, over a socket: it says who it is, proves its key where it has one, and follows the
//! server's nonce.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base::Clock;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use testkit::dpop::{Holder, random};
use testkit::keys::TestKey;
use testkit::op::Op;
use testkit::raw::{self, Response};

use crate::browser::{Browser, onward};
use crate::caller::Caller;

/// RFC 3986 section 2.3: what needs no encoding.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The grant of RFC 8693.
pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Where codes are sent.
pub(crate) const REDIRECT: &str = "http://127.0.0.1/callback";

/// How a client says who it is.
pub(crate) enum Auth {
    /// A secret in the form.
    Secret(String),
    /// An assertion (RFC 7523) signed with this key.
    Key(TestKey),
    /// Only its name.
    Public,
}

/// A client of the token service.
pub(crate) struct Client {
    /// The server's public listener.
    pub(crate) addr: SocketAddr,
    /// The server as proofs and assertions name it.
    pub(crate) origin: String,
    /// Its name.
    pub(crate) id: String,
    /// How it says who it is.
    pub(crate) auth: Auth,
    /// Its key, where it binds its tokens.
    pub(crate) holder: Option<Holder>,
    clock: Arc<dyn Clock>,
    nonce: Mutex<Option<String>>,
}

impl Client {
    /// A client without a key; the server is known to it by its address.
    pub(crate) fn new(addr: SocketAddr, id: &str, auth: Auth, clock: Arc<dyn Clock>) -> Self {
        let origin = format!("http://{addr}");
        Self { addr, origin, id: id.to_owned(), auth, holder: None, clock, nonce: Mutex::default() }
    }

    /// With a new key to bind tokens to.
    pub(crate) fn bound(mut self) -> Self {
        self.holder = Some(Holder::new("ES256"));
        self
    }

    /// Known to its clients by this origin.
    pub(crate) fn at(mut self, origin: &str) -> Self {
        origin.clone_into(&mut self.origin);
        self
    }

    /// A good assertion for the token service, with members changed; `null` takes one out.
    pub(crate) fn assertion(&self, changes: &Value) -> String {
        let Auth::Key(key) = &self.auth else { panic!("{} signs no assertions", self.id) };
        let now = self.clock.now().as_secs();
        let mut claims =
            json!({"iss": self.id, "sub": self.id, "aud": self.origin, "iat": now, "exp": now + 60, "jti": random()});
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        key.mint_with(&json!({"alg": key.alg, "kid": key.kid, "typ": "JWT"}), &claims)
    }

    /// What authenticates the client in a form.
    fn authentication(&self) -> Vec<(String, String)> {
        let mut pairs = vec![("client_id".to_owned(), self.id.clone())];
        match &self.auth {
            Auth::Secret(secret) => pairs.push(("client_secret".to_owned(), secret.clone())),
            Auth::Key(_) => pairs.extend(asserted(&self.assertion(&json!({})))),
            Auth::Public => {}
        }
        pairs
    }

    /// POST a form as this client, proving the key it has; once more with the server's nonce when it asks for one.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Response {
        let mut answer = self.once(path, form).await;
        if answer.status() == 400 && answer.json()["error"] == "use_dpop_nonce" {
            assert!(answer.header("dpop-nonce").is_some(), "{:?}", answer.head);
            answer = self.once(path, form).await;
        }
        answer
    }

    /// The same, asked only once.
    async fn once(&self, path: &str, form: &[(&str, &str)]) -> Response {
        let mut pairs = self.authentication();
        pairs.extend(form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let proof = self.holder.as_ref().map(|holder| {
            let proof = holder.proof("POST", &format!("{}{path}", self.origin), self.clock.now().as_secs());
            let nonce = self.nonce.lock().unwrap().clone();
            nonce.map_or(proof.clone(), |nonce| proof.nonce(&nonce)).sign()
        });
        let answer = send(self.addr, path, &pairs, proof.as_deref()).await;
        if let Some(nonce) = answer.header("dpop-nonce") {
            *self.nonce.lock().unwrap() = Some(nonce.to_owned());
        }
        answer
    }

    /// Ask the token endpoint.
    pub(crate) async fn token(&self, form: &[(&str, &str)]) -> Response {
        self.post("/oauth/token", form).await
    }

    /// Ask the token endpoint for what has to be given.
    pub(crate) async fn granted(&self, form: &[(&str, &str)]) -> Value {
        let answer = self.token(form).await;
        assert_eq!(answer.status(), 200, "{form:?}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{:?}", answer.head);
        let json = answer.json();
        let kind = if self.holder.is_some() { "DPoP" } else { "Bearer" };
        assert_eq!(json["token_type"], kind, "{json}");
        json
    }

    /// Ask the token endpoint for what has to be refused with this error.
    pub(crate) async fn refused(&self, what: &str, error: &str, form: &[(&str, &str)]) {
        let answer = self.token(form).await;
        assert!([400, 401].contains(&answer.status()), "{what}: {} {}", answer.status(), answer.text());
        assert_eq!(answer.json()["error"], error, "{what}: {}", answer.text());
    }

    /// An access token for the client itself.
    pub(crate) async fn access_token(&self) -> String {
        let json = self.granted(&[("grant_type", "client_credentials"), ("scope", "chat")]).await;
        json["access_token"].as_str().unwrap().to_owned()
    }

    /// Use a refresh token.
    pub(crate) async fn refresh(&self, token: &str) -> Response {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// Whether the token service says the token is active.
    pub(crate) async fn active(&self, token: &str) -> bool {
        let answer = self.post("/oauth/introspect", &[("token", token)]).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["active"].as_bool().unwrap()
    }

    /// Sign the provider's user in with the code grant: the authorization code and its verifier.
    pub(crate) async fn code(&self, op: &Op, scope: &str) -> (String, String) {
        let verifier = format!("{}{}", random(), random());
        let challenge = testkit::dpop::sha256(&verifier);
        let query = encode(&[
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", REDIRECT),
            ("scope", scope),
            ("state", "state-of-the-client"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let mut browser = Browser::new(self.addr, &self.origin);
        let away = browser.get(&format!("/oauth/authorize?{query}")).await;
        let mut home = browser.sign_in(op, &away).await;
        if onward(&home).is_none() {
            // A public client's name can be said by anybody, so the person is asked.
            home = browser.submit(&home, &[("decision", "allow")]).await;
        }
        let location = onward(&home).unwrap_or_else(|| panic!("{}: {}", home.status(), home.text()));
        assert!(location.starts_with(REDIRECT), "{location}");
        let code = testkit::op::parameters(location.split_once('?').unwrap().1).remove("code");
        (code.unwrap_or_else(|| panic!("no code in {location}")), verifier)
    }

    /// Sign the provider's user in and redeem the code.
    pub(crate) async fn sign_in(&self, op: &Op, scope: &str) -> Value {
        let (code, verifier) = self.code(op, scope).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT),
            ("code_verifier", verifier.as_str()),
        ];
        self.granted(&form).await
    }

    /// Who calls the data plane with a token this client was given; takes the key with it.
    pub(crate) fn caller(&mut self, token: &str) -> Caller {
        let holder = self.holder.take().expect("a client with a key");
        Caller::new(self.addr, holder, token.to_owned(), Arc::clone(&self.clock)).at(&self.origin)
    }
}

/// The form's members of a client assertion.
pub(crate) fn asserted(assertion: &str) -> Vec<(String, String)> {
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    vec![("client_assertion_type".to_owned(), kind.to_owned()), ("client_assertion".to_owned(), assertion.to_owned())]
}

/// POST these pairs as a form.
pub(crate) async fn send(addr: SocketAddr, path: &str, pairs: &[(String, String)], proof: Option<&str>) -> Response {
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend(proof.map(|proof| ("dpop", proof)));
    raw::request(addr, "POST", path, &headers, encode(&pairs).as_bytes()).await
}

/// As a query or form.
pub(crate) fn encode(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODED)));
    pairs.collect::<Vec<_>>().join("&")
}

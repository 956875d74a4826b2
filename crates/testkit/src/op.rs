//! A small OpenID provider that signs its one user in at once: discovery, authorization, token endpoint, key set. Honest
//! by default, and wrong in one way at a time when a test says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::idp::{DISCOVERY, JWKS, OAUTH_DISCOVERY};
use crate::keys::{TestKey, b64, key_set, unsigned};
use crate::mock::{Answer, Mock, Received};

/// The client the provider knows, and its secret. [`Op::public_client`] takes the secret away.
pub const CLIENT: (&str, &str) = ("vouchgate-at-op", "a secret of the tests, 32 bytes long");
/// What it calls its user.
pub const SUBJECT: &str = "248289761001";
/// Where it takes browsers.
pub const AUTHORIZE: &str = "/authorize";
/// Where it redeems codes.
pub const TOKEN: &str = "/token";

/// A running provider.
#[derive(Debug)]
pub struct Op {
    mock: Mock,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    behaviour: Mutex<Behaviour>,
    /// Codes given and not redeemed yet, with the request they answer.
    codes: Mutex<HashMap<String, HashMap<String, String>>>,
    issued: Mutex<u32>,
    url: Mutex<String>,
}

/// What the provider is like. A test changes what it needs.
#[derive(Debug)]
pub struct Behaviour {
    /// What it signs with.
    pub key: Arc<TestKey>,
    /// What it publishes.
    pub published: Vec<Arc<TestKey>>,
    /// Where every token and metadata member is wrong.
    pub faults: Faults,
    /// Claims put into each ID token, over its own.
    pub claims: Value,
    /// Members put into the metadata, over its own; `null` takes one away.
    pub metadata: Value,
    /// Redeeming takes this secret; `None`: a public client.
    pub secret: Option<String>,
    /// Now, in seconds since the epoch; `None`: the machine's.
    pub now: Option<i64>,
}

/// Ways to be wrong. None by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Answer the authorization request with this error.
    pub error: Option<String>,
    /// Send this `iss` with the answer (RFC 9207); an empty text sends none.
    pub answer_iss: Option<String>,
    /// The algorithm in the header of the ID token; with `none` it has no signature.
    pub alg: Option<String>,
    /// Its `typ`.
    pub typ: Option<String>,
    /// Claims left out of it.
    pub without: Vec<&'static str>,
    /// Sign with this key, whatever is published.
    pub signed_by: Option<Arc<TestKey>>,
    /// The whole answer of the token endpoint, in place of tokens.
    pub token_answer: Option<Answer>,
    /// Take any PKCE verifier.
    pub ignore_pkce: bool,
}

impl Op {
    /// A provider on a free port whose key is of this algorithm.
    pub async fn start(alg: &str) -> Self {
        Self::with_key(Arc::new(TestKey::generate(alg))).await
    }

    /// A provider that signs with this key.
    pub async fn with_key(key: Arc<TestKey>) -> Self {
        let behaviour = Behaviour {
            published: vec![Arc::clone(&key)],
            key,
            faults: Faults::default(),
            claims: json!({}),
            metadata: json!({}),
            secret: Some(CLIENT.1.to_owned()),
            now: None,
        };
        let state = Arc::new(State {
            behaviour: Mutex::new(behaviour),
            codes: Mutex::default(),
            issued: Mutex::default(),
            url: Mutex::default(),
        });
        let answering = Arc::clone(&state);
        let mock = Mock::start_with(move |request| answering.answer(request)).await;
        *state.url.lock().unwrap() = mock.url();
        Self { mock, state }
    }

    /// Its identifier.
    pub fn issuer(&self) -> String {
        self.mock.url()
    }

    /// The server behind it.
    pub fn mock(&self) -> &Mock {
        &self.mock
    }

    /// Be otherwise from now on.
    pub fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.behaviour.lock().unwrap());
    }

    /// Be wrong in these ways from now on, and in no others.
    pub fn wrong(&self, faults: Faults) {
        self.change(|behaviour| behaviour.faults = faults);
    }

    /// Put these claims into ID tokens from now on.
    pub fn claim(&self, claims: Value) {
        self.change(|behaviour| behaviour.claims = claims);
    }

    /// Know the client without a secret.
    pub fn public_client(&self) {
        self.change(|behaviour| behaviour.secret = None);
    }

    /// How often this path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.mock.requests().iter().filter(|request| request.path() == path).count()
    }

    /// What it answers a browser that asks for `url`: the address the browser is sent to. As [`AUTHORIZE`] over HTTP does,
    /// without the way there.
    pub fn visit(&self, url: &str) -> String {
        let (_, query) = url.split_once('?').unwrap_or_default();
        self.state.authorize(query).unwrap_or_else(|error| panic!("the provider refuses {url}: {error}"))
    }
}

impl State {
    fn answer(&self, request: &Received) -> Answer {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        match (request.method.as_str(), path) {
            ("GET", DISCOVERY | OAUTH_DISCOVERY) => Answer::json(200, &self.metadata()),
            ("GET", JWKS) => {
                let behaviour = self.behaviour.lock().unwrap();
                let keys: Vec<&TestKey> = behaviour.published.iter().map(AsRef::as_ref).collect();
                Answer::json(200, &key_set(&keys))
            }
            ("GET", AUTHORIZE) => match self.authorize(query) {
                Ok(location) => Answer::redirect(303, &location),
                Err(error) => Answer::bytes(400, "text/plain", error),
            },
            ("POST", TOKEN) => self.redeem(request),
            _ => Answer::bytes(404, "text/plain", "not found"),
        }
    }

    fn metadata(&self) -> Value {
        let url = self.url.lock().unwrap().clone();
        let mut metadata = json!({
            "issuer": url,
            "jwks_uri": format!("{url}{JWKS}"),
            "authorization_endpoint": format!("{url}{AUTHORIZE}"),
            "token_endpoint": format!("{url}{TOKEN}"),
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        });
        overlay(&mut metadata, &self.behaviour.lock().unwrap().metadata);
        metadata
    }

    /// Sign the user in at once: the redirect with the code, or what is wrong with the request.
    fn authorize(&self, query: &str) -> Result<String, &'static str> {
        let asked = parameters(query);
        let get = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
        if get("client_id") != CLIENT.0 || get("response_type") != "code" {
            return Err("another client or response type");
        }
        if !get("scope").split(' ').any(|scope| scope == "openid") {
            return Err("no openid in the scope");
        }
        if get("code_challenge_method") != "S256" || get("code_challenge").len() != 43 {
            return Err("no PKCE");
        }
        let behaviour = self.behaviour.lock().unwrap();
        let iss = behaviour.faults.answer_iss.clone().unwrap_or_else(|| self.url.lock().unwrap().clone());
        let mut answer = vec![("state".to_owned(), get("state").to_owned())];
        if !iss.is_empty() {
            answer.push(("iss".to_owned(), iss));
        }
        if let Some(error) = &behaviour.faults.error {
            answer.push(("error".to_owned(), error.clone()));
        } else {
            let mut issued = self.issued.lock().unwrap();
            *issued += 1;
            let code = format!("op-code-{issued}");
            answer.push(("code".to_owned(), code.clone()));
            self.codes.lock().unwrap().insert(code, asked.clone());
        }
        Ok(format!("{}?{}", get("redirect_uri"), encode(&answer)))
    }

    fn redeem(&self, request: &Received) -> Answer {
        let behaviour = self.behaviour.lock().unwrap();
        if let Some(answer) = &behaviour.faults.token_answer {
            return answer.clone();
        }
        let sent = parameters(&String::from_utf8_lossy(&request.body));
        let get = |name: &str| sent.get(name).map(String::as_str).unwrap_or_default();
        let refuse = |error: &str| Answer::json(400, &json!({ "error": error }));
        if !authenticated(&behaviour, request, get("client_id"), get("client_secret")) {
            return Answer::json(401, &json!({"error": "invalid_client"}));
        }
        if get("grant_type") != "authorization_code" {
            return refuse("unsupported_grant_type");
        }
        let Some(asked) = self.codes.lock().unwrap().remove(get("code")) else { return refuse("invalid_grant") };
        let challenge = b64(digest(&SHA256, get("code_verifier").as_bytes()));
        if asked.get("redirect_uri").map(String::as_str) != Some(get("redirect_uri")) {
            return refuse("invalid_grant");
        }
        if !behaviour.faults.ignore_pkce && asked.get("code_challenge") != Some(&challenge) {
            return refuse("invalid_grant");
        }
        let access_token = "an access token of the provider's own";
        let id_token = id_token(&behaviour, &self.url.lock().unwrap(), &asked, access_token);
        Answer::json(
            200,
            &json!({"access_token": access_token, "token_type": "Bearer", "expires_in": 300, "id_token": id_token}),
        )
    }
}

/// By `client_secret_basic` or in the form.
fn authenticated(behaviour: &Behaviour, request: &Received, id: &str, secret: &str) -> bool {
    let Some(wanted) = &behaviour.secret else { return id == CLIENT.0 && request.header("authorization").is_none() };
    let pair = encode(&[(CLIENT.0.to_owned(), wanted.clone())]).replace('=', ":");
    match request.header("authorization") {
        Some(basic) => basic == format!("Basic {}", b64_padded(pair.as_bytes())),
        None => (id, secret) == (CLIENT.0, wanted),
    }
}

fn id_token(behaviour: &Behaviour, url: &str, asked: &HashMap<String, String>, access_token: &str) -> String {
    let now = behaviour.now.unwrap_or_else(machine_time);
    let half = digest(&SHA256, access_token.as_bytes()).as_ref()[..16].to_vec();
    let mut claims = json!({
        "iss": url,
        "sub": SUBJECT,
        "aud": CLIENT.0,
        "iat": now,
        "exp": now + 300,
        "auth_time": now,
        "sid": "op-session-1",
        "at_hash": b64(half),
    });
    if let Some(nonce) = asked.get("nonce") {
        claims["nonce"] = json!(nonce);
    }
    overlay(&mut claims, &behaviour.claims);
    let faults = &behaviour.faults;
    for name in &faults.without {
        claims.as_object_mut().unwrap().remove(*name);
    }
    let key = faults.signed_by.as_ref().unwrap_or(&behaviour.key);
    let mut header = json!({"alg": faults.alg.as_deref().unwrap_or(&key.alg), "kid": key.kid});
    if let Some(typ) = &faults.typ {
        header["typ"] = json!(typ);
    }
    if header["alg"].as_str().unwrap().eq_ignore_ascii_case("none") {
        return unsigned(&header, &claims);
    }
    key.mint_with(&header, &claims)
}

#[allow(clippy::disallowed_methods, reason = "a provider has a clock of its own")]
fn machine_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Put members over those of `object`; `null` takes one away.
fn overlay(object: &mut Value, members: &Value) {
    let object = object.as_object_mut().unwrap();
    for (name, value) in members.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(object.remove(name)),
            value => drop(object.insert(name.clone(), value.clone())),
        }
    }
}

fn b64_padded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The parameters of a query or form; the last of a name counts.
pub fn parameters(text: &str) -> HashMap<String, String> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&hex, 16).expect("two hexadecimal digits")
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// Parameters as a query or form.
pub fn encode(pairs: &[(String, String)]) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let part = |text: &str| {
        let encode = |b: u8| match b {
            b' ' => "+".to_owned(),
            b if safe(b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        };
        text.bytes().map(encode).collect::<String>()
    };
    pairs.iter().map(|(name, value)| format!("{}={}", part(name), part(value))).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw;

    fn request(op: &Op, verifier: &str) -> String {
        let pairs = [
            ("client_id", CLIENT.0),
            ("response_type", "code"),
            ("redirect_uri", "https://ai.example.com/oauth/callback"),
            ("scope", "openid profile"),
            ("state", "s t/a+te"),
            ("nonce", "n"),
            ("code_challenge_method", "S256"),
            ("code_challenge", &b64(digest(&SHA256, verifier.as_bytes()))),
        ];
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        format!("{}{AUTHORIZE}?{}", op.issuer(), encode(&pairs))
    }

    async fn redeem(op: &Op, code: &str, verifier: &str) -> (u16, Value) {
        let form = format!(
            "grant_type=authorization_code&code={code}&code_verifier={verifier}&client_id={}&client_secret={}&redirect_uri=https%3A%2F%2Fai.example.com%2Foauth%2Fcallback",
            CLIENT.0,
            CLIENT.1.replace(' ', "+").replace(',', "%2C"),
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = raw::request(op.mock().addr(), "POST", TOKEN, &headers, form.as_bytes()).await;
        (answer.status(), answer.json())
    }

    #[tokio::test]
    async fn it_signs_in_and_gives_an_id_token_once_to_whoever_holds_the_verifier() {
        let op = Op::start("ES256").await;
        let back = op.visit(&request(&op, "v"));
        let answer = parameters(back.split_once('?').unwrap().1);
        assert_eq!((answer["state"].as_str(), answer["iss"].as_str()), ("s t/a+te", op.issuer().as_str()));
        assert_eq!(redeem(&op, &answer["code"], "other").await.0, 400);
        assert_eq!(redeem(&op, &answer["code"], "v").await.0, 400, "the code is spent");

        let back = op.visit(&request(&op, "v"));
        let answer = parameters(back.split_once('?').unwrap().1);
        let (status, tokens) = redeem(&op, &answer["code"], "v").await;
        assert_eq!((status, tokens["id_token"].as_str().unwrap().split('.').count()), (200, 3));
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let pairs = [("a b".to_owned(), "ü&=+%\n".to_owned()), ("c".to_owned(), String::new())];
        assert_eq!(parameters(&encode(&pairs)), HashMap::from(pairs));
    }
}

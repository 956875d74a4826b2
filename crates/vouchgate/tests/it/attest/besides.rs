//! What goes with an installation besides its evidence: its user's token, what a rule asks for, what Apple says of its device.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};
use vouchgate_client::Client;
use vouchgate_client::attester::{AttestError, Attestation, Attester, Platform, Request, StepUp};
use vouchgate_client::signer::{PublicJwk, Signer};
use vouchgate_client::simulator::{Browser, Iphone, Passkey};

use super::{World, chat, read};
use crate::support::{command, secret_file};

#[tokio::test]
async fn a_token_goes_with_the_user_it_was_got_for() {
    let world = World::with("", "user_token = \"X-User-Authorization\"").await;
    let mut options = world.options();
    options.user_token = Some(http::HeaderName::from_static("x-user-authorization"));
    let client = Client::new(options, Arc::new(world.iphone())).unwrap();
    client.set_user_token(Some("Bearer ann")).unwrap();
    assert_eq!(client.send(chat("fast")).await.unwrap().status, 200);
    let anns = client.token().await.unwrap();
    // Somebody who has her token and another user's session; and she herself.
    for (user, expected) in [(Some("Bearer bob"), 401), (None, 401), (Some("Bearer ann"), 200)] {
        let mut signed = chat("fast");
        let fields = client.sign(signed.method(), signed.uri(), signed.headers(), signed.body()).await.unwrap();
        *signed.headers_mut() = fields;
        signed.headers_mut().remove("x-user-authorization");
        if let Some(user) = user {
            signed.headers_mut().insert("x-user-authorization", user.parse().unwrap());
        }
        assert_eq!(read(client.send_as_is(signed).await.unwrap()).await.0, expected, "{user:?}");
    }
    // Another user signs in: the client gets another token by itself.
    client.set_user_token(Some("Bearer bob")).unwrap();
    assert_eq!(client.send(chat("fast")).await.unwrap().status, 200);
    assert_ne!(client.token().await.unwrap(), anns);
    client.set_user_token(None).unwrap();
    assert_eq!(client.send(chat("fast")).await.unwrap().status, 200);
    // What goes to the provider is neither's.
    assert!(world.upstream.requests().iter().all(|sent| sent.header("x-user-authorization").is_none()));
    assert!(world.client(Arc::new(world.iphone())).set_user_token(Some("Bearer eve")).is_err());
}

/// An iPhone on a VPN, whose user is asked for something besides and shows this, or nothing.
struct WithUser {
    phone: Iphone,
    shows: fn(&str) -> Option<Value>,
    asked: Mutex<Vec<String>>,
}

impl WithUser {
    fn new(world: &World, shows: fn(&str) -> Option<Value>) -> Arc<Self> {
        Arc::new(Self { phone: world.iphone(), shows, asked: Mutex::default() })
    }
}

impl Attester for WithUser {
    fn platform(&self) -> Platform {
        self.phone.platform()
    }

    fn reported(&self) -> Vec<String> {
        vec!["vpn".to_owned()]
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        self.phone.new_key()
    }

    fn attest(&self, request: &Request<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        self.phone.attest(request, key)
    }

    fn assert(&self, client_data: &[u8]) -> Result<Option<Vec<u8>>, AttestError> {
        self.phone.assert(client_data)
    }

    fn step_up(&self, asked: &StepUp<'_>) -> Result<Option<Value>, AttestError> {
        self.asked.lock().unwrap().push(asked.kinds.join(" "));
        Ok((self.shows)(asked.jkt))
    }

    fn key(&self, public: &PublicJwk) -> Option<Arc<dyn Signer>> {
        self.phone.key(public)
    }
}

fn response(kind: &str, text: &str) -> Value {
    json!({"type": kind, "response": text})
}

/// As Turnstile and reCAPTCHA document their answers. Whoever solved a Turnstile for an installation said so in `cData`; reCAPTCHA knows
/// of no such thing, and forgets here what it was asked about.
async fn puzzles() -> Mock {
    Mock::start_with(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let cdata = body.split("solved-for-").nth(1).map(|rest| rest.split('&').next().unwrap_or_default().to_owned());
        let at =
            base::Timestamp::from_millis(i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap());
        let mut answer = json!({"success": true, "challenge_ts": at.rfc3339(), "hostname": "app.example.com"});
        if let Some(cdata) = cdata {
            answer["cdata"] = cdata.into();
            answer["error-codes"] = json!([]);
        }
        Answer::json(200, &answer)
    })
    .await
}

/// A gateway whose rules ask for one of these where an app reports a VPN.
async fn careful(puzzles: &Mock, secrets: &std::path::Path, with: &str) -> World {
    let secret = secret_file(secrets, "puzzle-secret", "0x4AAA");
    let puzzle = format!(
        "{{ secret = {{ file = \"{}\" }}, url = \"{}/siteverify\", allow_private = true, step_up_only = true }}",
        secret.display(),
        puzzles.url()
    );
    let app = format!(
        "web = {{ origins = [\"https://app.example.com\"], turnstile = {puzzle}, recaptcha = {puzzle} }}\n\
         [[risk]]\nname = \"careful\"\n\
         rules = [{{ when = {{ flag = \"vpn\" }}, do = \"step_up\", with = {with}, for = \"1h\" }}]\n\
         [cors]\norigins = [\"https://app.example.com\"]"
    );
    World::with("", &app).await
}

#[tokio::test]
async fn a_puzzle_is_solved_by_the_apps_user_where_a_rule_asks_for_it() {
    let (puzzles, dir) = (puzzles().await, tempfile::tempdir().unwrap());
    let world = careful(&puzzles, dir.path(), "\"turnstile\"").await;
    let unwilling = WithUser::new(&world, |_| None);
    let error = world.client(Arc::clone(&unwilling) as _).ready().await.unwrap_err();
    assert_eq!(world.reasons(error.arc().unwrap()), ["vpn"]);
    assert_eq!(unwilling.asked.lock().unwrap().first().map(String::as_str), Some("turnstile"));
    let willing = WithUser::new(&world, |jkt| Some(response("turnstile", &format!("solved-for-{jkt}"))));
    let client = world.client(Arc::clone(&willing) as _);
    assert_eq!(client.ready().await.unwrap().stepped_up.as_deref(), Some("turnstile"));
    let asked = willing.asked.lock().unwrap().len();
    client.refresh().await.unwrap();
    assert_eq!(willing.asked.lock().unwrap().len(), asked, "it is good for a while");
}

#[tokio::test]
async fn a_puzzle_solved_for_another_installation_or_shown_before_is_refused() {
    let (puzzles, dir) = (puzzles().await, tempfile::tempdir().unwrap());
    let world = careful(&puzzles, dir.path(), "[\"turnstile\", \"recaptcha\"]").await;
    let stolen = WithUser::new(&world, |_| Some(response("turnstile", &format!("solved-for-{}", "A".repeat(43)))));
    let error = world.client(stolen).ready().await.unwrap_err();
    world.refused_for(&error, "check_bound_elsewhere");
    let again = |_: &str| Some(response("recaptcha", "solved-by-a-farm"));
    world.client(WithUser::new(&world, again)).ready().await.unwrap();
    let error = world.client(WithUser::new(&world, again)).ready().await.unwrap_err();
    world.refused_for(&error, "evidence_used");
}

/// A browser whose user has a passkey, of which somebody made a copy.
struct Copied {
    browser: Browser,
    copy: Passkey,
    by_copy: AtomicBool,
}

impl Attester for Copied {
    fn platform(&self) -> Platform {
        Platform::Web
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        self.browser.new_key()
    }

    fn attest(&self, request: &Request<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        self.browser.attest(request, key)
    }

    fn step_up(&self, asked: &StepUp<'_>) -> Result<Option<Value>, AttestError> {
        if self.by_copy.load(Ordering::Relaxed) {
            return self.copy.shown(asked.client_data).map(Some);
        }
        self.browser.step_up(asked)
    }

    fn key(&self, public: &PublicJwk) -> Option<Arc<dyn Signer>> {
        self.browser.key(public)
    }
}

#[tokio::test]
async fn a_passkey_is_shown_for_every_token_and_a_copy_of_it_is_found_by_its_counter() {
    let app = "web = { origins = [\"https://app.example.com\"], webauthn = { rp_id = \"app.example.com\", at_refresh = true } }\n\
               [cors]\norigins = [\"https://app.example.com\"]";
    let world = World::with("", app).await;
    let passkey = Passkey::new("app.example.com", "https://app.example.com").unwrap();
    let copy = passkey.copied();
    let browser = Browser::with_passkey(passkey);
    let person = Arc::new(Copied { browser, copy, by_copy: AtomicBool::new(false) });
    let client = world.client(Arc::clone(&person) as _);
    client.ready().await.unwrap();
    for _ in 0..2 {
        assert_eq!(client.refresh().await.unwrap().stepped_up.as_deref(), Some("webauthn"));
    }
    person.by_copy.store(true, Ordering::Relaxed);
    world.refused_for(&client.refresh().await.unwrap_err(), "counter_regression");
    let quarantined = command(world.path(), &["device", "list", "--status", "quarantined", "--json"], b"");
    let quarantined: Value = serde_json::from_str(&quarantined).unwrap();
    assert_eq!(quarantined.as_array().map(Vec::len), Some(1), "{quarantined}");
}

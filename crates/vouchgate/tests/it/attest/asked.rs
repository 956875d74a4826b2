//! What others say of a device, asked by the built program: Apple's two bits and Google's verdicts, by mocks that answer as the
//! documentation of both has it; what becomes of odd answers, of none and of late ones.

use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base::{Clock as _, SystemClock};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock, Received};
use vouchgate_client::Error;
use vouchgate_client::attester::{AttestError, Attestation, Attester, Platform, Request};
use vouchgate_client::signer::Signer;

use super::World;
use super::hand::sha256;
use crate::support::secret_file;

/// What a mock answers now, and what it was asked.
type Say = Box<dyn Fn(&Received) -> Answer + Send + Sync>;
type Says = Arc<Mutex<Say>>;

async fn outside() -> (Mock, Says) {
    let says: Says = Arc::new(Mutex::new(Box::new(|_| Answer::nothing())));
    let answering = Arc::clone(&says);
    (Mock::start_with(move |asked| (answering.lock().unwrap())(asked)).await, says)
}

fn say(says: &Says, answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
    *says.lock().unwrap() = Box::new(answer);
}

/// A phone that brings something besides its own evidence: made of the client data.
struct Beside<A, F>(A, F);

impl<A: Attester, F: Fn(&[u8]) -> (&'static str, Value) + Send + Sync> Attester for Beside<A, F> {
    fn platform(&self) -> Platform {
        self.0.platform()
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        self.0.new_key()
    }

    fn attest(&self, request: &Request<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        let mut made = self.0.attest(request, key)?;
        let (name, value) = (self.1)(request.client_data);
        made.evidence[name] = value;
        Ok(made)
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

/// A gateway that asks a mock of Apple's for the two bits.
async fn apple(more: &str) -> (World, Mock, Says, tempfile::TempDir) {
    let (mock, says) = outside().await;
    let pair = aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING);
    let files = tempfile::tempdir().unwrap();
    let key = secret_file(files.path(), "AuthKey.p8", &pem(pair.unwrap().to_pkcs8v1().unwrap().as_ref()));
    let ios = format!(
        ", device_check = {{ key = {{ file = {:?} }}, key_id = \"KEYID12345\", url = \"{}\", allow_private = true{more} }}",
        key.display().to_string(),
        mock.url()
    );
    let rules =
        "[[risk]]\nname = \"bits\"\nrules = [{ when = { flag = \"devicecheck_bits\", in = [1, 3] }, do = \"deny\" }]\n";
    (World::asking((&ios, ""), rules).await, mock, says, files)
}

/// Enrol an iPhone with a token of the device.
async fn with_token(world: &World, token: &str) -> Result<(), Error> {
    let token = Value::from(token);
    let phone = Beside(world.iphone(), move |_: &[u8]| ("device_check", token.clone()));
    world.client(Arc::new(phone)).ready().await.map(drop)
}

fn bits(bit0: bool) -> Answer {
    Answer::json(200, &json!({"bit0": bit0, "bit1": false, "last_update_time": "2026-10"}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apples_bits_are_asked_for_with_the_teams_key_and_decide() {
    let (world, mock, says, _files) = apple("").await;
    say(&says, |_| bits(false));
    with_token(&world, "AAAA").await.unwrap();
    let asked = mock.request(0).await;
    assert_eq!((asked.path(), asked.json()["device_token"].as_str()), ("/v1/query_two_bits", Some("AAAA")));
    assert!(asked.json()["timestamp"].is_i64() && asked.json()["transaction_id"].is_string(), "{}", asked.json());
    // A token of the team's, signed by the key: https://developer.apple.com/documentation/devicecheck.
    let token = asked.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let part = |at: usize| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap()).unwrap()
    };
    assert_eq!(
        (&part(0)["alg"], &part(0)["kid"], &part(1)["iss"]),
        (&json!("ES256"), &json!("KEYID12345"), &json!("ABCDE12345"))
    );

    // A rule denies what was marked; the client is told nothing of it.
    say(&says, |_| bits(true));
    let error = with_token(&world, "AAAA").await.unwrap_err();
    world.refused_for(&error, "devicecheck_bits");
    // A device of which Apple has no bits yet.
    say(&says, |_| Answer::bytes(200, "text/plain", "Failed to find bit state"));
    with_token(&world, "AAAA").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_answers_of_apples_and_none_let_in_unless_they_are_required() {
    let gate = Gate::closed();
    for required in [false, true] {
        let (world, mut mock, says, _files) = apple(if required { ", required = true" } else { "" }).await;
        let odd: [(&str, Say); 7] = [
            ("bits that are none", Box::new(|_| Answer::json(200, &json!({"bit0": 1, "bit1": "x"})))),
            ("no JSON", Box::new(|_| Answer::bytes(200, "application/json", "{"))),
            ("too much", Box::new(|_| Answer::bytes(200, "application/json", "x".repeat(1 << 20)))),
            (
                "our key is not taken",
                Box::new(|_| Answer::bytes(401, "text/plain", "Unable to verify authorization token")),
            ),
            ("its own trouble", Box::new(|_| Answer::bytes(503, "text/plain", ""))),
            ("elsewhere", Box::new(|_| Answer::redirect(302, "http://127.0.0.1:1/"))),
            ("cut off", Box::new(|_| Answer::json(200, &json!({"bit0": false, "bit1": false})).cut_after(5))),
        ];
        for (what, answer) in odd {
            *says.lock().unwrap() = answer;
            assert_eq!(with_token(&world, "AAAA").await.is_ok(), !required, "{what}, required: {required}");
        }
        // What Apple says of the token is the device's fault, whatever is required.
        say(&says, |_| Answer::bytes(400, "text/plain", "Missing or badly formatted device token payload"));
        let error = with_token(&world, "AAAA").await.unwrap_err();
        world.refused_for(&error, "check_failed");
        // One that never answers is given up, and one that is not there.
        let held = gate.clone();
        say(&says, move |_| bits(false).hold_head(&held));
        assert_eq!(with_token(&world, "AAAA").await.is_ok(), !required, "late, required: {required}");
        mock.die().await;
        match with_token(&world, "AAAA").await {
            Ok(()) => assert!(!required),
            Err(error) => assert_eq!((required, error.status().name()), (true, "RETRY_LATER"), "{error}"),
        }
    }
}

/// A gateway that has a mock of Google's open tokens, for a service account.
async fn google() -> (World, Mock, Says, tempfile::TempDir) {
    let (mock, says) = outside().await;
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let account = json!({"type": "service_account", "client_email": "asks@project.iam.gserviceaccount.com",
                         "private_key_id": "k1", "private_key": pem(der.as_ref()), "token_uri": "https://evil.example/token"});
    let files = tempfile::tempdir().unwrap();
    let account = secret_file(files.path(), "account.json", &account.to_string());
    let android = format!(
        ", play_integrity = {{ service_account = {{ file = {:?} }}, url = \"{}\", token_url = \"{}/token\", allow_private = true, required = true }}",
        account.display().to_string(),
        mock.url(),
        mock.url()
    );
    let world = World::asking(("", &android), "").await;
    (world, mock, says, files)
}

/// A token that only the mock reads: what it was asked for with is in the middle.
fn play_token(client_data: &[u8]) -> (&'static str, Value) {
    ("play_integrity", format!("eyJ.{}.b", URL_SAFE_NO_PAD.encode(sha256(client_data))).into())
}

/// What Google answers: an access token, and what is in the token it is to open
/// (<https://developer.android.com/google/play/integrity/verdicts>).
fn googles(asked: &Received, change: &Value) -> Answer {
    if asked.path() == "/token" {
        return Answer::json(200, &json!({"access_token": "ya29.mock", "expires_in": 3599, "token_type": "Bearer"}));
    }
    let token = asked.json()["integrity_token"].as_str().unwrap().to_owned();
    let now = SystemClock.now().as_millis().to_string();
    let mut payload = json!({
        "requestDetails": {"requestPackageName": "com.example.chat", "nonce": token.split('.').nth(1), "timestampMillis": now},
        "appIntegrity": {"appRecognitionVerdict": "PLAY_RECOGNIZED", "packageName": "com.example.chat",
                         "certificateSha256Digest": [URL_SAFE_NO_PAD.encode([7; 32])], "versionCode": "42"},
        "deviceIntegrity": {"deviceRecognitionVerdict": ["MEETS_DEVICE_INTEGRITY"]},
        "accountDetails": {"appLicensingVerdict": "LICENSED"},
    });
    for (group, members) in change.as_object().into_iter().flatten() {
        for (name, value) in members.as_object().into_iter().flatten() {
            payload[group][name] = value.clone();
        }
    }
    Answer::json(200, &json!({"tokenPayloadExternal": payload}))
}

async fn phone(world: &World) -> Result<(), Error> {
    world.client(Arc::new(Beside(world.android(), play_token))).ready().await.map(drop)
}

/// The list of what is revoked comes a moment after the start.
async fn listed(world: &World) {
    for _ in 0..200 {
        match phone(world).await {
            Err(error) if error.status().name() == "RETRY_LATER" => {}
            other => return other.unwrap(),
        }
    }
    panic!("the list of what is revoked never came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_opens_verdicts_for_the_service_account_and_what_they_say_counts() {
    let (world, mock, says, _files) = google().await;
    say(&says, |asked| googles(asked, &Value::Null));
    listed(&world).await;
    let asked = mock.requests();
    let paths: Vec<&str> = asked.iter().map(|asked| asked.path()).collect();
    let decode = "/v1/com.example.chat:decodeIntegrityToken";
    assert!(paths.starts_with(&["/token", decode]), "{paths:?}");
    assert_eq!(asked[1].header("authorization"), Some("Bearer ya29.mock"));
    let body = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert!(body.contains("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"), "{body}");
    assert_eq!(paths.iter().filter(|path| **path == "/token").count(), 1, "it is kept while it counts");

    for (change, reason) in [
        (json!({"requestDetails": {"nonce": "b3RoZXI"}}), "nonce_mismatch"),
        (json!({"requestDetails": {"requestPackageName": "com.evil.chat"}}), "package_mismatch"),
        (json!({"requestDetails": {"timestampMillis": "1000"}}), "verdict_too_old"),
        (json!({"appIntegrity": {"certificateSha256Digest": ["b3RoZXI"]}}), "signing_digest_mismatch"),
    ] {
        let changed = change.clone();
        say(&says, move |asked| googles(asked, &changed));
        let error = phone(&world).await.unwrap_err();
        let reasons = world.reasons(error.arc().expect("a code"));
        assert_eq!(reasons, [reason], "{change}");
    }
    say(&says, |asked| googles(asked, &Value::Null));
    phone(&world).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_answers_of_googles_and_none_let_nobody_in_where_a_verdict_is_required() {
    let (world, mut mock, says, _files) = google().await;
    say(&says, |asked| googles(asked, &Value::Null));
    listed(&world).await;
    let gate = Gate::closed();
    let held = gate.clone();
    let odd: [(&str, &str, Say); 6] = [
        ("a token that is none", "REJECTED", Box::new(|_| Answer::json(400, &json!({"error": {"code": 400}})))),
        ("no verdict", "REJECTED", Box::new(|_| Answer::json(200, &json!({})))),
        ("no JSON", "REJECTED", Box::new(|_| Answer::bytes(200, "application/json", "["))),
        ("too much", "any", Box::new(|_| Answer::bytes(200, "application/json", "x".repeat(1 << 20)))),
        ("its own trouble", "any", Box::new(|_| Answer::bytes(500, "text/html", "<html>"))),
        ("late", "any", Box::new(move |asked| googles(asked, &Value::Null).hold_head(&held))),
    ];
    for (what, status, answer) in odd {
        *says.lock().unwrap() = answer;
        let error = phone(&world).await.unwrap_err();
        assert!(status == "any" || error.status().name() == status, "{what}: {error}");
    }
    // Access that was taken away is asked for anew, once, and is not the device's fault.
    let before = mock.count();
    say(
        &says,
        |asked| if asked.path() == "/token" { googles(asked, &Value::Null) } else { Answer::json(401, &json!({})) },
    );
    let error = phone(&world).await.unwrap_err();
    assert_eq!(world.reasons(error.arc().expect("a code")), ["check_credentials"]);
    let asked = mock.requests();
    let paths: Vec<&str> = asked.iter().skip(before).map(|asked| asked.path()).collect();
    assert!(paths.iter().filter(|path| **path == "/token").count() <= 1 && paths.len() <= 3, "{paths:?}");
    mock.die().await;
    assert!(phone(&world).await.is_err());
    // The program goes on.
    world.client(Arc::new(world.iphone())).ready().await.unwrap();
}

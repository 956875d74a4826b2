//! What others say of a device when it enrols: Apple's two bits, Google's verdict; and what happens when they say nothing.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use store::InstanceStatus;

use super::*;

const MORE: &str = r#"
[[app]]
name = "chat"
scopes = ["chat"]

[app.ios]
team = "ABCDE12345"
bundle = "com.example.chat"
device_check = { key = { env = "K" }, key_id = "KEYID12345", mark_revoked = 0 }

[app.android]
package = "com.example.chat"
digests = ["9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f"]
play_integrity = { service_account = { env = "S" }, REQUIRED }
"#;

/// A team's key, and a service account's.
pub(super) fn secret(key: &str) -> Secret<String> {
    let pem =
        |der: &[u8]| format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    if key.starts_with("ios.") {
        let pair = aws_lc_rs::signature::EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        return Secret::new(pem(pair.unwrap().to_pkcs8v1().unwrap().as_ref()));
    }
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let file = json!({"type": "service_account", "client_email": "a@b", "private_key": pem(der.as_ref())});
    Secret::new(file.to_string())
}

async fn world(required: bool) -> World {
    let toml = MORE.replace("REQUIRED", &format!("required = {required}"));
    let toml = if required { toml.replace("mark_revoked = 0", "required = true") } else { toml };
    World::keeping(&toml, AttemptLimits { per_minute: 1000, ..AttemptLimits::default() }, secret).await
}

impl World {
    fn answers(&self, status: u16, body: &str) {
        *self.told.answer.lock().unwrap() = Ok((status, body.to_owned()));
    }

    pub(super) fn silent(&self) {
        *self.told.answer.lock().unwrap() =
            Err(AskedError { reason: "fetch_timeout", retryable: true, whose: base::Who::Provider });
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.asked.lock().unwrap())
    }

    /// An iPhone's enrolment with the device's token.
    async fn with_token(&self, token: &str) -> Answer {
        let (mut body, _) = self.enrolment("chat", &self.iphone()).await;
        body["evidence"]["device_check"] = token.into();
        self.post("/attest/v1/enroll", &body).await
    }

    async fn flags(&self, answer: &Answer) -> String {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let id = answer.json()["instance"].as_str().unwrap().to_owned();
        self.fixture.operations.store().instances().get(&id).await.unwrap().unwrap().attested.flags
    }
}

#[tokio::test]
async fn a_devices_bits_are_asked_for_and_a_rule_decides_about_them() {
    let world = world(false).await;
    world.rules("rules = [{ when = { flag = \"devicecheck_bits\", in = [1, 3] }, do = \"deny\" }]");
    world.answers(200, r#"{"bit0":false,"bit1":true,"last_update_time":"2026-10"}"#);
    let answer = world.with_token("AAAA").await;
    assert!(world.flags(&answer).await.contains("devicecheck_bits"));
    assert_eq!(world.asked(), ["https://api.devicecheck.apple.com/v1/query_two_bits"]);
    world.answers(200, r#"{"bit0":true,"bit1":false,"last_update_time":"2026-10"}"#);
    assert_eq!(world.why(&world.with_token("AAAA").await).await, "devicecheck_bits");
    // A device that has none yet is told so in words.
    world.answers(200, "Failed to find bit state");
    assert!(!world.flags(&world.with_token("AAAA").await).await.contains("devicecheck_bits"));
}

#[tokio::test]
async fn what_apple_does_not_say_is_put_up_with_unless_it_is_required() {
    let lenient = world(false).await;
    lenient.silent();
    assert_eq!(lenient.with_token("AAAA").await.status, 200);
    lenient.answers(200, r#"{"bit0":1}"#);
    assert_eq!(lenient.with_token("AAAA").await.status, 200, "an odd answer says nothing");
    lenient.answers(401, "");
    assert_eq!(lenient.with_token("AAAA").await.status, 200, "our key is not the device's fault");
    lenient.answers(400, "Bad Device Token");
    assert_eq!(lenient.why(&lenient.with_token("AAAA").await).await, "check_failed");
    assert_eq!(lenient.why(&lenient.with_token("not base64").await).await, "check_token_malformed");
    lenient.enrol("chat", &lenient.iphone()).await;

    let strict = world(true).await;
    strict.silent();
    let answer = strict.with_token("AAAA").await;
    assert_eq!(
        (strict.why(&answer).await.as_str(), answer.json()["action"].as_str()),
        ("fetch_timeout", Some("retry-after"))
    );
    strict.answers(200, r#"{"bit0":1}"#);
    assert_eq!(strict.why(&strict.with_token("AAAA").await).await, "check_answer_malformed");
    strict.asked();
    let (body, _) = strict.enrolment("chat", &strict.iphone()).await;
    assert_eq!(strict.why(&strict.post("/attest/v1/enroll", &body).await).await, "devicecheck_missing");
    // Whose evidence does not hold uses up nothing of what we may ask.
    let mut forged = strict.iphone();
    forged.defect = Some(vouchgate_client::simulator::IphoneDefect::OwnRoot);
    let (mut body, _) = strict.enrolment("chat", &forged).await;
    body["evidence"]["device_check"] = "AAAA".into();
    assert_eq!(strict.why(&strict.post("/attest/v1/enroll", &body).await).await, "chain_unknown_root");
    assert!(strict.asked().is_empty());
}

#[tokio::test]
async fn a_revoked_device_is_marked_when_it_shows_itself_again() {
    let world = world(false).await;
    let phone = world.iphone();
    let enrolled = world.enrol("chat", &phone).await;
    let instances = world.fixture.operations.store().instances();
    instances.set_status(enrolled.id(), InstanceStatus::Revoked, ("operator", "stolen")).await.unwrap();
    world.answers(200, r#"{"bit0":false,"bit1":true}"#);
    let mut body = next_token("chat", &phone, &enrolled);
    body["device_check"] = "AAAA".into();
    assert_eq!(world.why(&world.post("/attest/v1/token", &body).await).await, "instance_barred");
    let origin = "https://api.devicecheck.apple.com/v1";
    assert_eq!(world.asked(), [format!("{origin}/query_two_bits"), format!("{origin}/update_two_bits")]);
    let sent = world.told.sent.lock().unwrap().last().cloned().unwrap();
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!((&sent["bit0"], &sent["bit1"]), (&json!(true), &json!(true)), "the other bit stays");
    // Marked already, or no answer: nothing more is set, and the refusal is the same.
    world.answers(200, r#"{"bit0":true,"bit1":true}"#);
    assert_eq!(world.why(&world.post("/attest/v1/token", &body).await).await, "instance_barred");
    assert_eq!(world.asked().len(), 1);
    world.silent();
    assert_eq!(world.why(&world.post("/attest/v1/token", &body).await).await, "instance_barred");
}

/// What Google answers about a token asked for with this client data: to the question for an access token too.
fn verdict(nonce: &str, package: &str) -> String {
    let digest = base64url_encode(DIGEST);
    json!({
        "access_token": "ya29.a", "expires_in": 3599, "token_type": "Bearer",
        "tokenPayloadExternal": {
            "requestDetails": {"requestPackageName": package, "nonce": nonce, "timestampMillis": (NOW * 1000).to_string()},
            "appIntegrity": {"appRecognitionVerdict": "PLAY_RECOGNIZED", "packageName": package,
                             "certificateSha256Digest": [digest], "versionCode": "42"},
            "deviceIntegrity": {"deviceRecognitionVerdict": ["MEETS_BASIC_INTEGRITY"]},
            "accountDetails": {"appLicensingVerdict": "LICENSED"},
        },
    })
    .to_string()
}

/// An Android phone's enrolment with a token of Google's; the hash it was asked for with.
async fn android(world: &World) -> (Value, String) {
    let (mut body, _) = world.enrolment("chat", &world.android()).await;
    body["evidence"]["play_integrity"] = "eyJ.a.b".into();
    let client_data = proof::jose::base64url_decode(body["client_data"].as_str().unwrap()).unwrap();
    (body, base64url_encode(sha256(&client_data)))
}

#[tokio::test]
async fn google_opens_the_verdict_for_a_service_account() {
    let world = world(true).await;
    let (body, nonce) = android(&world).await;
    world.answers(200, &verdict(&nonce, "com.example.chat"));
    let answer = world.post("/attest/v1/enroll", &body).await;
    assert!(world.flags(&answer).await.contains("pi_basic_only"));
    assert_eq!(claims(&answer.json())["att"], json!(["android-key", "play-integrity"]));
    let decode = "https://playintegrity.googleapis.com/v1/com.example.chat:decodeIntegrityToken";
    assert_eq!(world.asked(), ["https://oauth2.googleapis.com/token", decode]);
    // The access token is kept while it counts.
    let (body, nonce) = android(&world).await;
    world.answers(200, &verdict(&nonce, "com.example.chat"));
    assert_eq!(world.post("/attest/v1/enroll", &body).await.status, 200);
    assert_eq!(world.asked(), [decode]);
    // One that Google does not take any more is asked for anew, once.
    let (body, _) = android(&world).await;
    world.answers(401, "{}");
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "check_credentials");
    assert_eq!(world.asked(), [decode, "https://oauth2.googleapis.com/token"]);
}

#[tokio::test]
async fn a_verdict_for_something_else_or_none_is_refused() {
    let world = world(true).await;
    for (nonce, package, reason) in
        [("b3RoZXI", "com.example.chat", "nonce_mismatch"), ("", "com.evil.chat", "package_mismatch")]
    {
        let (body, own) = android(&world).await;
        world.answers(200, &verdict(if nonce.is_empty() { &own } else { nonce }, package));
        assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, reason);
    }
    let (body, _) = android(&world).await;
    world.answers(400, "{}");
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "check_failed");
    world.silent();
    let (body, _) = android(&world).await;
    let answer = world.post("/attest/v1/enroll", &body).await;
    assert_eq!(
        (world.why(&answer).await.as_str(), answer.json()["action"].as_str()),
        ("fetch_timeout", Some("retry-after"))
    );
    let (body, _) = world.enrolment("chat", &world.android()).await;
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "play_integrity_missing");
    // Where it is not required a phone gets in without it.
    let lenient = self::world(false).await;
    lenient.silent();
    let (body, _) = android(&lenient).await;
    assert_eq!(lenient.post("/attest/v1/enroll", &body).await.status, 200);
}

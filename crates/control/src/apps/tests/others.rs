//! Evidence that others sign: Play Integrity opened with keys of one's own, passkeys, App Check, Approov. Each kind enrols, and each
//! way in which it does not hold is told to the operator.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::keys::{TestKey, key_set};
use vouchgate_client::attester::{AttestError, Attestation, Request as Asked};
use vouchgate_client::signer::SoftwareKey;
use vouchgate_client::simulator::Passkey;

use super::*;
use crate::oauth::{Document, Documents, FetchError};

const PLAY_KEY: [u8; 32] = [7; 32];
const KEYS: &str = "https://keys.example.com/jwks";
const FIREBASE_APP: &str = "1:1234567890:ios:0a1b2c3d";

/// The account's secret: any bytes but those of a text.
fn approov_key() -> [u8; 32] {
    sha256(b"an account")
}

/// A device whose evidence is made by whoever it asks: from the client data and the thumbprint of its key.
struct Brings<F>(Platform, F);

impl<F: Fn(&[u8], &str) -> Value + Send + Sync> Attester for Brings<F> {
    fn platform(&self) -> Platform {
        self.0
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        Ok(Some(Arc::new(SoftwareKey::generate()?)))
    }

    fn attest(&self, request: &Asked<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        let signer = key.ok_or(AttestError::KeyGone)?;
        let evidence = self.1(request.client_data, &signer.public_jwk().thumbprint());
        Ok(Attestation { evidence, signer })
    }
}

/// What Google publishes its keys at.
struct Keys(Mutex<Option<Value>>);

impl Documents for Keys {
    fn get<'a>(&'a self, url: &'a str, _: bool) -> Pending<'a, Result<Document, FetchError>> {
        assert_eq!(url, KEYS);
        let found = self.0.lock().unwrap().as_ref().map(ToString::to_string);
        let found = found.map(|body| Document { body: body.into_bytes(), max_age: None });
        let missing = FetchError { reason: "fetch_status", message: "the server answered 503".to_owned() };
        Box::pin(std::future::ready(found.ok_or(missing)))
    }
}

/// A world of apps for these kinds of evidence, the key that Google signs with, and where it is published.
async fn world() -> (World, TestKey, TestKey, Arc<Keys>) {
    let (play, firebase) = (TestKey::generate("ES256"), TestKey::generate("RS256"));
    let pem = play.public_pem();
    let spki: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let toml = format!(
        r#"
        [cors]
        origins = ["https://app.example.com"]

        [[app]]
        name = "play"
        minimum_level = "verdict"
        [app.android]
        package = "com.example.chat"
        digests = ["{digest}"]
        min_version = 7
        [app.android.play_integrity]
        decryption_key = {{ env = "PLAY" }}
        verification_key = "{spki}"

        [[app]]
        name = "site"
        proof = "dpop"
        [app.web]
        origins = ["https://app.example.com"]
        webauthn = {{ rp_id = "app.example.com", user_verification = true }}

        [[app]]
        name = "fire"
        firebase = {{ project = "1234567890", apps = ["{FIREBASE_APP}"], jwks_url = "{KEYS}" }}

        [[app]]
        name = "spent"
        firebase = {{ project = "1234567890", apps = ["{FIREBASE_APP}"], jwks_url = "{KEYS}", consume = {{ service_account = {{ env = "S" }} }} }}

        [[app]]
        name = "classic"
        [app.approov]
        secret = {{ env = "APPROOV" }}
        issuer = "example.approov.io"

        [[app]]
        name = "unbound"
        [app.approov]
        secret = {{ env = "APPROOV" }}
        allow_unbound = true
        "#,
        digest = "9f".repeat(32),
    );
    let keys = Arc::new(Keys(Mutex::new(Some(key_set(&[&firebase])))));
    let outside = Outside { documents: Arc::clone(&keys) as Arc<dyn Documents>, ..Outside::default() };
    let limits = AttemptLimits { per_minute: 1000, ..AttemptLimits::default() };
    let secret = |key: &str| {
        Secret::new(match key {
            "android.play_integrity.decryption_key" => STANDARD.encode(PLAY_KEY),
            "approov.secret" => STANDARD.encode(approov_key()),
            "firebase.consume.service_account" => return super::asked::secret(key),
            _ => "shh".to_owned(),
        })
    };
    (World::reaching(&toml, limits, (outside, &secret)).await, play, firebase, keys)
}

impl World {
    /// Enrol with evidence that is made so: the claims of the token, or the operator's reason.
    async fn shown<F>(&self, app: &str, platform: Platform, make: F) -> Result<Value, String>
    where
        F: Fn(&[u8], &str) -> Value + Send + Sync,
    {
        let (body, _) = self.enrolment(app, &Brings(platform, make)).await;
        let answer = self.post("/attest/v1/enroll", &body).await;
        if answer.status == 200 { Ok(claims(&answer.json())) } else { Err(self.why(&answer).await) }
    }
}

fn level_and_kind(claims: &Value) -> (&str, &Value) {
    (claims["lvl"].as_str().unwrap(), &claims["att"])
}

/// What Google says of a phone, asked for with the hash of the client data.
fn verdict(client_data: &[u8]) -> Value {
    json!({
        "requestDetails": {"requestPackageName": "com.example.chat", "nonce": base64url_encode(sha256(client_data)),
            "timestampMillis": (NOW * 1000).to_string()},
        "appIntegrity": {"appRecognitionVerdict": "PLAY_RECOGNIZED", "packageName": "com.example.chat",
            "certificateSha256Digest": [base64url_encode(DIGEST)], "versionCode": "7"},
        "deviceIntegrity": {"deviceRecognitionVerdict": ["MEETS_DEVICE_INTEGRITY"]},
        "accountDetails": {"appLicensingVerdict": "LICENSED"},
    })
}

/// The verdict signed by Google and encrypted to the developer: a JWS (ES256) in a JWE (A256KW, A256GCM).
fn token(signer: &TestKey, key: &[u8; 32], verdict: &Value) -> Value {
    let verdict = signer.mint_with(&json!({"alg": "ES256"}), verdict);
    let header = base64url_encode(r#"{"alg":"A256KW","enc":"A256GCM"}"#);
    let content_key = [5u8; 32];
    let mut wrapped = [0u8; 40];
    let wrapped = AesKek::new(&AES_256, key).unwrap().wrap(&content_key, &mut wrapped).unwrap().to_vec();
    let mut sealed = verdict.into_bytes();
    let seal = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &content_key).unwrap());
    let nonce = Nonce::assume_unique_for_key([3; 12]);
    let tag = seal.seal_in_place_separate_tag(nonce, Aad::from(header.as_bytes()), &mut sealed).unwrap();
    let parts = [wrapped.as_slice(), &[3; 12], &sealed, tag.as_ref()].map(base64url_encode);
    json!({"type": "play-integrity", "token": format!("{header}.{}", parts.join("."))})
}

#[tokio::test]
async fn google_s_verdict_enrols_a_phone_where_its_own_keys_open_it() {
    let (world, google, _, _) = world().await;
    let claims = world.shown("play", Platform::Android, |data, _| token(&google, &PLAY_KEY, &verdict(data))).await;
    let claims = claims.unwrap();
    assert_eq!(level_and_kind(&claims), ("verdict", &json!(["play-integrity"])));
    assert_eq!((&claims["plat"], &claims["client_id"]), (&json!("android"), &json!("play")));

    let with = |path: &str, value: Value| {
        let path = path.to_owned();
        move |data: &[u8]| {
            let mut verdict = verdict(data);
            *verdict.pointer_mut(&path).unwrap() = value.clone();
            verdict
        }
    };
    for (path, value, reason) in [
        ("/requestDetails/nonce", json!(base64url_encode([1; 32])), "nonce_mismatch"),
        ("/requestDetails/requestPackageName", json!("com.example.copy"), "package_mismatch"),
        ("/appIntegrity/certificateSha256Digest", json!([base64url_encode([1; 32])]), "signing_digest_mismatch"),
        ("/appIntegrity/appRecognitionVerdict", json!("UNRECOGNIZED_VERSION"), "level_too_low"),
        ("/deviceIntegrity/deviceRecognitionVerdict", json!([]), "level_too_low"),
        ("/requestDetails/timestampMillis", json!(((NOW - 3600) * 1000).to_string()), "verdict_too_old"),
        ("/appIntegrity/versionCode", json!("6"), "app_version_too_old"),
    ] {
        let changed = with(path, value);
        let refused = world.shown("play", Platform::Android, |data, _| token(&google, &PLAY_KEY, &changed(data))).await;
        assert_eq!(refused.unwrap_err(), reason, "{path}");
    }
    let other = TestKey::generate("ES256");
    let refused = world.shown("play", Platform::Android, |data, _| token(&other, &PLAY_KEY, &verdict(data))).await;
    assert_eq!(refused.unwrap_err(), "bad_signature");
    let refused = world.shown("play", Platform::Android, |data, _| token(&google, &[8; 32], &verdict(data))).await;
    assert_eq!(refused.unwrap_err(), "jwe_decrypt", "made for another developer");
}

#[tokio::test]
async fn a_passkey_enrols_a_browser_of_the_site_it_is_for() {
    let (world, ..) = world().await;
    let brought = |passkey: &Passkey, challenge: &[u8]| {
        let [client_data, attestation] = passkey.create(challenge).unwrap();
        json!({"type": "webauthn", "client_data": base64url_encode(client_data), "attestation": base64url_encode(attestation)})
    };
    let passkey = |site: &str, origin: &str| Passkey::new(site, origin).unwrap();
    let own = passkey("app.example.com", "https://app.example.com");
    let claims = world.shown("site", Platform::Web, |data, _| brought(&own, &sha256(data))).await.unwrap();
    assert_eq!(level_and_kind(&claims), ("web", &json!(["webauthn"])));
    assert_eq!(claims["pop"], "dpop");
    // It is known by its id: one passkey is one installation.
    let again = world.shown("site", Platform::Web, |data, _| brought(&own, &sha256(data))).await;
    assert_eq!(again.unwrap_err(), "evidence_used");

    let mut unverified = passkey("app.example.com", "https://app.example.com");
    unverified.user_verified = false;
    for (passkey, reason) in [
        (passkey("app.example.com", "https://evil.example.com"), "origin_not_allowed"),
        (passkey("evil.example.com", "https://app.example.com"), "rp_id_mismatch"),
        (unverified, "user_not_verified"),
    ] {
        let refused = world.shown("site", Platform::Web, |data, _| brought(&passkey, &sha256(data))).await;
        assert_eq!(refused.unwrap_err(), reason);
    }
    let fresh = passkey("app.example.com", "https://app.example.com");
    let refused = world.shown("site", Platform::Web, |_, _| brought(&fresh, &sha256(b"another challenge"))).await;
    assert_eq!(refused.unwrap_err(), "challenge_mismatch");
}

#[tokio::test]
async fn an_app_check_token_enrols_once_and_only_an_app_of_the_project() {
    let (world, _, google, published) = world().await;
    let claims_of = |app: &str, project: &str| {
        json!({"iss": format!("https://firebaseappcheck.googleapis.com/{project}"), "aud": [format!("projects/{project}")],
            "sub": app, "iat": NOW - 10, "exp": NOW + 3600})
    };
    let token = |key: &TestKey, claims: &Value| {
        let header = json!({"alg": "RS256", "kid": key.public_jwk()["kid"], "typ": "JWT"});
        json!({"type": "appcheck", "token": key.mint_with(&header, claims)})
    };
    let good = token(&google, &claims_of(FIREBASE_APP, "1234567890"));
    let claims = world.shown("fire", Platform::Ios, |_, _| good.clone()).await.unwrap();
    assert_eq!(level_and_kind(&claims), ("verdict", &json!(["appcheck"])));
    let again = world.shown("fire", Platform::Ios, |_, _| good.clone()).await;
    assert_eq!(again.unwrap_err(), "evidence_used", "a bearer token enrols one installation");

    let other = TestKey::generate("RS256");
    for (evidence, reason) in [
        (token(&google, &claims_of("1:1234567890:ios:ffffffff", "1234567890")), "wrong_app"),
        (token(&google, &claims_of(FIREBASE_APP, "666")), "wrong_issuer"),
        (token(&other, &claims_of(FIREBASE_APP, "1234567890")), "unknown_key"),
    ] {
        let refused = world.shown("fire", Platform::Ios, |_, _| evidence.clone()).await;
        assert_eq!(refused.unwrap_err(), reason);
    }
    // A key that Google published since is fetched.
    *published.0.lock().unwrap() = Some(key_set(&[&google, &other]));
    world.advance(3600);
    let mut later = claims_of(FIREBASE_APP, "1234567890");
    (later["iat"], later["exp"]) = ((NOW + 3590).into(), (NOW + 7000).into());
    let newer = token(&other, &later);
    assert_eq!(world.shown("fire", Platform::Ios, |_, _| newer.clone()).await.map(drop), Ok(()));
}

#[tokio::test]
async fn google_uses_an_app_check_token_up_and_says_whether_somebody_showed_it_before() {
    let (world, _, google, _) = world().await;
    let token = |jti: u32| {
        let header = json!({"alg": "RS256", "kid": google.public_jwk()["kid"], "typ": "JWT"});
        let claims = json!({"iss": "https://firebaseappcheck.googleapis.com/1234567890", "aud": ["projects/1234567890"],
            "sub": FIREBASE_APP, "iat": NOW - 10, "exp": NOW + 3600, "jti": jti.to_string()});
        json!({"type": "appcheck", "token": google.mint_with(&header, &claims)})
    };
    let answers = |status: u16, consumed: Value| {
        let mut body = json!({"access_token": "ya29.a", "expires_in": 3599, "token_type": "Bearer"});
        body["alreadyConsumed"] = consumed;
        *world.told.answer.lock().unwrap() = Ok((status, body.to_string()));
    };
    answers(200, json!(false));
    assert!(world.shown("spent", Platform::Ios, |_, _| token(1)).await.is_ok());
    let consume = "https://firebaseappcheck.googleapis.com/v1beta/projects/1234567890:verifyAppCheckToken";
    assert_eq!(*world.told.asked.lock().unwrap(), ["https://oauth2.googleapis.com/token", consume]);
    let refused = [
        (200, json!(true), "check_used_or_old"),
        (200, json!("no"), "check_answer_malformed"),
        (403, json!(false), "check_failed"),
        (503, json!(false), "check_unavailable"),
    ];
    for (shown, (status, consumed, reason)) in (2..).zip(refused) {
        answers(status, consumed);
        assert_eq!(world.shown("spent", Platform::Ios, |_, _| token(shown)).await.unwrap_err(), reason);
    }
    // What does not hold is not asked about.
    let before = world.told.asked.lock().unwrap().len();
    let other = TestKey::generate("RS256");
    let forged = json!({"type": "appcheck", "token": other.mint(&json!({"sub": FIREBASE_APP}))});
    assert!(world.shown("spent", Platform::Ios, |_, _| forged.clone()).await.is_err());
    assert_eq!(world.told.asked.lock().unwrap().len(), before);
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_no_word_for_an_app() {
    let (world, _, google, published) = world().await;
    *published.0.lock().unwrap() = None;
    let token = google.mint(&json!({"sub": FIREBASE_APP}));
    let evidence = json!({"type": "appcheck", "token": token});
    let (body, _) = world.enrolment("fire", &Brings(Platform::Ios, |_: &[u8], _: &str| evidence.clone())).await;
    let answer = world.post("/attest/v1/enroll", &body).await;
    assert_eq!(answer.json()["action"], "retry-after", "{}", answer.text);
    assert_eq!(world.why(&answer).await, "appcheck_keys_unavailable");
}

#[tokio::test]
async fn an_approov_token_enrols_the_key_it_is_bound_to() {
    let (world, ..) = world().await;
    let approov = TestKey::hmac("HS256", approov_key());
    let token = |key: &TestKey, claims: &Value| json!({"type": "approov", "token": key.mint_with(&json!({"alg": "HS256", "typ": "JWT"}), claims)});
    let bound = |jkt: &str| json!({"exp": NOW + 300, "iss": "example.approov.io", "did": "device-1", "pay": STANDARD.encode(sha256(jkt.as_bytes()))});
    let claims = world.shown("classic", Platform::Android, |_, jkt| token(&approov, &bound(jkt))).await.unwrap();
    assert_eq!(level_and_kind(&claims), ("verdict", &json!(["approov"])));
    assert!(!world.fixture.stores("device-1"), "the device's name is kept as a keyed hash only");

    let without = |name: &'static str| {
        move |jkt: &str| {
            let mut claims = bound(jkt);
            claims.as_object_mut().unwrap().remove(name);
            claims
        }
    };
    let other = TestKey::hmac("HS256", b"the secret of another account...".to_vec());
    let refused = world.shown("classic", Platform::Android, |_, jkt| token(&other, &bound(jkt))).await;
    assert_eq!(refused.unwrap_err(), "bad_signature");
    let refused = world.shown("classic", Platform::Android, |_, _| token(&approov, &bound("another key"))).await;
    assert_eq!(refused.unwrap_err(), "binding_mismatch", "a token of another device's is not taken");
    let unbound = without("pay");
    let refused = world.shown("classic", Platform::Android, |_, jkt| token(&approov, &unbound(jkt))).await;
    assert_eq!(refused.unwrap_err(), "binding_missing");
    let endless = without("exp");
    let refused = world.shown("classic", Platform::Android, |_, jkt| token(&approov, &endless(jkt))).await;
    assert_eq!(refused.unwrap_err(), "missing_claim");

    // Bound to nothing, where the app allows that: it enrols one installation.
    let bearer = token(&approov, &unbound("nobody's"));
    assert_eq!(world.shown("unbound", Platform::Android, |_, _| bearer.clone()).await.map(drop), Ok(()));
    let again = world.shown("unbound", Platform::Android, |_, _| bearer.clone()).await;
    assert_eq!(again.unwrap_err(), "evidence_used");
}

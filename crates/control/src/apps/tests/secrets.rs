//! Secrets for an installation.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, X25519, agree};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proof::jose::base64url_decode;
use vouchgate_client::simulator::Browser;

use super::*;

const SECRETS: &str = r#"
[[runtime_secret]]
name = "maps-key"
apps = ["chat"]
deliver = true
[[runtime_secret]]
name = "tiles-key"
apps = ["chat"]
minimum_level = "hw"
deliver = true
keep = "1m"
[[runtime_secret]]
name = "of-web"
apps = ["web"]
minimum_level = "web"
deliver = true
[[upstream]]
name = "maps"
path = "/maps/"
url = "https://maps.example.com/"
[[runtime_secret]]
name = "put-in-only"
apps = ["chat"]
upstreams = ["maps"]
query = ["key"]
[[runtime_secret]]
name = "unset"
apps = ["chat"]
deliver = true
"#;

async fn world() -> World {
    let world =
        World::with(&format!("{APPS}{SECRETS}"), AttemptLimits { per_minute: 1000, ..AttemptLimits::default() }).await;
    for name in ["maps-key", "tiles-key", "of-web", "put-in-only"] {
        set(&world, name, "versions", json!({ "value": format!("canary \"{name}\" 1") })).await;
    }
    world
}

async fn set(world: &World, name: &str, way: &str, body: Value) {
    let path = format!("/admin/v1/runtime-secrets/{name}/{way}");
    let set = world.fixture.owner(Method::POST, &path, Some(body)).await;
    assert!(set.status.is_success(), "{}", set.text);
}

/// A key for one delivery, and its public half.
fn recipient(x25519: bool) -> (PrivateKey, Value) {
    let key = PrivateKey::generate(if x25519 { &X25519 } else { &ECDH_P256 }).unwrap();
    let public = key.compute_public_key().unwrap();
    let public = public.as_ref();
    let jwk = if x25519 {
        json!({ "kty": "OKP", "crv": "X25519", "x": base64url_encode(public) })
    } else {
        json!({ "kty": "EC", "crv": "P-256", "x": base64url_encode(&public[1..33]), "y": base64url_encode(&public[33..]) })
    };
    (key, jwk)
}

/// Ask with a signature that covers the body; `change` is made to the body after signing.
async fn ask(world: &World, of: &Enrolled, nonce: &str, body: &Value, change: Option<&Value>) -> Answer {
    let bearer = format!("Bearer {}", of.answer["access_token"].as_str().unwrap());
    let text = body.to_string();
    let digest = format!("sha-256=:{}:", STANDARD.encode(sha256(text.as_bytes())));
    let jkt = of.key.public_jwk().thumbprint();
    let now = world.fixture.clock.now().as_secs();
    let parameters = format!(
        "(\"@method\" \"@target-uri\" \"authorization\" \"content-digest\" \"content-type\");created={now};expires={};\
         nonce=\"{nonce}\";keyid=\"{jkt}\";alg=\"ecdsa-p256-sha256\";tag=\"gw-req\"",
        now + 20
    );
    let base = format!(
        "\"@method\": POST\n\"@target-uri\": {EXTERNAL}/attest/v1/secrets\n\"authorization\": {bearer}\n\
         \"content-digest\": {digest}\n\"content-type\": application/json\n\"@signature-params\": {parameters}"
    );
    let signature = format!("gw=:{}:", STANDARD.encode(of.key.sign(base.as_bytes()).unwrap()));
    let input = format!("gw={parameters}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-digest", &digest),
        ("signature-input", &input),
        ("signature", &signature),
    ];
    world.post_with("/attest/v1/secrets", change.unwrap_or(body), &headers).await
}

/// Open an answer as RFC 7516 and RFC 7518 section 4.6 say, by hand.
fn open(jwe: &str, key: &PrivateKey) -> (Value, Value) {
    let parts: Vec<&str> = jwe.split('.').collect();
    let decode = |text: &str| base64url_decode(text).unwrap();
    let header: Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    let member = |value: &Value| decode(value.as_str().unwrap());
    let epk = &header["epk"];
    let (algorithm, point) = match epk["crv"].as_str().unwrap() {
        "X25519" => (&X25519, member(&epk["x"])),
        _ => (&ECDH_P256, [vec![4], member(&epk["x"]), member(&epk["y"])].concat()),
    };
    let (apu, apv) = (member(&header["apu"]), member(&header["apv"]));
    let cek = agree(key, UnparsedPublicKey::new(algorithm, point), (), |shared| {
        let mut input = vec![0, 0, 0, 1];
        input.extend_from_slice(shared);
        for part in [&b"A256GCM"[..], &apu, &apv] {
            input.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
            input.extend_from_slice(part);
        }
        input.extend_from_slice(&[0, 0, 1, 0]);
        Ok(sha256(&input))
    });
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &cek.unwrap()).unwrap());
    let mut sealed = [decode(parts[3]), decode(parts[4])].concat();
    let nonce = Nonce::try_assume_unique_for_key(&decode(parts[2])).unwrap();
    let opened = cipher.open_in_place(nonce, Aad::from(parts[0].as_bytes()), &mut sealed).unwrap();
    (header, serde_json::from_slice(opened).unwrap())
}

#[tokio::test]
async fn an_installation_is_given_secrets_sealed_to_its_key_and_bound_to_it() {
    let world = world().await;
    let of = world.enrol("chat", &world.iphone()).await;
    for (x25519, nonce) in [(false, "nonce-1"), (true, "nonce-2")] {
        let (key, epk) = recipient(x25519);
        let body = json!({ "names": ["maps-key", "tiles-key"], "epk": epk });
        let answer = ask(&world, &of, nonce, &body, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.text.contains("canary"));
        let answer = answer.json();
        assert_eq!((&answer["version"], &answer["refresh_in"]), (&json!(1), &json!(60)));
        let (header, secrets) = open(answer["jwe"].as_str().unwrap(), &key);
        assert_eq!((&header["alg"], &header["enc"]), (&json!("ECDH-ES"), &json!("A256GCM")));
        assert_eq!(header["apu"], base64url_encode(of.id()));
        assert_eq!(header["apv"], base64url_encode(nonce));
        let now = world.fixture.clock.now().as_secs();
        assert_eq!(
            secrets,
            json!({
                "maps-key": { "v": 1, "value": "canary \"maps-key\" 1", "exp": now + 300 },
                "tiles-key": { "v": 1, "value": "canary \"tiles-key\" 1", "exp": now + 60 },
            })
        );
    }
    let shown = world.fixture.operations.runtime_secret_show("maps-key").await.unwrap();
    assert_eq!((shown.versions[0].uses[0].how.as_str(), shown.versions[0].uses[0].uses), ("delivered", 2));
}

#[tokio::test]
async fn a_new_version_is_given_at_once_and_who_still_holds_the_old_one_is_seen() {
    let world = world().await;
    let of = world.enrol("chat", &world.iphone()).await;
    set(&world, "maps-key", "rotate", json!({ "value": "canary 2", "after": "40s", "overlap": "1h" })).await;
    let asked = async |nonce: &str, have: u64| {
        let (key, epk) = recipient(false);
        let body = json!({ "names": ["maps-key"], "epk": epk, "have": { "maps-key": have } });
        let answer = ask(&world, &of, nonce, &body, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let (_, secrets) = open(answer.json()["jwe"].as_str().unwrap(), &key);
        (secrets["maps-key"]["v"].as_u64().unwrap(), answer.json()["refresh_in"].as_u64().unwrap())
    };
    assert_eq!(asked("n-1", 1).await, (1, 40), "it asks again when the next begins");
    world.advance(40);
    assert_eq!(asked("n-2", 1).await, (2, 300));
    assert_eq!(asked("n-3", 99).await, (2, 300), "a version there is not is not counted");
    let shown = world.fixture.operations.runtime_secret_show("maps-key").await.unwrap();
    let uses: Vec<_> =
        shown.versions.iter().map(|v| v.uses.iter().map(|u| (u.how.clone(), u.uses)).collect::<Vec<_>>()).collect();
    let one = |how: &str, uses| (how.to_owned(), uses);
    assert_eq!(uses, [vec![one("delivered", 2)], vec![one("delivered", 1), one("held", 2)]]);
}

#[tokio::test]
async fn whoever_may_not_have_a_secret_is_told_nothing_but_a_code() {
    let world = world().await;
    let of = world.enrol("chat", &world.iphone()).await;
    let (_, epk) = recipient(false);
    let body = |names: Value| json!({ "names": names, "epk": epk });
    let mut said = Vec::new();
    for (nonce, names, reason) in [
        ("n-1", json!(["nothing"]), "runtime_secret_unknown"),
        ("n-2", json!(["put-in-only"]), "runtime_secret_unknown"),
        ("n-3", json!(["maps-key", "of-web"]), "runtime_secret_app"),
        ("n-4", json!(["unset"]), "runtime_secret_missing"),
    ] {
        let answer = ask(&world, &of, nonce, &body(names), None).await;
        assert_eq!(world.why(&answer).await, reason);
        let mut told = answer.json();
        told["arc"] = Value::Null;
        said.push(told);
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");

    // Not signed over the body, or over another one; sent twice; the same key again.
    let (_, fresh) = recipient(false);
    let good = json!({ "names": ["maps-key"], "epk": fresh });
    let bearer = format!("Bearer {}", of.answer["access_token"].as_str().unwrap());
    let bare = world.post_with("/attest/v1/secrets", &good, &[("authorization", &bearer)]).await;
    assert_eq!(world.why(&bare).await, "signature_missing");
    let (_, thief) = recipient(false);
    let changed = json!({ "names": ["maps-key"], "epk": thief });
    let answer = ask(&world, &of, "n-5", &good, Some(&changed)).await;
    assert_eq!(world.why(&answer).await, "wrong_content_digest");
    assert_eq!(ask(&world, &of, "n-6", &good, None).await.status, 200);
    assert_eq!(world.why(&ask(&world, &of, "n-6", &good, None).await).await, "signature_replayed");
    assert_eq!(world.why(&ask(&world, &of, "n-7", &good, None).await).await, "epk_reused");
    let other = world.enrol("chat", &world.iphone()).await;
    let stolen = Enrolled { key: Arc::clone(&other.key), answer: of.answer.clone() };
    let (_, fresh) = recipient(false);
    let body = json!({ "names": ["maps-key"], "epk": fresh });
    assert_eq!(world.why(&ask(&world, &stolen, "n-8", &body, None).await).await, "wrong_keyid");

    let web = world.enrol("web", &Browser::default()).await;
    let asked = ask(&world, &web, "n-9", &json!({ "names": ["of-web"], "epk": fresh }), None).await;
    assert_eq!(asked.status, 200, "an app that proves its key by DPoP elsewhere signs here: {}", asked.text);
}

#[tokio::test]
async fn what_is_no_such_request_is_refused_before_anybody_is_asked_who_they_are() {
    let world = world().await;
    let (_, epk) = recipient(false);
    let many: Vec<String> = (0..17).map(|n| format!("s-{n}")).collect();
    for body in [
        json!({}),
        json!({ "names": [], "epk": epk }),
        json!({ "names": ["a", "a"], "epk": epk }),
        json!({ "names": ["../x"], "epk": epk }),
        json!({ "names": many, "epk": epk }),
        json!({ "names": ["a"], "epk": {} }),
        json!({ "names": ["a"], "epk": epk, "other": 1 }),
    ] {
        let answer = world.post("/attest/v1/secrets", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
}

#[tokio::test]
async fn an_installation_gets_so_many_deliveries_a_minute() {
    let world = world().await;
    let of = world.enrol("chat", &world.iphone()).await;
    let mut statuses = Vec::new();
    for n in 0..31 {
        let (_, epk) = recipient(false);
        let body = json!({ "names": ["maps-key"], "epk": epk });
        statuses.push(ask(&world, &of, &format!("n-{n}"), &body, None).await.status.as_u16());
    }
    assert_eq!((statuses.iter().filter(|s| **s == 200).count(), statuses.last()), (30, Some(&429)));
}

//! Published vectors: every file there is, by its form, so that a file of a known form added later is read too.

use std::path::{Path, PathBuf};

use proof::inspect::{OperatorKeys, Options, jwt};
use proof::jose::{Alg, KeySet, base64url_encode, parse_compact};
use serde_json::{Value, json};

use crate::support::{TestKey, World, claims, now};

fn jose(test: &str) -> Option<PathBuf> {
    let dir = vectors::data().map(|dir| dir.join("jose")).filter(|dir| dir.is_dir());
    if dir.is_none() {
        vectors::skipped(test);
    }
    dir
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap().as_bytes();
    text.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn operator(keys: &Value) -> Option<OperatorKeys> {
    OperatorKeys::from_file(keys.to_string().as_bytes()).ok()
}

/// Whether a token verifies as `vouchgate jwt verify --raw` would say.
fn verifies(keys: &Value, token: &str) -> bool {
    let options = Options { raw: true, now: now(), ..Options::default() };
    operator(keys).is_some_and(|keys| jwt(token.as_bytes(), &keys, &options).valid)
}

/// How many outcomes were as described, of how many tried; panics with the others.
#[derive(Default)]
struct Count {
    tried: usize,
    wrong: Vec<String>,
}

impl Count {
    fn expect(&mut self, what: impl std::fmt::Display, is: bool, should: bool) {
        self.tried += 1;
        if is != should {
            self.wrong.push(format!("{what}: {} instead of {}", verdict(is), verdict(should)));
        }
    }

    fn report(self, what: &str, at_least: usize) {
        println!("{what}: {} of {} as described", self.tried - self.wrong.len(), self.tried);
        assert!(self.wrong.is_empty(), "{what}:\n{}", self.wrong.join("\n"));
        assert!(self.tried >= at_least, "{what}: only {} tried", self.tried);
    }
}

fn verdict(valid: bool) -> &'static str {
    if valid { "valid" } else { "invalid" }
}

fn groups(file: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let groups = file["testGroups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["tests"].as_array().into_iter().flatten().map(move |test| (group, test)))
}

/// The key of a group: as JWK where there is one, else PEM.
fn group_keys(group: &Value) -> Option<KeySet> {
    for member in ["publicKeyJwk", "keyJwk"] {
        if group[member].is_object() {
            let mut jwk = group[member].clone();
            jwk.as_object_mut()?.remove("alg");
            return KeySet::from_published(json!({"keys": [jwk]}).to_string().as_bytes()).ok();
        }
    }
    KeySet::from_operator(group["publicKeyPem"].as_str()?.as_bytes()).ok()
}

/// The algorithm a group of a signature file is about, where JOSE has it.
fn group_alg(schema: &str, group: &Value) -> Option<Alg> {
    let sha = group["sha"].as_str().unwrap_or("");
    let bits = sha.strip_prefix("SHA-").filter(|bits| ["256", "384", "512"].contains(bits));
    if schema.starts_with("ecdsa") {
        return match (group["publicKey"]["curve"].as_str()?, bits?) {
            ("secp256r1", "256") => Some(Alg::Es256),
            ("secp384r1", "384") => Some(Alg::Es384),
            ("secp521r1", "512") => Some(Alg::Es512),
            _ => None,
        };
    }
    if schema.starts_with("eddsa") {
        return (group["publicKey"]["curve"] == "edwards25519").then_some(Alg::EdDsa);
    }
    if schema.starts_with("rsassa_pkcs1") {
        return Alg::from_name(&format!("RS{}", bits?));
    }
    let salt = bits?.parse::<u64>().ok()? / 8;
    // RFC 7518 section 3.5: MGF1 with the same hash, the salt as long as the hash.
    let plain = group["mgf"] == "MGF1" && group["mgfSha"] == group["sha"] && group["sLen"].as_u64() == Some(salt);
    plain.then(|| Alg::from_name(&format!("PS{}", bits?))).flatten()
}

/// Keys that the primitive could use and the import policy refuses: RSA under 2048 bits or with a small exponent.
fn is_weak(group: &Value) -> bool {
    group["keySize"].as_u64().is_some_and(|bits| bits < 2048)
        || group["publicKey"]["publicExponent"].as_str().is_some_and(|e| e != "010001")
}

#[test]
fn wycheproof_signatures() {
    let Some(dir) = jose("wycheproof_signatures") else { return };
    let mut total = Count::default();
    for path in files(&dir.join("wycheproof"), "json") {
        let file = read(&path);
        let schema = file["schema"].as_str().unwrap_or("");
        let signatures = ["ecdsa_", "eddsa_", "rsassa_pkcs1_verify", "rsassa_pss_verify"];
        if !signatures.iter().any(|kind| schema.starts_with(kind)) {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut count = Count::default();
        for (group, test) in groups(&file) {
            // As a JOSE signature, ECDSA is r‖s, never DER; what JOSE has no name for cannot be asked for.
            let der = schema.starts_with("ecdsa_verify");
            let alg = group_alg(schema, group);
            let keys = group_keys(group);
            let key = keys.as_ref().and_then(|keys| keys.keys().first());
            let valid = key.is_some_and(|key| {
                let tries: Vec<Alg> = alg.map_or_else(|| Alg::ALL.to_vec(), |alg| vec![alg]);
                tries.into_iter().any(|alg| key.verify(alg, &hex(&test["msg"]), &hex(&test["sig"])).is_ok())
            });
            // A salt of another length, or of SHA-1's, verifies under no algorithm of ours.
            let expected = test["result"] == "valid" && alg.is_some() && !der && !is_weak(group);
            count.expect(format!("{name} {}", test["tcId"]), valid, expected);
            total.expect(format!("{name} {}", test["tcId"]), valid, expected);
        }
        count.report(&name, 1);
    }
    total.report("wycheproof signatures", 1000);
}

#[test]
fn wycheproof_macs() {
    let Some(dir) = jose("wycheproof_macs") else { return };
    let mut count = Count::default();
    for path in files(&dir.join("wycheproof"), "json") {
        let file = read(&path);
        let alg = match file["algorithm"].as_str() {
            Some("HMACSHA256") => Alg::Hs256,
            Some("HMACSHA384") => Alg::Hs384,
            Some("HMACSHA512") => Alg::Hs512,
            _ => continue,
        };
        let full = alg.name()[2..].parse::<u64>().unwrap();
        for (group, test) in groups(&file) {
            let jwk = json!({"kty": "oct", "k": base64url_encode(hex(&test["key"])), "alg": alg.name()});
            let keys = KeySet::from_operator(jwk.to_string().as_bytes()).unwrap();
            let valid =
                keys.keys().first().is_some_and(|key| key.verify(alg, &hex(&test["msg"]), &hex(&test["tag"])).is_ok());
            // RFC 7518 section 3.2: keys of at least the hash's length, tags never truncated.
            let usable = group["keySize"].as_u64() >= Some(full) && group["tagSize"].as_u64() == Some(full);
            count.expect(&test["tcId"], valid, usable && test["result"] == "valid");
        }
    }
    count.report("wycheproof MACs", 100);
}

#[test]
fn wycheproof_ml_dsa() {
    let Some(dir) = jose("wycheproof_ml_dsa") else { return };
    let mut count = Count::default();
    for path in files(&dir.join("wycheproof"), "json") {
        let file = read(&path);
        let Some(alg @ ("ML-DSA-44" | "ML-DSA-65" | "ML-DSA-87")) = file["algorithm"].as_str() else { continue };
        for (group, test) in groups(&file) {
            let Some(public) = group.get("publicKey").filter(|key| key.is_string()) else { continue };
            let jwk = json!({"kty": "AKP", "alg": alg, "pub": base64url_encode(hex(public))});
            let keys = KeySet::from_published(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
            let valid = keys.keys().first().is_some_and(|key| {
                let alg = Alg::from_name(alg).unwrap();
                key.verify(alg, &hex(&test["msg"]), &hex(&test["sig"])).is_ok()
            });
            // JOSE has no context string (RFC 9964 section 4), and ML-DSA-87 is not built.
            let plain = test.get("ctx").is_none_or(|ctx| ctx == "") && alg != "ML-DSA-87";
            count.expect(format!("{alg} {}", test["tcId"]), valid, plain && test["result"] == "valid");
        }
    }
    count.report("wycheproof ML-DSA", 0);
}

/// Tests whose label contradicts RFC 7515 or RFC 8725, with the outcome that is right: two that equal a valid test,
/// two with characters outside base64url, four that use a key with another algorithm than its own.
const MISLABELLED: [(u64, bool); 8] =
    [(367, true), (370, true), (372, false), (373, false), (346, false), (347, false), (350, false), (351, false)];

#[test]
fn wycheproof_json_web_signatures_and_keys() {
    let Some(dir) = jose("wycheproof_json_web_signatures_and_keys") else { return };
    let mut count = Count::default();
    for path in files(&dir.join("wycheproof"), "json") {
        let file = read(&path);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let signatures = name.starts_with("json_web_signature");
        for (group, test) in groups(&file) {
            let Some(jws) = test.get("jws") else { continue };
            let keys = if group["public"].is_object() { &group["public"] } else { &group["private"] };
            let token = jws.as_str().map_or_else(|| jws.to_string(), str::to_owned);
            let label = test["result"] == "valid";
            let id = test["tcId"].as_u64().unwrap_or(0);
            let known = MISLABELLED.iter().find(|(mislabelled, _)| signatures && *mislabelled == id);
            let expected = known.map_or(label, |(_, right)| *right);
            count.expect(format!("{name} {id} {}", test["comment"]), verifies(keys, &token), expected);
        }
    }
    count.report("wycheproof JWS and JWK", 0);
}

#[test]
fn every_encrypted_object_is_refused() {
    let Some(dir) = jose("every_encrypted_object_is_refused") else { return };
    let mut count = Count::default();
    for path in files(&dir, "json") {
        let value = read_any(&path);
        for (group, test) in groups(&value) {
            let Some(jwe) = test.get("jwe") else { continue };
            let token = jwe.as_str().map_or_else(|| jwe.to_string(), str::to_owned);
            count.expect(&test["tcId"], verifies(&group["private"], &token), false);
        }
        if path.to_string_lossy().contains("jwe") {
            let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            for vector in list {
                for form in ["compact", "json", "json_flat"] {
                    let Some(output) = vector["output"].get(form) else { continue };
                    let token = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
                    count.expect(path.display(), verifies(&vector["input"]["key"], &token), false);
                }
            }
        }
    }
    for extension in ["jwec", "jwef", "jweg"] {
        for path in files(&dir, extension) {
            let key = path.with_extension("jwk");
            let keys = if key.is_file() { read(&key) } else { json!({}) };
            count.expect(path.display(), verifies(&keys, &text(&path)), false);
        }
    }
    count.report("encrypted objects", 200);
}

fn read_any(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap_or(Value::Null)
}

#[test]
fn cookbooks() {
    let Some(dir) = jose("cookbooks") else { return };
    let mut count = Count::default();
    let mut vector = |what: &str, vector: &Value| {
        let key = &vector["input"]["key"];
        for (form, output) in vector["output"].as_object().into_iter().flatten() {
            let token = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
            let protected = vector["signing"]["protected"].to_string();
            // Compact with its payload in it, and an algorithm of ours. Everything else is refused.
            let ours = form == "compact"
                && !token.contains("..")
                && !protected.contains("b64")
                && !protected.contains("ML-DSA-87");
            count.expect(format!("{what} {form}"), verifies(key, &token), ours);
        }
    };
    for folder in ["jws", "rfc7797", "curve25519"] {
        for path in files(&dir.join("ietf-jose-cookbook").join(folder), "json") {
            let value = read(&path);
            if value["signing"].is_object() || value["output"].is_object() && folder != "curve25519" {
                vector(&path.display().to_string(), &value);
            }
        }
    }
    for path in files(&dir.join("panva-jose"), "json") {
        for value in read(&path).as_array().into_iter().flatten().filter(|value| value["signing"].is_object()) {
            vector(value["title"].as_str().unwrap_or(""), value);
        }
    }
    vector("cookbook 6", &read(&dir.join("ietf-jose-cookbook/6.nesting_signatures_and_encryption.json"))["sign"]);
    count.report("cookbooks", 30);
}

#[test]
fn latchset() {
    let Some(dir) = jose("latchset") else { return };
    let dir = dir.join("latchset-jose");
    let mut count = Count::default();
    for path in files(&dir, "jwsc") {
        let token = text(&path);
        let key = path.with_extension("jwk");
        let keys = if key.is_file() { read(&key) } else { json!({"kty": "oct", "k": ""}) };
        // A.5 is not signed, and the detached one lacks its payload.
        let expected = key.is_file() && !token.contains("..");
        count.expect(path.display(), verifies(&keys, &token), expected);
    }
    for extension in ["jwsf", "jwsg"] {
        for path in files(&dir, extension) {
            let sets = [path.with_extension("jwk"), path.with_extension("jwkset")];
            let keys = sets.iter().find(|path| path.is_file()).map_or(json!({}), |path| read(path));
            count.expect(path.display(), verifies(&keys, &text(&path)), false);
        }
    }
    for path in files(&dir, "thp") {
        let keys = KeySet::from_operator(&std::fs::read(path.with_extension("jwk")).unwrap()).unwrap();
        count.expect(path.display(), keys.keys()[0].thumbprint_text() == text(&path), true);
    }
    // Sets with private or shared keys are an operator's, never published.
    for path in files(&dir, "jwkset") {
        let bytes = std::fs::read(&path).unwrap();
        let private = ["\"d\"", "\"k\""].iter().any(|member| String::from_utf8_lossy(&bytes).contains(member));
        count.expect(path.display(), KeySet::from_published(&bytes).is_ok(), !private);
        count.expect(path.display(), KeySet::from_operator(&bytes).is_ok(), true);
    }
    count.report("latchset", 20);
}

#[test]
fn ml_dsa_of_rfc_9964() {
    let Some(dir) = jose("ml_dsa_of_rfc_9964") else { return };
    let mut count = Count::default();
    for path in files(&dir.join("ml-dsa-rfc9964"), "json") {
        let value = read(&path);
        let token = value["jws"].as_str().unwrap();
        let ours = !path.to_string_lossy().contains("87");
        count.expect(path.display(), verifies(&value["jwk"], token), ours);
        if ours {
            let mut public = value["jwk"].clone();
            public.as_object_mut().unwrap().remove("priv");
            let keys = KeySet::from_published(json!({"keys": [public]}).to_string().as_bytes()).unwrap();
            count.expect("thumbprint", value["jwk"]["kid"] == keys.keys()[0].thumbprint_text().as_str(), true);
        }
        let (signed, signature) = token.rsplit_once('.').unwrap();
        count.expect("altered", verifies(&value["jwk"], &format!("{signed}.B{}", &signature[1..])), false);
    }
    count.report("ML-DSA", 8);
}

#[test]
fn tokens_in_the_text_of_rfcs() {
    let Some(dir) = jose("tokens_in_the_text_of_rfcs") else { return };
    let rfcs = read(&dir.join("rfc-text/rfc_tokens_extracted.json"));
    let mut keys: Vec<Value> =
        ["1", "2", "3", "4"].iter().map(|n| read(&dir.join(format!("latchset-jose/rfc7515_A.{n}.jwk")))).collect();
    keys.push(read(&dir.join("ietf-jose-cookbook/curve25519/jws.json"))["input"]["key"].clone());
    let mut count = Count::default();
    let mut accepted = Vec::new();
    for (rfc, tokens) in rfcs.as_object().unwrap() {
        for token in tokens.as_array().unwrap() {
            let token_text = token["text"].as_str().unwrap();
            let Ok(compact) = parse_compact(token_text) else { continue };
            let header = Value::Object(compact.header.members().clone()).to_string();
            count.expect(format!("{rfc} {}", token["line"]), header.contains("b64") || header.contains("enc"), false);
            if keys.iter().any(|key| verifies(key, token_text)) {
                accepted.push(rfc.as_str());
            }
        }
    }
    // The examples of RFC 7515 and RFC 8037 among them verify; nothing of RFC 7516 is even read.
    assert!(accepted.contains(&"rfc7515") && accepted.contains(&"rfc8037"), "{accepted:?}");
    assert!(!accepted.contains(&"rfc7516"));
    count.report("tokens in RFCs", 5);
}

#[test]
fn key_files_of_other_projects() {
    let Some(dir) = jose("key_files_of_other_projects") else { return };
    let mut count = Count::default();
    let authlib = dir.join("authlib");
    for path in files(&authlib, "json") {
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let private = name.contains("private");
        if name.starts_with("jwks") {
            count.expect(&name, KeySet::from_published(&bytes).is_ok(), !private);
        } else {
            let jwk: Value = serde_json::from_slice(&bytes).unwrap();
            let set = json!({"keys": [jwk]}).to_string();
            count.expect(&name, KeySet::from_published(set.as_bytes()).is_ok(), !private);
        }
        let usable = KeySet::from_operator(&bytes).is_ok_and(|keys| keys.rejected().is_empty());
        count.expect(format!("{name} as the operator's"), usable, true);
    }
    let example = KeySet::from_operator(&std::fs::read(authlib.join("thumbprint_example.json")).unwrap()).unwrap();
    let thumbprint = example.keys()[0].thumbprint_text();
    count.expect("RFC 7638 section 3.1", thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", true);
    for folder in ["authlib", "golang-jwt", "keats-jsonwebtoken"] {
        for path in files(&dir.join(folder), "pem") {
            let name = path.strip_prefix(&dir).unwrap().display().to_string();
            let refused =
                ["secp256k1", "ed448", "ssh", "cert_chain", "privateSecure"].iter().any(|kind| name.contains(kind));
            count.expect(&name, KeySet::from_operator(&std::fs::read(&path).unwrap()).is_ok(), !refused);
        }
    }
    // A pair reads as one key.
    for (private, public) in [
        ("golang-jwt/ec256-private.pem", "golang-jwt/ec256-public.pem"),
        ("golang-jwt/ec384-private.pem", "golang-jwt/ec384-public.pem"),
        ("golang-jwt/ec512-private.pem", "golang-jwt/ec512-public.pem"),
        ("golang-jwt/ed25519-private.pem", "golang-jwt/ed25519-public.pem"),
        ("keats-jsonwebtoken/rsa/private_rsa_key_pkcs1.pem", "keats-jsonwebtoken/rsa/public_rsa_key_pkcs1.pem"),
        ("keats-jsonwebtoken/rsa/private_rsa_key_pkcs8.pem", "keats-jsonwebtoken/rsa/public_rsa_key_pkcs8.pem"),
        ("authlib/rsa_private.pem", "authlib/rsa_public.pem"),
    ] {
        let thumbprint = |path: &str| {
            let keys = KeySet::from_operator(&std::fs::read(dir.join(path)).unwrap()).unwrap();
            keys.keys()[0].thumbprint_text()
        };
        count.expect(private, thumbprint(private) == thumbprint(public), true);
    }
    count.report("key files", 30);
}

#[test]
fn json_test_suite_in_header_claims_and_keys() {
    let Some(dir) = jose("json_test_suite_in_header_claims_and_keys") else { return };
    let world = World::new();
    let header = br#"{"alg":"ES256","kid":"k1""#;
    let base = claims().to_string().into_bytes();
    let base = base.strip_suffix(b"}").unwrap();
    let key = TestKey::p256().jwk().to_string().into_bytes();
    let key = key.strip_suffix(b"}").unwrap();
    let splice = |start: &[u8], text: &[u8], end: &[u8]| [start, b",\"zz\":", text, end].concat();
    let signed = |header: &[u8], payload: &[u8]| {
        let input = format!("{}.{}", base64url_encode(header), base64url_encode(payload));
        format!("{input}.{}", base64url_encode(world.key.signature("ES256", input.as_bytes())))
    };
    let mut count = Count::default();
    for path in files(&dir.join("json-test-suite"), "json") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let duplicate = name.contains("duplicated_key") || name.contains("same_key");
        let should = match name.get(..2) {
            _ if duplicate => false,
            Some("y_") => true,
            Some("n_") => false,
            // Left to the reader: only that there is an answer.
            _ => {
                let _ = world.verify(&signed(header, &splice(base, &bytes, b"}")));
                continue;
            }
        };
        let whole_header = [&splice(header, &bytes, b"}")[..]].concat();
        count.expect(
            format!("{name} in claims"),
            world.verify(&signed(&splice(header, b"1", b"}"), &splice(base, &bytes, b"}"))).is_ok(),
            should,
        );
        count.expect(
            format!("{name} in the header"),
            world.verify(&signed(&whole_header, &splice(base, b"1", b"}"))).is_ok(),
            should,
        );
        let jwk = splice(key, &bytes, b"}");
        count.expect(format!("{name} in a JWK"), KeySet::from_operator(&jwk).is_ok(), should);
        let set = [b"{\"keys\":[", jwk.as_slice(), b"]}"].concat();
        count.expect(format!("{name} in a JWKS"), KeySet::from_published(&set).is_ok(), should);
        // As the whole of a part it lacks what a token needs, so it is refused either way.
        count.expect(
            format!("{name} as claims"),
            world.verify(&signed(b"{\"alg\":\"ES256\",\"kid\":\"k1\"}", &bytes)).is_ok(),
            false,
        );
        count.expect(format!("{name} as header"), world.verify(&signed(&bytes, base)).is_ok(), false);
    }
    assert_eq!(world.verdict(&world.good()), "ok");
    count.report("JSON test suite", 400);
}

//! Published JOSE vectors through the real program: `vouchgate jwt verify`, as somebody outside would grade it. The
//! primitive-level sets, whose messages are no JWS, are judged case by case in `crates/proof`; here each of their
//! keys is handed to the program with a token it did not sign.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Value, json};
use testkit::keys::{TestKey, b64};

use crate::support::run;

/// One question to the program and the answer it has to give.
struct Case {
    what: String,
    keys: Vec<u8>,
    token: Vec<u8>,
    args: Vec<String>,
    /// `None`: either answer, as long as it is one.
    valid: Option<bool>,
}

impl Case {
    fn raw(what: impl std::fmt::Display, keys: &Value, token: &str, valid: bool) -> Self {
        let args = vec!["--raw".to_owned()];
        let (keys, token) = (keys.to_string().into_bytes(), token.as_bytes().to_vec());
        Self { what: what.to_string(), keys, token, args, valid: Some(valid) }
    }
}

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
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
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
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap_or(Value::Null)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A token in any of its serialisations, as text.
fn printed(token: &Value) -> String {
    token.as_str().map_or_else(|| token.to_string(), str::to_owned)
}

/// Ask the program all of it, two at a time; print passed of tried and fail with everything that is wrong.
fn ask(set: &str, at_least: usize, cases: Vec<Case>) {
    let tried = cases.len();
    let queue = Mutex::new(cases.into_iter().enumerate());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let dir = tempfile::tempdir().unwrap();
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((number, case)) = next else { return };
                    if let Err(fault) = judge(dir.path(), number, &case) {
                        wrong.lock().unwrap().push(format!("{}: {fault}", case.what));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    println!("{set}: {} of {tried} as described", tried - wrong.len());
    assert!(wrong.is_empty(), "{set}:\n{}", wrong.join("\n"));
    assert!(tried >= at_least, "{set}: only {tried} tried");
}

fn judge(dir: &Path, number: usize, case: &Case) -> Result<(), String> {
    let keys = dir.join(format!("{number}.keys"));
    std::fs::write(&keys, &case.keys).unwrap();
    let keys = keys.display().to_string();
    let mut args = vec!["jwt", "verify", "--jwks", &keys];
    args.extend(case.args.iter().map(String::as_str));
    let (exit, out, err) = run(&args, dir, &case.token);
    let verdict: Value = serde_json::from_str(&out).map_err(|error| format!("no JSON ({error}): {exit} {out}{err}"))?;
    let valid = verdict["valid"].as_bool().ok_or_else(|| format!("no verdict: {out}"))?;
    let reason = verdict["reason"].as_str().unwrap_or_default();
    if exit != i32::from(!valid) || reason.is_empty() || (reason == "ok") != valid {
        return Err(format!("exit {exit} with {out}"));
    }
    match case.valid {
        Some(expected) if expected != valid => Err(format!("valid: {valid} ({reason}) instead of {expected}")),
        _ => Ok(()),
    }
}

fn groups(file: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let groups = file["testGroups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["tests"].as_array().into_iter().flatten().map(move |test| (group, test)))
}

/// Tests whose label contradicts RFC 7515 or RFC 8725, with the outcome that is right: two that equal a valid test,
/// two with characters outside base64url, four that use a key with another algorithm than its own.
const MISLABELLED: [(u64, bool); 8] =
    [(367, true), (370, true), (372, false), (373, false), (346, false), (347, false), (350, false), (351, false)];

#[test]
fn wycheproof_json_web_signatures_and_keys() {
    let Some(dir) = jose("wycheproof_json_web_signatures_and_keys") else { return };
    let mut cases = Vec::new();
    for path in files(&dir.join("wycheproof"), "json") {
        let file = read(&path);
        let signatures = name(&path).starts_with("json_web_signature");
        for (group, test) in groups(&file) {
            let Some(jws) = test.get("jws") else { continue };
            let keys = if group["public"].is_object() { &group["public"] } else { &group["private"] };
            let id = test["tcId"].as_u64().unwrap_or(0);
            let known = MISLABELLED.iter().find(|(mislabelled, _)| signatures && *mislabelled == id);
            let expected = known.map_or(test["result"] == "valid", |(_, right)| *right);
            cases.push(Case::raw(format!("{} {id} {}", name(&path), test["comment"]), keys, &printed(jws), expected));
        }
    }
    ask("wycheproof JWS and JWK", 0, cases);
}

#[test]
fn wycheproof_primitives_hand_over_their_keys_and_never_vouch_for_a_strange_token() {
    let Some(dir) = jose("wycheproof_primitives") else { return };
    let stranger = TestKey::generate("ES256").mint(&json!({"sub": "x"}));
    let mut cases = Vec::new();
    for path in files(&dir.join("wycheproof"), "json") {
        let file = read(&path);
        let mut of_file = 0;
        for group in file["testGroups"].as_array().into_iter().flatten() {
            let jwk = ["publicKeyJwk", "keyJwk"].iter().map(|member| &group[member]).find(|key| key.is_object());
            let keys = match (jwk, group["publicKeyPem"].as_str(), group["publicKey"].as_str()) {
                (Some(jwk), _, _) => jwk.to_string(),
                (None, Some(pem), _) => pem.to_owned(),
                (None, None, Some(hex)) => hex.to_owned(),
                (None, None, None) => continue,
            };
            // A few keys of each file: they are alike, and refused or useless in the same way.
            of_file += 1;
            if of_file <= 3 {
                let keys = keys.into_bytes();
                let (what, token) = (name(&path), stranger.clone().into_bytes());
                cases.push(Case { what, keys, token, args: Vec::new(), valid: Some(false) });
            }
        }
    }
    ask("wycheproof keys of primitives", 9, cases);
}

#[test]
fn every_encrypted_object_is_refused() {
    let Some(dir) = jose("every_encrypted_object_is_refused") else { return };
    let mut cases = Vec::new();
    for path in files(&dir, "json") {
        let value = read(&path);
        for (group, test) in groups(&value) {
            if let Some(jwe) = test.get("jwe") {
                let what = format!("{} {}", name(&path), test["tcId"]);
                cases.push(Case::raw(what, &group["private"], &printed(jwe), false));
            }
        }
        if path.to_string_lossy().contains("jwe") {
            let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            for vector in list {
                for form in ["compact", "json", "json_flat"] {
                    if let Some(output) = vector["output"].get(form) {
                        cases.push(Case::raw(name(&path), &vector["input"]["key"], &printed(output), false));
                    }
                }
            }
        }
    }
    for extension in ["jwec", "jwef", "jweg"] {
        for path in files(&dir, extension) {
            let key = path.with_extension("jwk");
            let keys = if key.is_file() { read(&key) } else { json!({}) };
            cases.push(Case::raw(name(&path), &keys, &text(&path), false));
        }
    }
    ask("encrypted objects", 200, cases);
}

#[test]
fn cookbooks_and_latchset_files() {
    let Some(dir) = jose("cookbooks_and_latchset_files") else { return };
    let mut cases = Vec::new();
    let mut vector = |what: &str, vector: &Value| {
        for (form, output) in vector["output"].as_object().into_iter().flatten() {
            let token = printed(output);
            let protected = vector["signing"]["protected"].to_string();
            // Compact with its payload in it, and an algorithm of ours. Everything else is refused.
            let ours = form == "compact"
                && !token.contains("..")
                && !protected.contains("b64")
                && !protected.contains("ML-DSA-87");
            cases.push(Case::raw(format!("{what} {form}"), &vector["input"]["key"], &token, ours));
        }
    };
    for folder in ["jws", "rfc7797", "curve25519"] {
        for path in files(&dir.join("ietf-jose-cookbook").join(folder), "json") {
            let value = read(&path);
            if value["signing"].is_object() || value["output"].is_object() && folder != "curve25519" {
                vector(&name(&path), &value);
            }
        }
    }
    for path in files(&dir.join("panva-jose"), "json") {
        for value in read(&path).as_array().into_iter().flatten().filter(|value| value["signing"].is_object()) {
            vector(value["title"].as_str().unwrap_or(""), value);
        }
    }
    vector("cookbook 6", &read(&dir.join("ietf-jose-cookbook/6.nesting_signatures_and_encryption.json"))["sign"]);
    let latchset = dir.join("latchset-jose");
    for path in files(&latchset, "jwsc") {
        let key = path.with_extension("jwk");
        let keys = if key.is_file() { read(&key) } else { json!({"kty": "oct", "k": ""}) };
        // A.5 is not signed, and the detached one lacks its payload.
        let token = text(&path);
        cases.push(Case::raw(name(&path), &keys, &token, key.is_file() && !token.contains("..")));
    }
    for extension in ["jwsf", "jwsg"] {
        for path in files(&latchset, extension) {
            let sets = [path.with_extension("jwk"), path.with_extension("jwkset")];
            let keys = sets.iter().find(|path| path.is_file()).map_or(json!({}), |path| read(path));
            cases.push(Case::raw(name(&path), &keys, &text(&path), false));
        }
    }
    ask("cookbooks and latchset", 50, cases);
}

#[test]
fn ml_dsa_of_rfc_9964_and_proofs_of_rfc_9449() {
    let Some(dir) = jose("ml_dsa_and_rfc_9449") else { return };
    let mut cases = Vec::new();
    for path in files(&dir.join("ml-dsa-rfc9964"), "json") {
        let value = read(&path);
        let token = value["jws"].as_str().unwrap();
        cases.push(Case::raw(name(&path), &value["jwk"], token, !name(&path).contains("87")));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let altered = format!("{signed}.B{}", &signature[1..]);
        cases.push(Case::raw(format!("{} altered", name(&path)), &value["jwk"], &altered, false));
    }
    // A proof's signature holds under the key in its header; that key is never taken from there by itself.
    let examples = read(&dir.join("rfc-text/rfc9449_examples.json")).to_string();
    let other = TestKey::generate("ES256").public_jwk();
    let mut proofs = 0;
    for token in examples.split('"').filter(|part| part.starts_with("eyJ") && part.split('.').count() == 3) {
        let compact = proof::jose::parse_compact(token).unwrap();
        if let Some(key) = compact.header.members().get("jwk") {
            proofs += 1;
            cases.push(Case::raw("a proof of RFC 9449", key, token, true));
        }
        cases.push(Case::raw("a token of RFC 9449 under another key", &other, token, false));
    }
    assert!(proofs >= 3, "{proofs}");
    ask("ML-DSA and RFC 9449", 8, cases);
}

#[test]
fn tokens_in_the_text_of_rfcs() {
    let Some(dir) = jose("tokens_in_the_text_of_rfcs") else { return };
    let rfcs = read(&dir.join("rfc-text/rfc_tokens_extracted.json"));
    let mut keys: Vec<Value> =
        ["1", "2", "3", "4"].iter().map(|n| read(&dir.join(format!("latchset-jose/rfc7515_A.{n}.jwk")))).collect();
    keys.push(read(&dir.join("ietf-jose-cookbook/curve25519/jws.json"))["input"]["key"].clone());
    let mut cases = Vec::new();
    for (rfc, tokens) in rfcs.as_object().unwrap() {
        for token in tokens.as_array().unwrap() {
            let text = token["text"].as_str().unwrap();
            for key in &keys {
                // Encrypted ones and those without their payload are never valid; the others under their own key only.
                let never = text.split('.').count() != 3 || text.contains("..") || rfc == "rfc7516";
                let mut case = Case::raw(format!("{rfc} {}", token["line"]), key, text, false);
                case.valid = never.then_some(false);
                cases.push(case);
            }
        }
    }
    ask("tokens in RFCs", 50, cases);
}

#[test]
fn key_files_of_other_projects() {
    let Some(dir) = jose("key_files_of_other_projects") else { return };
    let stranger = TestKey::generate("RS256").mint(&json!({"sub": "x"}));
    let mut cases = Vec::new();
    for folder in ["authlib", "golang-jwt", "keats-jsonwebtoken", "lestrrat-jwx", "ietf-jose-cookbook/jwk"] {
        for extension in ["json", "pem", "pub", "pk8", "der", "crt", "jwk", "key"] {
            for path in files(&dir.join(folder), extension) {
                let keys = std::fs::read(&path).unwrap();
                let (what, token) = (name(&path), stranger.clone().into_bytes());
                cases.push(Case { what, keys, token, args: Vec::new(), valid: Some(false) });
            }
        }
    }
    ask("key files", 30, cases);
}

#[test]
fn json_test_suite_in_claims_and_header() {
    let Some(dir) = jose("json_test_suite_in_claims_and_header") else { return };
    let key = TestKey::generate("EdDSA");
    let keys = key.public_jwk().to_string().into_bytes();
    let header = format!("{{\"alg\":\"EdDSA\",\"kid\":{:?}", key.kid).into_bytes();
    let splice = |start: &[u8], bytes: &[u8]| [start, b",\"zz\":", bytes, b"}"].concat();
    let signed = |header: &[u8], payload: &[u8]| {
        let input = format!("{}.{}", b64(header), b64(payload));
        format!("{input}.{}", b64(key.sign(input.as_bytes()))).into_bytes()
    };
    let claims = b"{\"sub\":\"x\",\"exp\":2000000000";
    let mut cases = Vec::new();
    for path in files(&dir.join("json-test-suite"), "json") {
        let what = name(&path);
        let bytes = std::fs::read(&path).unwrap();
        let valid = match what.get(..2) {
            _ if what.contains("duplicated_key") || what.contains("same_key") => Some(false),
            Some("y_") => Some(true),
            Some("n_") => Some(false),
            // Left to the reader: only that there is an answer.
            _ => None,
        };
        let args = vec!["--now".to_owned(), "1900000000".to_owned()];
        let mut case = |place: &str, token: Vec<u8>| {
            let (what, keys, args) = (format!("{what} in {place}"), keys.clone(), args.clone());
            cases.push(Case { what, keys, token, args, valid });
        };
        case("the claims", signed(&splice(&header, b"1"), &splice(claims, &bytes)));
        // The same reader reads headers; every third file shows that it is asked there too.
        if bytes.len() % 3 == 0 {
            case("the header", signed(&splice(&header, &bytes), &splice(claims, b"1")));
        }
    }
    ask("JSON test suite", 90, cases);
}

#[test]
fn usage_is_told_from_a_bad_key_or_token() {
    let dir = tempfile::tempdir().unwrap();
    let key = TestKey::generate("ES256");
    std::fs::write(dir.path().join("good.json"), key.public_jwk().to_string()).unwrap();
    std::fs::write(dir.path().join("bad.json"), "{\"keys\":").unwrap();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    std::fs::write(dir.path().join("empty"), "").unwrap();
    let token = key.mint(&json!({"sub": "x", "exp": 2_000_000_000}));
    let verify = |args: &[&str], token: &str| {
        let args = [&["jwt", "verify"], args].concat();
        run(&args, dir.path(), token.as_bytes()).0
    };
    assert_eq!(verify(&["--jwks", "good.json", "--now", "1900000000"], &token), 0);
    assert_eq!(verify(&["--jwks", "good.json", "--now", "1900000000", "--alg", "ES256", "--typ", "at+jwt"], &token), 0);
    for args in [
        &["--jwks", "good.json", "--now", "2000000000"][..],
        &["--jwks", "good.json", "--now", "1900000000", "--alg", "RS256"],
        &["--jwks", "good.json", "--now", "1900000000", "--alg", "none"],
        &["--jwks", "good.json", "--now", "1900000000", "--alg", "ES256K"],
        &["--jwks", "good.json", "--now", "1900000000", "--iss", "other"],
        &["--jwks", "good.json", "--now", "1900000000", "--aud", "other"],
        &["--jwks", "good.json", "--now", "1900000000", "--typ", "JWT"],
        &["--jwks", "bad.json"],
        &["--jwks", "empty"],
        &["--secret-file", "secret"],
        &["--secret-file", "empty"],
        &["--secret-file", "secret", "--alg", "ES256"],
    ] {
        assert_eq!(verify(args, &token), 1, "{args:?}");
    }
    for token in ["", "\n", "a.b.c", "\u{0}", &"a".repeat(2 << 20)] {
        assert_eq!(verify(&["--jwks", "good.json"], token), 1);
    }
    for args in [
        &[][..],
        &["--jwks", "absent.json"],
        &["--jwks", "good.json", "--secret-file", "secret"],
        &["--jwks", "good.json", "--now", "yesterday"],
        &["--jwks", "good.json", "--alg", "ES265"],
        &["--jwks", "."],
        &["--secret", "secret"],
    ] {
        assert_eq!(verify(args, &token), 2, "{args:?}");
    }
}

//! Published vectors: RFC 9421 appendix B, and the HTTP working group's tests for structured fields.

use serde_json::{Value, json};

use super::base::{Message, signature_base};
use super::field::{Bare, FieldError, InnerList, Item, Member, dictionary};
use super::verify::combined;
use crate::jose::{Alg, KeySet, VerifyingKey};

const DIGEST: &str =
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

/// The keys of appendix B.1, without their private halves.
fn key(name: &str) -> std::sync::Arc<VerifyingKey> {
    let jwk = match name {
        "test-key-rsa-pss" => json!({"kty": "RSA", "e": "AQAB", "n": "r4tmm3r20Wd_PbqvP1s2-QEtvpuRaV8Yq40gjUR8y2Rjxa6\
            dpG2GXHbPfvMs8ct-Lh1GH45x28Rw3Ry53mm-oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHqgDs\
            znjPFmTOtCEcN2Z1FpWgchwuYLPL-Wokqltd11nqqzi-bJ9cvSKADYdUAAN5WUtzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZ\
            YoA485mqcO0GVAdVw9lq4aOT9v6d-nb4bnNkQVklLQ3fVAvJm-xdDOp9LCNCN48V2pnDOkFV6-U9nV5oyc6XI2w"}),
        "test-key-ecc-p256" => json!({"kty": "EC", "crv": "P-256", "x": "qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA",
            "y": "Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0"}),
        _ => json!({"kty": "OKP", "crv": "Ed25519", "x": "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs"}),
    };
    let set = KeySet::from_published(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    set.keys().first().unwrap().clone()
}

/// A message of the appendix: its target, its fields.
struct Example {
    method: &'static str,
    target: &'static str,
    query: &'static str,
    fields: Vec<(&'static str, &'static str)>,
}

fn test_request() -> Example {
    Example {
        method: "POST",
        target: "https://example.com/foo",
        query: "param=Value&Pet=dog",
        fields: vec![
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("content-type", "application/json"),
            ("content-digest", DIGEST),
            ("content-length", "18"),
        ],
    }
}

impl Example {
    /// Whether the signature in these two fields is `alg`'s by the key it names.
    fn holds(&self, alg: Alg, input: &str, signature: &str) -> bool {
        let covered = match dictionary(input).unwrap().pop().unwrap().1 {
            Member::List(covered) => covered,
            Member::Item(_) => panic!("not a list"),
        };
        assert!(input.ends_with(&covered.canonical()), "already in canonical form: {input}");
        let Some((_, Member::Item(Item { value: Bare::Bytes(signature), .. }))) = dictionary(signature).unwrap().pop()
        else {
            panic!("not bytes")
        };
        let Some((_, Bare::String(keyid))) = covered.parameters.iter().find(|(name, _)| name == "keyid") else {
            panic!("no keyid")
        };
        let fields = covered.items.iter().filter_map(|item| self.field(item)).collect::<Vec<_>>();
        let message = Message { method: self.method, target: self.target, query: Some(self.query), fields: &fields };
        let base = signature_base(&covered, &message).unwrap();
        key(keyid).verify(alg, base.as_bytes(), &signature).is_ok()
    }

    fn field(&self, item: &Item) -> Option<(String, String)> {
        let Bare::String(name) = &item.value else { panic!("not a string") };
        let lines = self.fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        Some((name.clone(), combined(lines, name, 1000).unwrap()?))
    }
}

#[test]
fn rfc_9421_appendix_b_2_signatures_verify() {
    let request = test_request();
    assert!(
        request.holds(
            Alg::Ps512,
            r#"sig-b21=();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd""#,
            "sig-b21=:d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJ\
             MkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZs\
             fxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ss\
             inQ98Xw9Q==:"
        ),
        "B.2.1"
    );
    assert!(
        request.holds(
            Alg::Ps512,
            "sig-b23=(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \"content-digest\" \
             \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"",
            "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb\
             38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy\
             7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKE\
             gM4cUA==:"
        ),
        "B.2.3"
    );
    let ed25519 = "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");\
                   created=1618884473;keyid=\"test-key-ed25519\"";
    let signature =
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:";
    assert!(request.holds(Alg::EdDsa, ed25519, signature), "B.2.6");
    assert!(!Example { method: "PUT", ..test_request() }.holds(Alg::EdDsa, ed25519, signature));
    assert!(!request.holds(Alg::EdDsa, &ed25519.replace("1618884473", "1618884474"), signature));
}

#[test]
fn rfc_9421_appendix_b_4_lines_of_a_field_are_joined_in_order() {
    let example = |lines: [&'static str; 2], target| Example {
        method: "GET",
        target,
        query: "name1=Value1&Name2=value2",
        fields: lines.map(|line| ("accept", line)).into(),
    };
    let input =
        "transform=(\"@method\" \"@path\" \"@authority\" \"accept\");created=1618884473;keyid=\"test-key-ed25519\"";
    let signature =
        "transform=:ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==:";
    let target = "https://example.org/demo";
    let good = example(["application/json", "*/*"], target);
    assert!(good.holds(Alg::EdDsa, input, signature));
    let one_line = Example { fields: vec![("accept", "application/json, */*")], ..good };
    assert!(one_line.holds(Alg::EdDsa, input, signature));
    assert!(!example(["*/*", "application/json"], target).holds(Alg::EdDsa, input, signature));
    assert!(!example(["application/json", "*/*"], "https://example.com/demo").holds(Alg::EdDsa, input, signature));
}

#[test]
fn components_that_would_give_one_request_several_bases_are_not_known() {
    let covered = |text: &str| match dictionary(&format!("a={text}")).unwrap().pop() {
        Some((_, Member::List(covered))) => covered,
        _ => panic!("{text}"),
    };
    let message = Message { method: "GET", target: "https://h/p", query: None, fields: &[("x".into(), "1".into())] };
    let base = |list: &InnerList| signature_base(list, &message);
    let all = r#"("@method" "@target-uri" "@authority" "@scheme" "@request-target" "@path" "@query" "x")"#;
    let expected = "\"@method\": GET\n\"@target-uri\": https://h/p\n\"@authority\": h\n\"@scheme\": https\n\
                    \"@request-target\": /p\n\"@path\": /p\n\"@query\": ?\n\"x\": 1\n\"@signature-params\": ";
    assert_eq!(base(&covered(all)).unwrap(), format!("{expected}{all}"));
    for wrong in [
        r#"("@status")"#,
        r#"("@query-param";name="a")"#,
        r#"("@signature-params")"#,
        r#"("@METHOD")"#,
        r#"("x";sf)"#,
        r#"("x";bs)"#,
        r#"("x";key="a")"#,
        r#"("x";req)"#,
        r#"("x";tr)"#,
        r#"("X")"#,
        r#"("")"#,
        r#"("x" "x")"#,
        r#"("y")"#,
        r#"("x:")"#,
        r#"("a b")"#,
        "(x)",
        "(:eA==:)",
        r#"("@method" "@method")"#,
    ] {
        assert!(base(&covered(wrong)).is_err(), "{wrong}");
    }
}

/// What the expected form of the tests and ours have in common.
fn is(value: &Value, own: &Item) -> bool {
    let [bare, parameters] = value.as_array().unwrap().as_slice() else { return false };
    is_bare(bare, &own.value) && are(parameters, &own.parameters)
}

fn are(value: &Value, own: &[(String, Bare)]) -> bool {
    let list = value.as_array().unwrap();
    list.len() == own.len()
        && list.iter().zip(own).all(|(value, (name, own))| value[0] == **name && is_bare(&value[1], own))
}

fn is_bare(value: &Value, own: &Bare) -> bool {
    match (own, value["__type"].as_str()) {
        (Bare::Integer(number), None) => value.as_i64() == Some(*number),
        (Bare::Decimal(text), None) => value.as_f64() == text.parse().ok(),
        (Bare::String(text), None) => value == text,
        (Bare::Boolean(flag), None) => value == flag,
        (Bare::Token(text), Some("token")) => value["value"] == **text,
        (Bare::Bytes(bytes), Some("binary")) => value["value"] == *base32(bytes),
        _ => false,
    }
}

/// RFC 4648 section 6, with padding.
fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut five = [0u8; 8];
        five[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(five);
        for at in 0..8 {
            let used = at * 5 < chunk.len() * 8;
            let index = usize::try_from(bits >> (35 - at * 5) & 31).unwrap();
            out.push(if used { char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[index]) } else { '=' });
        }
    }
    out
}

/// Whether a test is about a type that only RFC 9651 has.
fn is_newer(test: &Value) -> bool {
    let expected = test["expected"].to_string();
    ["date", "displaystring"].iter().any(|kind| expected.contains(&format!(r#""__type":"{kind}""#)))
}

/// What a test gives to read and, if that is to be read, what it is: members, or one value of a member `a`.
fn asked(test: &Value) -> Option<(String, Option<Value>)> {
    let lines: Vec<&str> = test["raw"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let raw = lines.join(", ");
    let expected = Some(&test["expected"]).filter(|_| test["must_fail"] != true).cloned();
    match test["header_type"].as_str().unwrap() {
        "dictionary" => Some((raw, expected)),
        // Space around an item is not part of it; an empty one would be a member without a value.
        "item" if !raw.contains(',') && !raw.contains('\t') && !raw.trim().is_empty() => {
            Some((format!("a={}", raw.trim_matches(' ')), expected.map(|expected| json!([["a", expected]]))))
        }
        _ => None,
    }
}

fn are_members(expected: &Value, own: &[(String, Member)]) -> bool {
    let value = |expected: &Value, own: &Member| match own {
        Member::Item(own) => is(expected, own),
        Member::List(own) => {
            let items = expected[0].as_array().unwrap();
            let same = items.len() == own.items.len() && items.iter().zip(&own.items).all(|(one, own)| is(one, own));
            same && are(&expected[1], &own.parameters)
        }
    };
    let expected = expected.as_array().unwrap();
    expected.len() == own.len()
        && expected.iter().zip(own).all(|(one, (name, own))| one[0] == **name && value(&one[1], own))
}

#[test]
fn structured_fields_are_read_as_the_working_groups_tests_say() {
    let Some(data) = vectors::data() else { return vectors::skipped("structured_field_tests") };
    let (mut read, mut refused) = (0, 0);
    for file in std::fs::read_dir(data.join("jose/structured-field-tests")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let tests: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for test in tests.as_array().unwrap() {
            let Some((text, expected)) = asked(test) else { continue };
            let name = format!("{} {} {text:?}", path.display(), test["name"]);
            match (expected, dictionary(&text)) {
                (None, result) => {
                    assert!(result.is_err(), "{name}: {result:?}");
                    refused += 1;
                }
                (Some(expected), Ok(members)) => {
                    assert!(are_members(&expected, &members), "{name}: {members:?}");
                    read += 1;
                }
                // Narrower than the RFC on purpose.
                (Some(_), Err(FieldError::DuplicateKey | FieldError::TooLarge)) => {}
                (Some(_), Err(FieldError::Syntax)) => assert!(test["can_fail"] == true || is_newer(test), "{name}"),
            }
        }
    }
    assert!(read > 300 && refused > 300, "{read} read, {refused} refused");
}

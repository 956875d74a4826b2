//! What is sealed to installations, with the same of other makers at the other end: npm `jose` and Python's `joserfc`.

use base::SystemRng;
use proof::attest::seal::{EphemeralKey, Parties, seal};
use serde_json::{Value, json};
use testkit::keys::b64;
use vouchgate_client::secrets::{Curve, Recipient};

use crate::support::client;

const SCRIPTS: [&str; 2] = ["jose_jwe.mjs", "joserfc_jwe.py"];
const TEXT: &str = "{\"maps-key\":{\"v\":2,\"value\":\"gr\u{fc}n\",\"exp\":1795219500}}";

fn public(private: &Value) -> Value {
    let mut jwk = private.clone();
    jwk.as_object_mut().unwrap().retain(|name, _| ["kty", "crv", "x", "y"].contains(&name.as_str()));
    jwk
}

#[tokio::test]
async fn what_the_gateway_seals_others_open_on_both_curves_and_nobody_else_does() {
    let test = "what_the_gateway_seals_others_open_on_both_curves_and_nobody_else_does";
    for script in SCRIPTS {
        let Some(made) = client(script, test, &json!({"make": ["P-256", "X25519"]})).await else { return };
        let keys = made["keys"].as_array().unwrap();
        let mut open = Vec::new();
        for key in keys {
            let recipient = EphemeralKey::from_jwk(public(key).as_object().unwrap()).unwrap();
            let parties = Parties { apu: b"in_1", apv: b"nonce" };
            let jwe = seal(&recipient, parties, TEXT.as_bytes(), &SystemRng).unwrap();
            open.push(json!({"jwk": key, "jwe": jwe}));
            // Another party in the header, and a flipped bit at the end.
            let (header, rest) = jwe.split_once('.').unwrap();
            let header = String::from_utf8(proof::jose::base64url_decode(header).unwrap()).unwrap();
            let other = format!("{}.{rest}", b64(header.replace(&b64("in_1"), &b64("in_2"))));
            open.push(json!({"jwk": key, "jwe": other}));
        }
        let opened = client(script, test, &json!({"open": open})).await.unwrap();
        let opened = opened["opened"].as_array().unwrap();
        assert_eq!(opened.len(), 4);
        for (at, crv) in [(0, "P-256"), (2, "X25519")] {
            assert_eq!(opened[at]["text"], TEXT, "{script} {crv}: {}", opened[at]);
            let header = &opened[at]["header"];
            assert_eq!((&header["apu"], &header["epk"]["crv"]), (&json!(b64("in_1")), &json!(crv)), "{script}");
            assert!(opened[at + 1]["error"].is_string(), "{script} {crv}: {}", opened[at + 1]);
        }
    }
}

#[tokio::test]
async fn what_others_seal_the_client_opens_if_it_is_for_its_installation() {
    let test = "what_others_seal_the_client_opens_if_it_is_for_its_installation";
    for (script, curve) in SCRIPTS.into_iter().flat_map(|script| [(script, Curve::P256), (script, Curve::X25519)]) {
        let recipients = [Recipient::on(curve).unwrap(), Recipient::on(curve).unwrap()];
        let seal = recipients.iter().map(|recipient| {
            let jwk = recipient.public_jwk().to_json();
            json!({"jwk": jwk, "apu": b64("in_1"), "apv": b64("nonce"), "text": TEXT})
        });
        let job = json!({"seal": seal.collect::<Vec<_>>()});
        let Some(done) = client(script, test, &job).await else { return };
        let sealed = |at: usize| done["sealed"][at].as_str().unwrap();
        let [first, second] = recipients;
        let opened = first.open(sealed(0), "in_1").unwrap();
        assert_eq!(opened["maps-key"].expose(), "gr\u{fc}n", "{script}");
        assert!(second.open(sealed(1), "in_2").is_err(), "{script}: it is for another installation");
    }
}

//! The fraud metric: receipts are kept, exchanged when their time has come, and what Apple says with them is a flag.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::apps::exchange_receipts;

const APP: &str = r#"
[[app]]
name = "chat"
scopes = ["chat"]

[app.ios]
team = "ABCDE12345"
bundle = "com.example.chat"
fraud_metric = { key = { env = "K" }, key_id = "KEYID12345" }
"#;

async fn world() -> World {
    let limits = AttemptLimits { per_minute: 1000, ..AttemptLimits::default() };
    World::keeping(APP, limits, super::asked::secret).await
}

impl World {
    /// Ask Apple, who answers this.
    async fn exchange(&self, status: u16, body: String) -> usize {
        *self.told.answer.lock().unwrap() = Ok((status, body));
        self.exchange_now().await
    }

    async fn exchange_now(&self) -> usize {
        let in_force = self.apps.parts.in_force.load();
        exchange_receipts(&self.fixture.operations, &in_force, &*self.told).await.unwrap()
    }

    /// What the installation's flags are at its next token.
    async fn metric(&self, phone: &Iphone, of: &mut Enrolled) -> Option<i64> {
        let jkt = of.key.public_jwk().thumbprint();
        of.answer["nonce"] = self.challenge("chat", "ios", Some(&jkt)).await["nonce"].clone();
        let body = next_token("chat", phone, of);
        let answer = self.post("/attest/v1/token", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let kept = self.fixture.operations.store().instances().get(of.id()).await.unwrap().unwrap();
        let flags: Value = serde_json::from_str(&kept.attested.flags).unwrap();
        flags.as_array().unwrap().iter().find(|flag| flag["name"] == "fraud_metric")?["value"].as_i64()
    }
}

#[tokio::test]
async fn a_receipt_is_exchanged_and_what_apple_says_is_a_flag_that_rules_act_on() {
    let world = world().await;
    let phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    assert_eq!(world.metric(&phone, &mut of).await, None);
    let newer = STANDARD.encode(phone.newer_receipt(7).unwrap());
    assert_eq!(world.exchange(200, newer).await, 1);
    assert_eq!(world.asked(), ["https://data.appattest.apple.com/v1/attestationData"]);
    assert_eq!(world.metric(&phone, &mut of).await, Some(7));
    world.rules("rules = [{ when = { flag = \"fraud_metric\", gt = 5 }, do = \"deny\" }]");
    let jkt = of.key.public_jwk().thumbprint();
    of.answer["nonce"] = world.challenge("chat", "ios", Some(&jkt)).await["nonce"].clone();
    let body = next_token("chat", &phone, &of);
    assert_eq!(world.why(&world.post("/attest/v1/token", &body).await).await, "fraud_metric");
    // Not before the time the receipt itself names.
    assert_eq!(world.exchange_now().await, 0);
    world.advance(86_401);
    let newer = STANDARD.encode(phone.newer_receipt(1).unwrap());
    assert_eq!(world.exchange(200, newer).await, 1);
    assert_eq!(world.metric(&phone, &mut of).await, Some(1));
    // What is kept of it is sealed, and goes with the installation.
    let due = world.fixture.operations.store().receipts();
    world.advance(86_401);
    let kept = due.due(world.fixture.clock.now(), 10).await.unwrap();
    assert!(kept.len() == 1 && !kept[0].sealed.as_bytes().windows(4).any(|part| part == b"chat"));
    world.fixture.operations.store().instances().delete(of.id(), "ops", "gone").await.unwrap();
    assert!(due.due(world.fixture.clock.now(), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_receipt_of_another_app_or_key_or_one_given_before_changes_nothing() {
    let world = world().await;
    let (phone, other) = (world.iphone(), world.iphone());
    let mut of = world.enrol("chat", &phone).await;
    let early = STANDARD.encode(phone.newer_receipt(3).unwrap());
    assert_eq!(world.exchange(200, early.clone()).await, 1);
    world.enrol("chat", &other).await;
    let mut elsewhere = world.iphone();
    elsewhere.app_id = "ABCDE12345.com.example.other".to_owned();
    elsewhere.attest_key(&elsewhere.generate_key().unwrap(), &[7; 32]).unwrap();
    for receipt in [
        // Of another phone, of another app, one that was given a day ago, the one from the attestation, none at all.
        STANDARD.encode(other.newer_receipt(0).unwrap()),
        STANDARD.encode(elsewhere.newer_receipt(0).unwrap()),
        early,
        STANDARD.encode(phone.receipt_in_last().unwrap()),
        STANDARD.encode(b"not a receipt"),
        "!".to_owned(),
    ] {
        world.advance(86_401);
        world.exchange(200, receipt).await;
        assert_eq!(world.metric(&phone, &mut of).await, Some(3));
    }
}

#[tokio::test]
async fn what_apple_is_asked_with_is_no_answer() {
    let world = world().await;
    let phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    // Made just now, for this app and key, and still: it was in the attestation.
    assert_eq!(world.exchange(200, STANDARD.encode(phone.receipt_in_last().unwrap())).await, 1);
    assert_eq!(world.metric(&phone, &mut of).await, None);
    assert_eq!(world.exchange_now().await, 0, "not at once again");
}

#[tokio::test]
async fn where_apple_does_not_answer_the_others_wait() {
    let world = world().await;
    let phones: Vec<_> = (0..3).map(|_| world.iphone()).collect();
    for phone in &phones {
        world.enrol("chat", phone).await;
    }
    world.silent();
    world.asked();
    assert_eq!(world.exchange_now().await, 1);
    assert_eq!(world.asked().len(), 1, "one deadline, not three");
}

#[tokio::test]
async fn apple_that_does_not_answer_holds_nobody_up_and_is_asked_again_later() {
    let world = world().await;
    let phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    for (status, later) in [(503, 3_601), (429, 3_601), (401, 3_601), (304, 86_401), (404, 86_401)] {
        assert_eq!(world.exchange(status, String::new()).await, 1, "{status}");
        assert_eq!(world.exchange_now().await, 0, "{status}: not at once again");
        assert_eq!(world.metric(&phone, &mut of).await, None);
        world.advance(later);
    }
    world.silent();
    assert_eq!(world.exchange_now().await, 1);
    world.advance(3_601);
    let newer = STANDARD.encode(phone.newer_receipt(2).unwrap());
    assert_eq!(world.exchange(200, newer).await, 1);
    assert_eq!(world.metric(&phone, &mut of).await, Some(2));
}

#[tokio::test]
async fn an_attestation_with_the_receipt_of_another_phone_does_not_enrol() {
    let world = world().await;
    let (phone, other) = (world.iphone(), world.iphone());
    world.enrol("chat", &other).await;
    let clean = other.newer_receipt(0).unwrap();
    let (mut body, _) = world.enrolment("chat", &phone).await;
    let own = phone.receipt_in_last().unwrap();
    let attestation = STANDARD.decode(body["evidence"]["attestation"].as_str().unwrap()).unwrap();
    let swapped = swap(&attestation, &own, &clean);
    body["evidence"]["attestation"] = STANDARD.encode(swapped).into();
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "key_mismatch");
}

/// The attestation object with another receipt.
fn swap(object: &[u8], own: &[u8], other: &[u8]) -> Vec<u8> {
    let head = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[0x59], &length[..], bytes].concat()
    };
    let (own, other) = (head(own), head(other));
    let at = object.windows(own.len()).position(|part| part == own).unwrap();
    [&object[..at], &other, &object[at + own.len()..]].concat()
}

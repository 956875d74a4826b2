//! What is seen of installations in their traffic, and what becomes of it.

use base::Timestamp;
use policy::risk::Rules;
use store::AppConfig;

use super::*;

const PHONE: &str = "t13d1516h2_8daaf6152771_e5627efa2ab1";
/// The same stack with a session that goes on.
const RESUMED: &str = "t13d1517h2_8daaf6152771_b1ff8ab2d16f";
const SCRIPT: &str = "t13d3112h1_e8f1e7e78f70_b26ce05bbdd6";

impl World {
    fn judged_by(&self, rules: &str) {
        let text = format!("[[risk]]\nname = \"r\"\n{rules}\n");
        let risks = config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}")).risks;
        self.fixture.operations.judge().set_rules(Rules::compile(&risks));
    }

    fn greets(&self, fingerprint: &'static str) {
        *self.fingerprint.lock().unwrap() = Some(fingerprint);
    }

    /// The next token, from an app that says it holds this configuration.
    async fn token(&self, device: &dyn Attester, of: &mut Enrolled, config: Option<Value>) -> Answer {
        let jkt = of.key.public_jwk().thumbprint();
        of.answer["nonce"] = self.challenge("chat", device.platform().name(), Some(&jkt)).await["nonce"].clone();
        self.post("/attest/v1/token", &next_token_holding("chat", device, of, config)).await
    }

    async fn words(&self, device: &dyn Attester, of: &mut Enrolled, config: Option<Value>) -> Value {
        let answer = self.token(device, of, config).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        claims(&answer.json())["anno"].clone()
    }

    /// A configuration that makes apps compare keys, published now.
    async fn publish(&self, seq: u64, lasts_days: i64) {
        let now = self.fixture.clock.now().as_secs();
        let exp = now + lasts_days * 86_400;
        let payload = json!({
            "v": 1, "app": "chat", "seq": seq, "iat": now, "exp": exp, "refresh_after": 600, "endpoints": {},
            "hosts": [{ "host": "ai.example.com", "enforce": true, "pins": [
                { "spki_sha256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "role": "current" },
                { "spki_sha256": "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=", "role": "next" }] }],
        });
        let new = AppConfig {
            app: base::Name::new("chat").unwrap(),
            seq,
            payload: payload.to_string(),
            jws: format!("jws {seq}"),
            issued_at: Timestamp::from_secs(now),
            expires_at: Timestamp::from_secs(exp),
            made_by: "test".to_owned(),
        };
        self.fixture.operations.store().app_configs().publish(new).await.unwrap();
    }
}

#[tokio::test]
async fn another_tls_stack_than_at_enrolment_is_seen_and_a_session_that_goes_on_is_none() {
    let world = World::new().await;
    world.judged_by(&format!(
        "rules = [
          {{ when = {{ flag = \"tls_fingerprint_changed\" }}, do = \"annotate\", as = \"other-stack\" }},
          {{ when = {{ flag = \"tls_fingerprint\", not_in = [\"{PHONE}\", \"{RESUMED}\"], platform = \"ios\" }}, do = \"annotate\", as = \"unseen\" }}]"
    ));
    world.greets(PHONE);
    let phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    assert_eq!(of.claims()["anno"], json!([]));
    assert_eq!(of.claims()["tls"], "1315_8daaf6152771", "data routes compare with it");
    world.greets(RESUMED);
    assert_eq!(world.words(&phone, &mut of, None).await, json!([]));
    world.greets(SCRIPT);
    assert_eq!(world.words(&phone, &mut of, None).await, json!(["other-stack", "unseen"]));
    world.greets(PHONE);
    world.advance(3600);
    assert_eq!(world.words(&phone, &mut of, None).await, json!([]), "an hour later");
    assert_eq!(claims(&world.token(&phone, &mut of, None).await.json())["tls"], "1315_8daaf6152771", "as it enrolled");
    let kept = world.fixture.operations.risk_decisions(Some("chat"), None).await.unwrap().items;
    let kept = serde_json::to_string(&kept).unwrap();
    assert!(kept.contains(SCRIPT) && kept.contains(PHONE), "rules can be made of it: {kept}");
}

#[tokio::test]
async fn a_configuration_that_is_held_too_long_or_was_never_published_is_stale() {
    let world = World::new().await;
    world.judged_by(
        "grace = { config_update = \"1h\" }
         rules = [{ when = { flag = \"stale_pin_config\" }, do = \"annotate\", as = \"stale\" },
                  { when = { flag = \"pin_report_missing\" }, do = \"annotate\", as = \"no-pins\" }]",
    );
    let phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    let held = |seq: u64, pins: &str| Some(json!({ "seq": seq, "pins": pins }));
    assert_eq!(world.words(&phone, &mut of, None).await, json!([]), "nothing was published");
    world.publish(1, 14).await;
    assert_eq!(world.words(&phone, &mut of, None).await, json!([]), "apps have an hour");
    world.advance(3600);
    assert_eq!(world.words(&phone, &mut of, None).await, json!(["no-pins"]));
    assert_eq!(world.words(&phone, &mut of, held(1, "off")).await, json!(["no-pins"]));
    assert_eq!(world.words(&phone, &mut of, held(1, "ok")).await, json!([]));
    assert_eq!(world.words(&phone, &mut of, held(1, "failed")).await, json!([]), "that is what it reports");
    world.publish(2, 14).await;
    assert_eq!(world.words(&phone, &mut of, held(1, "ok")).await, json!([]));
    world.advance(3600);
    assert_eq!(world.words(&phone, &mut of, held(1, "ok")).await, json!(["stale"]), "rolled back, or held up");
    assert_eq!(world.words(&phone, &mut of, held(2, "ok")).await, json!([]));
    assert_eq!(world.words(&phone, &mut of, held(3, "ok")).await, json!(["stale"]), "there is none of that number");
}

#[tokio::test]
async fn an_installation_that_is_late_with_its_evidence_gets_tokens_for_as_long_as_the_rules_say() {
    let world = World::new().await;
    let phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    world.advance(14 * 86_400);
    let refused = world.token(&phone, &mut of, None).await;
    assert_eq!(world.why(&refused).await, "reattestation_due");
    let rules = "rules = [{ when = { flag = \"reattestation_due\" }, do = \"annotate\", as = \"late\" }]";
    world.judged_by(&format!("grace = {{ reattestation = \"1d\" }}\n{rules}"));
    let answer = world.token(&phone, &mut of, None).await;
    assert_eq!(answer.json()["reattest_in"], 0, "it is told to: {}", answer.text);
    assert_eq!(claims(&answer.json())["anno"], json!(["late"]));
    world.advance(86_400);
    let refused = world.token(&phone, &mut of, None).await;
    assert_eq!(
        (world.why(&refused).await.as_str(), refused.json()["action"].as_str()),
        ("reattestation_due", Some("re-enroll"))
    );
}

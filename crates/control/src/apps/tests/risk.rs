//! What the risk rules make of installations whose evidence holds.

use policy::risk::Rules;
use vouchgate_client::simulator::Browser;

use super::*;
use crate::operations::GiveForcedPass;

impl World {
    pub(super) fn rules(&self, rules: &str) {
        let text = format!("[[risk]]\nname = \"r\"\n{rules}\n");
        let risks = config::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}")).risks;
        self.fixture.operations.judge().set_rules(Rules::compile(&risks));
    }

    /// The next token with a new nonce, and what is shown besides, if it is asked for.
    async fn refresh(&self, device: &dyn Attester, of: &mut Enrolled, besides: bool) -> Answer {
        let jkt = of.key.public_jwk().thumbprint();
        let mut asked = json!({"app": "chat", "platform": device.platform().name(), "jkt": jkt});
        if besides {
            asked["step_up"] = "altcha".into();
        }
        let challenge = self.post("/attest/v1/challenge", &asked).await.json();
        of.answer["nonce"] = challenge["nonce"].clone();
        let mut body = next_token("chat", device, of);
        if besides {
            let payload = vouchgate_client::altcha::solve(&challenge["altcha"]).unwrap();
            body["step_up"] = json!({"type": "altcha", "payload": payload});
        }
        self.post("/attest/v1/token", &body).await
    }
}

#[tokio::test]
async fn what_an_app_reports_of_itself_denies_it_tokens_and_looks_like_any_refusal() {
    let world = World::new().await;
    world.rules("rules = [{ when = { any = [\"frida\", \"debugger\"] }, do = \"deny\" }]");
    let mut phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    phone.reported = vec!["frida".to_owned()];
    let refused = world.refresh(&phone, &mut of, false).await;
    let body = refused.json();
    assert_eq!(body.as_object().unwrap().len(), 5, "{body}");
    assert_eq!((refused.status.as_u16(), body["action"].as_str()), (401, Some("none")));
    assert_eq!(world.why(&refused).await, "frida");
    phone.reported.clear();
    assert_eq!(world.refresh(&phone, &mut of, false).await.status, 200, "nothing of it is held against it");
    let mut other = world.iphone();
    other.reported = vec!["debugger".to_owned()];
    let (body, _) = world.enrolment("chat", &other).await;
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "debugger");
    let kept = world.fixture.operations.risk_decisions(Some("chat"), None).await.unwrap().items;
    let denied: u64 = kept.iter().filter(|row| row.action == "deny").map(|row| row.count).sum();
    let let_in: u64 = kept.iter().filter(|row| row.action == "allow").map(|row| row.count).sum();
    assert_eq!((denied, let_in), (2, 2));
}

#[tokio::test]
async fn words_and_limits_of_the_rules_go_into_tokens_and_leave_them_again() {
    let world = World::new().await;
    world.rules(
        "rules = [{ when = { flag = \"vpn\" }, do = \"annotate\", as = \"vpn\" },
                  { when = { flag = \"vpn\" }, do = \"throttle\", to = { rpm = 5, usd_day = \"0.10 USD\" } }]",
    );
    let mut phone = world.iphone();
    phone.reported = vec!["vpn".to_owned()];
    let mut of = world.enrol("chat", &phone).await;
    let claims_now = of.claims();
    assert_eq!(claims_now["anno"], json!(["vpn"]));
    assert_eq!(claims_now["thr"], json!({ "rpm": 5, "nano_usd_day": 100_000_000 }));
    assert_eq!(claims_now["pv"], world.fixture.operations.judge().rules().version());
    phone.reported.clear();
    let answer = world.refresh(&phone, &mut of, false).await.json();
    assert_eq!(claims(&answer)["anno"], json!([]));
    assert!(claims(&answer).get("thr").is_none());
}

#[tokio::test]
async fn a_step_up_is_asked_for_shown_and_good_for_a_while() {
    let world = World::new().await;
    let phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    world.rules(
        "rules = [{ when = { flag = \"device_rate\", gt = 0 }, do = \"step_up\", with = \"altcha\", for = \"1h\" }]",
    );
    let refused = world.refresh(&phone, &mut of, false).await;
    assert_eq!((refused.status.as_u16(), refused.json()["action"].as_str()), (401, Some("step-up")));
    assert_eq!(world.why(&refused).await, "device_rate");
    assert_eq!(world.refresh(&phone, &mut of, true).await.status, 200);
    assert_eq!(world.refresh(&phone, &mut of, false).await.status, 200, "it has shown it");
    world.advance(3600);
    assert_eq!(world.refresh(&phone, &mut of, false).await.json()["action"], "step-up", "it is old");

    // Work for another nonce, or done before, shows nothing.
    let jkt = of.key.public_jwk().thumbprint();
    let asked = json!({"app": "chat", "platform": "ios", "jkt": jkt, "step_up": "altcha"});
    let first = world.post("/attest/v1/challenge", &asked).await.json();
    let second = world.post("/attest/v1/challenge", &asked).await.json();
    of.answer["nonce"] = second["nonce"].clone();
    let mut body = next_token("chat", &phone, &of);
    let payload = vouchgate_client::altcha::solve(&first["altcha"]).unwrap();
    body["step_up"] = json!({"type": "altcha", "payload": payload});
    let answer = world.post("/attest/v1/token", &body).await;
    assert_eq!(answer.status, 401, "{}", answer.text);
    let mut other = world.iphone();
    other.reported = vec!["vpn".to_owned()];
    world.rules("rules = [{ when = { flag = \"vpn\" }, do = \"step_up\", with = \"altcha\" }]");
    let (body, _) = world.enrolment("chat", &other).await;
    let refused = world.post("/attest/v1/enroll", &body).await;
    assert_eq!(refused.json()["action"], "step-up", "{}", refused.text);
}

#[tokio::test]
async fn a_forced_pass_lets_one_installation_in_and_its_level_stays_what_it_is() {
    let world = World::new().await;
    world.rules("rules = [{ when = { flag = \"frida\" }, do = \"deny\" }]");
    let mut phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    phone.reported = vec!["frida".to_owned()];
    let refused = world.refresh(&phone, &mut of, false).await;
    let arc = refused.json()["arc"].as_str().unwrap().to_owned();
    let found = world.fixture.operations.arc_show(&arc).await.unwrap();
    let detail = serde_json::to_value(&found).unwrap();
    let jkt = of.key.public_jwk().thumbprint();
    assert!(detail.to_string().contains(&jkt), "the operator finds whom to give it: {detail}");
    let give =
        GiveForcedPass { app: "chat".to_owned(), jkt, lasts: "1h".to_owned(), reason: "a test phone".to_owned() };
    world.fixture.operations.forced_pass_give(&give, "ops").await.unwrap();
    let answer = world.refresh(&phone, &mut of, false).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let claims_now = claims(&answer.json());
    assert_eq!((claims_now["anno"].clone(), claims_now["lvl"].as_str()), (json!(["forced-pass"]), Some("hw-strong")));
    world.advance(3600);
    assert_eq!(world.why(&world.refresh(&phone, &mut of, false).await).await, "frida", "it ended");
}

#[tokio::test]
async fn rules_that_observe_let_in_and_are_counted() {
    let world = World::new().await;
    world.rules("mode = \"observe\"\nrules = [{ when = { flag = \"frida\" }, do = \"deny\" }]");
    let mut phone = world.iphone();
    phone.reported = vec!["frida".to_owned()];
    let of = world.enrol("chat", &phone).await;
    assert_eq!(of.claims()["anno"], json!([]));
    let counts = world.fixture.operations.judge().counts().decisions();
    assert!(
        counts
            .iter()
            .any(|(kind, count)| { (kind.reason, kind.action, kind.mode, *count) == ("frida", "deny", "observe", 1) })
    );
}

#[tokio::test]
async fn an_address_of_machines_for_rent_and_many_enrolments_from_one_network_are_seen() {
    let world = World::new().await;
    world.rules(&format!(
        "datacenters = [\"{ELSEWHERE}/32\"]\nrules = [
           {{ when = {{ flag = \"ip_datacenter\" }}, do = \"annotate\", as = \"datacenter\" }},
           {{ when = {{ flag = \"enrol_rate\", gt = 2 }}, do = \"deny\" }}]"
    ));
    for _ in 0..2 {
        let of = world.enrol("chat", &world.iphone()).await;
        assert_eq!(of.claims()["anno"], json!(["datacenter"]));
    }
    let (body, _) = world.enrolment("chat", &world.iphone()).await;
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "enrol_rate");
}

#[tokio::test]
async fn a_list_of_revoked_keys_that_is_too_old_for_the_rules_enrols_no_android_phone() {
    let world = World::new().await;
    world.rules("grace = { revocation_list_max_age = \"1h\" }");
    world.enrol("chat", &world.android()).await;
    world.advance(3601);
    let (body, _) = world.enrolment("chat", &world.android()).await;
    let refused = world.post("/attest/v1/enroll", &body).await;
    assert_eq!(world.why(&refused).await, "revocation_list_stale");
    assert_eq!(refused.json()["action"], "retry-after");
    world.enrol("chat", &world.iphone()).await;
}

#[tokio::test]
async fn what_the_rules_refused_is_used_up_and_cannot_be_shown_again_to_find_out_the_rules() {
    let world = World::new().await;
    world.rules("rules = [{ when = { flag = \"vpn\" }, do = \"deny\" }, { when = { flag = \"enrol_rate\", gt = 2 }, do = \"deny\" }]");
    let mut browser = Browser::default();
    browser.reported = vec!["vpn".to_owned()];
    let (body, key) = world.enrolment("web", &browser).await;
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "vpn");
    // The same nonce and work, and nothing reported.
    let said: Value =
        serde_json::from_slice(&proof::jose::base64url_decode(body["client_data"].as_str().unwrap()).unwrap()).unwrap();
    let data = client_data("enroll", "web", &said["nonce"], said["jkt"].as_str(), &[]);
    let mut other = body.clone();
    other["client_data"] = base64url_encode(&data).into();
    other["proof"] = proof(&*key, "enroll", &said["nonce"], &data).into();
    for _ in 0..5 {
        for again in [&body, &other] {
            assert_eq!(world.why(&world.post("/attest/v1/enroll", again).await).await, "nonce_used");
        }
    }
    let counts = world.fixture.operations.store().instances().counts().await.unwrap();
    assert_eq!(counts, [], "nothing is kept of it");
    // The second enrolment of its network, whatever was sent again.
    world.enrol("web", &Browser::default()).await;
}

#[tokio::test]
async fn how_an_app_is_distributed_is_what_its_last_assertion_says() {
    let toml = APPS.replace("categories = [4]", "categories = [2, 4]");
    let world = World::with(&toml, AttemptLimits { per_minute: 1000, ..AttemptLimits::default() }).await;
    world.rules("rules = [{ when = { flag = \"category\", in = [2] }, do = \"deny\" }]");
    let mut phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    assert_eq!(world.refresh(&phone, &mut of, false).await.status, 200);
    // TestFlight's build of the app, put over it.
    phone.category = 2;
    assert_eq!(world.why(&world.refresh(&phone, &mut of, false).await).await, "category");
    phone.category = 4;
    assert_eq!(world.refresh(&phone, &mut of, false).await.status, 200);
}

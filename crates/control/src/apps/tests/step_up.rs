//! What a rule asks for besides: puzzles and passkeys. (Work: `risk.rs`.)

use vouchgate_client::simulator::{Browser, Passkey};

use super::*;

const APP: &str = r#"
[cors]
origins = ["https://app.example.com"]

[[app]]
name = "web"
proof = "dpop"

[app.web]
origins = ["https://app.example.com"]
webauthn = { rp_id = "app.example.com" PASSKEY }
turnstile = { secret = { env = "T" }, step_up_only = true }
recaptcha = { secret = { env = "R" }, step_up_only = true }
"#;

async fn world(passkey: &str) -> World {
    let limits = AttemptLimits { per_minute: 1000, ..AttemptLimits::default() };
    World::with(&APP.replace("PASSKEY", passkey), limits).await
}

/// A person's browser with a passkey.
fn person() -> Browser {
    Browser::with_passkey(Passkey::new("app.example.com", "https://app.example.com").unwrap())
}

/// What a passkey shows over this request.
fn assertion(of: &Browser, body: &Value) -> Value {
    let client_data = proof::jose::base64url_decode(body["client_data"].as_str().unwrap()).unwrap();
    of.passkey.as_ref().unwrap().shown(&client_data).unwrap()
}

impl World {
    /// A request for the next token with a new nonce.
    async fn asking(&self, person: &Browser, of: &mut Enrolled) -> Value {
        let jkt = of.key.public_jwk().thumbprint();
        of.answer["nonce"] = self.challenge("web", "web", Some(&jkt)).await["nonce"].clone();
        next_token("web", person, of)
    }

    async fn shows(&self, person: &Browser, of: &mut Enrolled, step_up: impl AsyncFnOnce(&Value) -> Value) -> Answer {
        let mut body = self.asking(person, of).await;
        body["step_up"] = step_up(&body).await;
        self.post("/attest/v1/token", &body).await
    }

    /// What the puzzle's maker answers.
    fn puzzle(&self, cdata: Option<&str>) {
        let at = base::Timestamp::from_secs(NOW).rfc3339();
        let mut body = json!({"success": true, "challenge_ts": at, "hostname": "app.example.com"});
        if let Some(cdata) = cdata {
            body["cdata"] = cdata.into();
        }
        *self.told.answer.lock().unwrap() = Ok((200, body.to_string()));
    }
}

fn response(kind: &str, text: &str) -> Value {
    json!({"type": kind, "response": text})
}

#[tokio::test]
async fn a_puzzle_for_step_up_only_is_no_evidence() {
    let world = world("").await;
    let person = person();
    let (mut body, _) = world.enrolment("web", &person).await;
    body["evidence"] = response("turnstile", "solved");
    world.puzzle(None);
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "evidence_not_accepted");
}

#[tokio::test]
async fn a_puzzle_is_asked_for_counts_once_and_for_the_installation_it_was_solved_for() {
    let world = world("").await;
    let (person, other) = (person(), person());
    let mut of = world.enrol("web", &person).await;
    let mut others = world.enrol("web", &other).await;
    world.rules("rules = [{ when = { flag = \"device_rate\", gt = 0 }, do = \"step_up\", with = [\"turnstile\", \"recaptcha\"], for = \"1h\" }]");
    let jkt = of.key.public_jwk().thumbprint();
    let asked = json!({"app": "web", "platform": "web", "jkt": jkt, "step_up": "altcha"});
    assert_eq!(world.post("/attest/v1/challenge", &asked).await.json()["step_up"], json!(["turnstile", "recaptcha"]));
    let body = world.asking(&person, &mut of).await;
    assert_eq!(world.post("/attest/v1/token", &body).await.json()["action"], "step-up");

    // Solved for nobody, or for somebody else.
    world.puzzle(None);
    let answer = world.shows(&person, &mut of, async |_: &Value| response("turnstile", "one")).await;
    assert_eq!(world.why(&answer).await, "check_bound_elsewhere");
    world.puzzle(Some(&others.key.public_jwk().thumbprint()));
    let answer = world.shows(&person, &mut of, async |_: &Value| response("turnstile", "two")).await;
    assert_eq!(world.why(&answer).await, "check_bound_elsewhere");
    world.puzzle(Some(&jkt));
    let answer = world.shows(&person, &mut of, async |_: &Value| response("turnstile", "three")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    // One that does not say for whom counts once, although its maker forgot that it did.
    world.puzzle(None);
    let answer = world.shows(&other, &mut others, async |_: &Value| response("recaptcha", "four")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    world.advance(3600);
    let at = base::Timestamp::from_secs(NOW + 3600).rfc3339();
    *world.told.answer.lock().unwrap() =
        Ok((200, json!({"success": true, "challenge_ts": at, "hostname": "app.example.com"}).to_string()));
    let answer = world.shows(&person, &mut of, async |_: &Value| response("recaptcha", "five")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = world.shows(&other, &mut others, async |_: &Value| response("recaptcha", "five")).await;
    assert_eq!(answer.status, 401, "{}", answer.text);

    // Nobody answers: later.
    *world.told.answer.lock().unwrap() =
        Err(AskedError { reason: "fetch_timeout", retryable: true, whose: base::Who::Provider });
    let answer = world.shows(&other, &mut others, async |_: &Value| response("recaptcha", "six")).await;
    assert_eq!(answer.json()["action"], "retry-after");
}

#[tokio::test]
async fn a_passkey_is_shown_again_by_whoever_enrolled_with_it() {
    let world = world("").await;
    let (person, other) = (person(), person());
    let mut of = world.enrol("web", &person).await;
    world.rules(
        "rules = [{ when = { flag = \"device_rate\", gt = 0 }, do = \"step_up\", with = \"webauthn\", for = \"1h\" }]",
    );
    // Registering it was showing it.
    let body = world.asking(&person, &mut of).await;
    assert_eq!(world.post("/attest/v1/token", &body).await.status, 200);
    world.advance(3600);
    let body = world.asking(&person, &mut of).await;
    assert_eq!(world.post("/attest/v1/token", &body).await.json()["action"], "step-up");
    // Somebody else's passkey; one over another request; the same again.
    let answer = world.shows(&person, &mut of, async |body: &Value| assertion(&other, body)).await;
    assert_eq!(world.why(&answer).await, "bad_signature");
    let earlier = world.asking(&person, &mut of).await;
    let earlier = assertion(&person, &earlier);
    let answer = world.shows(&person, &mut of, async |_: &Value| earlier.clone()).await;
    assert_eq!(world.why(&answer).await, "challenge_mismatch");
    let answer = world.shows(&person, &mut of, async |body: &Value| assertion(&person, body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let id = of.id().to_owned();
    let kept = world.fixture.operations.store().instances().get(&id).await.unwrap().unwrap();
    assert!(kept.counter > 0, "its counter is kept, and only rises");
}

#[tokio::test]
async fn where_it_is_set_so_the_passkey_is_shown_for_every_token() {
    let world = world(", at_refresh = true").await;
    let person = person();
    let mut of = world.enrol("web", &person).await;
    let body = world.asking(&person, &mut of).await;
    let answer = world.post("/attest/v1/token", &body).await;
    assert_eq!(answer.json()["action"], "step-up");
    assert_eq!(world.why(&answer).await, "assertion_missing");
    let jkt = of.key.public_jwk().thumbprint();
    let asked = json!({"app": "web", "platform": "web", "jkt": jkt, "step_up": "webauthn"});
    assert_eq!(world.post("/attest/v1/challenge", &asked).await.json()["step_up"], json!(["webauthn"]));
    for _ in 0..2 {
        let answer = world.shows(&person, &mut of, async |body: &Value| assertion(&person, body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_copied_passkey_is_found_by_its_counter_and_its_installation_quarantined() {
    let world = world(", at_refresh = true").await;
    let person = person();
    let mut of = world.enrol("web", &person).await;
    let thief = Browser::with_passkey(person.passkey.as_ref().unwrap().copied());
    let answer = world.shows(&person, &mut of, async |body: &Value| assertion(&person, body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // The copy counts from where it was copied: once too often.
    let answer = world.shows(&person, &mut of, async |body: &Value| assertion(&thief, body)).await;
    assert_eq!(world.why(&answer).await, "counter_regression");
    let answer = world.shows(&person, &mut of, async |body: &Value| assertion(&person, body)).await;
    assert_eq!(world.why(&answer).await, "instance_barred");
}

#[tokio::test]
async fn a_puzzle_that_somebody_enrolled_with_is_nothing_to_show_besides() {
    let world = World::with(
        &APP.replace("PASSKEY", "").replace("turnstile", "hcaptcha").replacen(", step_up_only = true", "", 1),
        AttemptLimits { per_minute: 1000, ..AttemptLimits::default() },
    )
    .await;
    let person = person();
    let mut of = world.enrol("web", &person).await;
    world.puzzle(None);
    let (mut body, _) = world.enrolment("web", &person).await;
    body["evidence"] = response("hcaptcha", "solved");
    assert_eq!(world.post("/attest/v1/enroll", &body).await.status, 200);
    let answer = world.shows(&person, &mut of, async |_: &Value| response("hcaptcha", "solved")).await;
    assert_eq!(answer.status, 401, "{}", answer.text);
}

//! How long refusals take, each reason beside the others: whoever probes has nothing but the time to tell them apart by. All
//! reasons are asked for in turn, in another order each time, so that what the machine does besides meets all of them.

use std::net::SocketAddr;
use std::sync::Arc;

use base::{Rng, SystemRng};
use proof::jose::base64url_encode;
use serde_json::{Value, json};
use testkit::process::Process;
use testkit::raw::{self, Connection};
use vouchgate_client::attester::{Attester, Request};
use vouchgate_client::clock::{Clock, SystemClock};
use vouchgate_client::signer::Signer;
use vouchgate_client::simulator::{AndroidPhone, Apple, Iphone, Origin, SecurityLevel};

use super::{APP_ID, Gateway, REVOKED, begin, installed, sha256};

const ENROLL: &str = "/attest/v1/enroll";
const TOKEN: &str = "/attest/v1/token";

/// A request that is refused, always for the same reason.
struct Probe {
    reason: &'static str,
    path: &'static str,
    body: Vec<u8>,
    took: Vec<f64>,
}

/// Who makes the requests.
struct Prober<'g> {
    gateway: &'g Gateway,
    address: SocketAddr,
}

/// Measure each reason so often.
pub(super) async fn measured(gateway: &Gateway, times: usize) -> Value {
    let address = gateway.url.trim_start_matches("http://").parse().expect("an address");
    let mut probes = Prober { gateway, address }.probes().await;
    let mut connection = Connection::open(address).await;
    // Until no reason is kept any more, and caches are warm.
    for round in 0..times + 10 {
        for at in shuffled(probes.len()) {
            let probe = &mut probes[at];
            let begun = begin();
            connection.request("POST", probe.path, &[("content-type", "application/json")], &probe.body).await;
            let answer = connection.response().await;
            let took = begun.elapsed().as_secs_f64() * 1e6;
            assert_eq!(answer.status(), 401, "{}: {}", probe.reason, answer.text());
            if round >= 10 {
                probe.took.push(took);
            }
        }
    }
    let mut found = Vec::new();
    for probe in &mut probes {
        probe.took.sort_by(f64::total_cmp);
        let at = |share: usize| probe.took[(probe.took.len() - 1) * share / 100];
        // Of a median, from the quartiles.
        let error = 1.253 * (at(75) - at(25)) / 1.349 / (probe.took.len() as f64).sqrt();
        println!(
            "{:<28}{:<30}{:>9.0} us, error of it {error:>6.1}, quarter to three quarters {:>8.0} to {:.0}",
            probe.path,
            probe.reason,
            at(50),
            at(25),
            at(75)
        );
        found.push(json!({"path": probe.path, "reason": probe.reason, "median_us": at(50), "error_us": error,
                          "p25_us": at(25), "p75_us": at(75)}));
    }
    found.into()
}

fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<(u64, usize)> = (0..count)
        .map(|at| {
            let mut dice = [0u8; 8];
            SystemRng.fill(&mut dice);
            (u64::from_le_bytes(dice), at)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at).collect()
}

impl Prober<'_> {
    async fn probes(&self) -> Vec<Probe> {
        let (apple, google) = (&self.gateway.apple, &self.gateway.google);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let stranger = Apple::new(clock).expect("a root");
        let revoked = google.keybox_with_serial(Origin::Factory, SecurityLevel::TrustedEnvironment, REVOKED.to_vec());
        let revoked = AndroidPhone::with_keybox(google, installed(), revoked.expect("a keybox"));
        let iphone = Iphone::new(apple, APP_ID);
        let (good, _) = self.enrolment(&iphone).await;
        let (other, _) = self.enrolment(&iphone).await;
        let changed = |member: &str, value: Value| {
            let mut body = good.clone();
            body[member] = value;
            body
        };
        let said = |change: &dyn Fn(&mut Value)| changed("client_data", resaid(&good, change));
        let mut probes = Vec::new();
        let mut add = |path: &'static str, reason: &'static str, body: &Value| {
            probes.push(Probe { reason, path, body: body.to_string().into_bytes(), took: Vec::new() });
        };
        add(ENROLL, "app unknown", &said(&|said| said["app"] = "nobody".into()));
        add(ENROLL, "other purpose", &said(&|said| said["purpose"] = "refresh".into()));
        add(ENROLL, "evidence of another kind", &changed("evidence", json!({"type": "altcha", "payload": "e30="})));
        add(ENROLL, "nonce not ours", &said(&|said| said["nonce"] = "A".repeat(60).into()));
        add(ENROLL, "proof for other client data", &changed("proof", other["proof"].clone()));
        add(ENROLL, "evidence over other data", &changed("evidence", other["evidence"].clone()));
        add(ENROLL, "somebody else's root", &self.enrolment(&Iphone::new(&stranger, APP_ID)).await.0);
        add(ENROLL, "another app", &self.enrolment(&Iphone::new(apple, "ABCDE12345.com.example.other")).await.0);
        add(ENROLL, "key revoked (Android)", &self.enrolment(&revoked).await.0);
        let (used, key) = self.enrolment(&iphone).await;
        let enrolled = self.granted(ENROLL, &used).await;
        add(ENROLL, "nonce used", &used);
        self.refreshes((&iphone, &*key, &enrolled), add).await;
        probes
    }

    async fn refreshes(
        &self,
        (phone, key, enrolled): (&Iphone, &dyn Signer, &Value),
        mut add: impl FnMut(&'static str, &'static str, &Value),
    ) {
        let used = self.refresh((phone, key, enrolled));
        let enrolled = self.granted(TOKEN, &used).await;
        add(TOKEN, "nonce used", &used);
        let good = self.refresh((phone, key, &enrolled));
        let changed = |member: &str, value: Value| {
            let mut body = good.clone();
            body[member] = value;
            body
        };
        add(TOKEN, "installation unknown", &changed("instance", "i_0123456789abcdefghjkmnpqrs".into()));
        add(
            TOKEN,
            "nonce not ours",
            &changed("client_data", resaid(&good, &|said| said["nonce"] = "A".repeat(60).into())),
        );
        add(TOKEN, "proof for other client data", &changed("proof", used["proof"].clone()));
        add(TOKEN, "assertion over other data", &changed("assertion", used["assertion"].clone()));
        // One that was revoked, and shows its key.
        let phone = Iphone::new(&self.gateway.apple, APP_ID);
        let (body, key) = self.enrolment(&phone).await;
        let barred = self.granted(ENROLL, &body).await;
        let id = barred["instance"].as_str().expect("an installation");
        let args = ["device", "revoke", id, "--reason", "bench", "--config", "vouchgate.toml"];
        let mut revoking = Process::start(&self.gateway.binary, &args, self.gateway.dir.path(), &[]);
        assert!(revoking.ended().await.success(), "{}", revoking.output());
        add(TOKEN, "installation revoked", &self.refresh((&phone, &*key, &barred)));
    }

    async fn granted(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    }

    async fn post(&self, path: &str, body: &Value) -> raw::Response {
        let headers = [("content-type", "application/json")];
        raw::request(self.address, "POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// What a phone sends to enrol.
    async fn enrolment(&self, phone: &dyn Attester) -> (Value, Arc<dyn Signer>) {
        let key = phone.new_key().expect("a key");
        let jkt = key.as_ref().map(|key| key.public_jwk().thumbprint());
        let mut asked = json!({"app": "chat", "platform": phone.platform().name()});
        if let Some(jkt) = &jkt {
            asked["jkt"] = jkt.as_str().into();
        }
        let challenge = self.granted("/attest/v1/challenge", &asked).await;
        let said = client_data("enroll", &challenge["nonce"], jkt.as_deref());
        let request = Request { client_data: &said, challenge: &challenge };
        let given = phone.attest(&request, key).expect("evidence");
        let proof = self.proof(&*given.signer, "enroll", (&challenge["nonce"], &said));
        let body = json!({"client_data": base64url_encode(&said), "jwk": given.signer.public_jwk().to_json(),
                          "evidence": given.evidence, "proof": proof});
        (body, given.signer)
    }

    /// What it sends for its next token.
    fn refresh(&self, (phone, key, granted): (&Iphone, &dyn Signer, &Value)) -> Value {
        let said = client_data("refresh", &granted["nonce"], Some(&key.public_jwk().thumbprint()));
        let assertion = phone.assert(&said).expect("an assertion").map(base64url_encode);
        json!({"instance": granted["instance"], "client_data": base64url_encode(&said), "assertion": assertion,
               "proof": self.proof(key, "token", (&granted["nonce"], &said))})
    }

    fn proof(&self, key: &dyn Signer, step: &str, (nonce, said): (&Value, &[u8])) -> String {
        let header = base64url_encode(r#"{"alg":"ES256","typ":"gw-pop+jwt"}"#);
        let target = format!("{}/attest/v1/{step}", self.gateway.url);
        let payload = json!({"cd": base64url_encode(sha256(said)), "htu": target, "nonce": nonce});
        let input = format!("{header}.{}", base64url_encode(payload.to_string()));
        let signature = key.sign(input.as_bytes()).expect("a signature");
        format!("{input}.{}", base64url_encode(signature))
    }
}

fn client_data(purpose: &str, nonce: &Value, jkt: Option<&str>) -> Vec<u8> {
    let mut said = json!({"app": "chat", "flags": {}, "nonce": nonce, "purpose": purpose, "sdk": "1", "ts": 1, "v": 1});
    if let Some(jkt) = jkt {
        said["jkt"] = jkt.into();
    }
    said.to_string().into_bytes()
}

/// The client data of a request with something else in it.
fn resaid(body: &Value, change: &dyn Fn(&mut Value)) -> Value {
    let text = body["client_data"].as_str().expect("client data");
    let bytes = proof::jose::base64url_decode(text).expect("base64url");
    let mut said: Value = serde_json::from_slice(&bytes).expect("JSON");
    change(&mut said);
    base64url_encode(said.to_string()).into()
}

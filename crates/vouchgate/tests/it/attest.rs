//! Apps that prove by attestation what they are, against the built program: phones made of software, good and bad, and
//! the attacks that attestation is for.

mod asked;
mod besides;
mod between;
mod fleet;
mod flow;
mod hand;
mod instances;
mod metric;
mod observed;
mod pinned;
mod probing;
mod requests;
mod risk;
mod secrets;

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::mock::{Answer, Mock};
use vouchgate_client::attester::Attester;
use vouchgate_client::clock::{Clock, SystemClock};
use vouchgate_client::simulator::{AndroidApp, AndroidPhone, Apple, Google, Iphone};
use vouchgate_client::{Client, Error, Options};

use crate::support::{Program, command, provider, secret_file, write_config};

pub(super) const APP_ID: &str = "ABCDE12345.com.example.chat";

/// What the gateway pays with. It never leaves the gateway but to the provider.
pub(super) const PROVIDER_KEY: &str = "canary-key-of-the-provider";

/// What the provider answers.
const ANSWER: &str = "from the provider";

/// A gateway with one app, the makers of phones it trusts, a provider, and Google's list of what is revoked.
pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) program: Program,
    pub(super) apple: Apple,
    pub(super) google: Google,
    pub(super) upstream: Mock,
    /// What the list says now.
    listed: Arc<Mutex<String>>,
    _list: Mock,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with("", "").await
    }

    /// With more keys of `[server]`, and more of the app.
    pub(super) async fn with(server: &str, app: &str) -> Self {
        Self::of(server, ("", ""), app).await
    }

    /// With more of the app on iOS, too.
    pub(super) async fn with_ios(server: &str, ios: &str, app: &str) -> Self {
        Self::of(server, (ios, ""), app).await
    }

    /// With more of what the app is on Apple's and on Google's platform: who is asked about its devices.
    pub(super) async fn asking(platforms: (&str, &str), app: &str) -> Self {
        Self::of("", platforms, app).await
    }

    async fn of(server: &str, (ios, android): (&str, &str), app: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (apple, google) = (Apple::new(Arc::clone(&clock)).unwrap(), Google::new(clock).unwrap());
        std::fs::write(dir.path().join("apple.pem"), apple.root_pem()).unwrap();
        std::fs::write(dir.path().join("google.pem"), google.root_pem()).unwrap();
        let upstream = Mock::start_with(|_| {
            let message = json!({"role": "assistant", "content": ANSWER});
            let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
            let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5});
            Answer::json(
                200,
                &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                                      "choices": choices, "usage": usage}),
            )
        })
        .await;
        let listed = Arc::new(Mutex::new(json!({"entries": {"c0ffee": {"status": "REVOKED"}}}).to_string()));
        let text = Arc::clone(&listed);
        let list =
            Mock::start_with(move |_| Answer::bytes(200, "application/json", text.lock().unwrap().clone())).await;
        let key = secret_file(dir.path(), "provider-key", PROVIDER_KEY);
        let config = format!(
            "[attest]\nandroid_status_url = \"{}/status\"\nallow_private = true\nrequests_per_minute = 100000\n{}\n\
             [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"openai\", model = \"m\" }}]\n\
             [[app]]\nname = \"chat\"\nscopes = [\"chat\"]\nenrolments_per_minute = 100000\n\
             ios = {{ team = \"ABCDE12345\", bundle = \"com.example.chat\", categories = [4]{ios} }}\n\
             android = {{ package = \"com.example.chat\", digests = [\"{}\"]{android} }}\n\
             test_roots = {{ apple = \"apple.pem\", android = \"google.pem\" }}\n{app}\n\
             [[policy]]\nname = \"chat\"\nwho = {{ issuer = \"vouchgate\", client = \"chat\", scope = [\"chat\"] }}\n\
             may = {{ models = [\"fast\", \"vouchgate/echo\"] }}\n",
            list.url(),
            provider("openai", "openai", &format!("{}/v1", upstream.url()), &key),
            "07".repeat(32),
        );
        write_config(dir.path(), server, &config);
        let program = Program::serve(dir.path(), &[]).await;
        Self { dir, program, apple, google, upstream, listed, _list: list }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.program.public)
    }

    pub(super) fn options(&self) -> Options {
        Options::new(&self.url(), "chat")
    }

    pub(super) fn client(&self, device: Arc<dyn Attester>) -> Client {
        Client::new(self.options(), device).unwrap()
    }

    /// A phone that has made a request: a gateway that has just started does not take signatures yet, and says when.
    pub(super) async fn signing(&self) -> Client {
        let client = self.client(Arc::new(self.iphone()));
        assert_eq!(client.send(chat("vouchgate/echo")).await.unwrap().status, 200);
        client
    }

    pub(super) fn iphone(&self) -> Iphone {
        Iphone::new(&self.apple, APP_ID)
    }

    pub(super) fn android(&self) -> AndroidPhone {
        AndroidPhone::new(&self.google, registered()).unwrap()
    }

    /// From the next start on, Google's list says this.
    pub(super) fn list(&self, text: String) {
        *self.listed.lock().unwrap() = text;
    }

    /// Stop the program and start it again on the same state.
    pub(super) async fn restart(&mut self) {
        self.program.process.signal("TERM");
        assert!(self.program.process.ended().await.success());
        self.program = Program::serve(self.path(), &[]).await;
    }

    /// Enrol an Android phone: a moment after the start there may be no list yet.
    pub(super) async fn ready(&self, phone: &Arc<AndroidPhone>) -> Result<Client, Error> {
        for _ in 0..200 {
            let client = self.client(Arc::clone(phone) as _);
            match client.ready().await {
                Ok(_) => return Ok(client),
                Err(error) if error.status().name() == "RETRY_LATER" => {}
                Err(error) => return Err(error),
            }
        }
        panic!("the list of what is revoked never came");
    }

    /// What the operator is told about a code.
    pub(super) fn reasons(&self, arc: &str) -> Vec<String> {
        let shown: Value = serde_json::from_str(&command(self.path(), &["arc", "show", arc], b"")).unwrap();
        let reasons = shown["reasons"].as_array().unwrap_or_else(|| panic!("{shown}"));
        reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect()
    }

    /// That a refusal told the client nothing but a code, under which the operator finds this reason.
    pub(super) fn refused_for(&self, error: &Error, reason: &str) {
        assert_eq!(error.status().name(), "REJECTED", "{error}: expected {reason}");
        assert_eq!(self.reasons(error.arc().expect("a code")), [reason]);
    }
}

/// The app as Android has it.
pub(super) fn registered() -> AndroidApp {
    AndroidApp { package: "com.example.chat".to_owned(), version: 42, digest: [7; 32] }
}

/// A request for a chat with this model.
pub(super) fn chat(model: &str) -> Request<Bytes> {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]});
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    request.body(Bytes::from(body.to_string())).unwrap()
}

/// The status and body of an answer.
pub(super) async fn read(answer: vouchgate_client::Answer) -> (u16, Value) {
    let status = answer.status.as_u16();
    let body = answer.bytes(1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

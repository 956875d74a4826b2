//! `vouchgate attest simulate`: the whole flow of an app in a terminal, with a phone made of software; and what
//! `vouchgate dev --app` prepares for it.
//!
//! Only an app whose `test_roots` name the simulated makers takes such a phone, and `check` refuses that where the gateway
//! is reached over https from outside.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use serde_json::Value;
use vouchgate_client::attester::Attester;
use vouchgate_client::clock::{Clock, SystemClock};
use vouchgate_client::simulator::{
    AndroidApp, AndroidDefect, AndroidPhone, Apple, Browser, Google, Iphone, IphoneDefect,
};
use vouchgate_client::{Answer, Client, Error, Options};

use crate::cli::args::{AttestSimulateArgs, SimulatedDevice};
use crate::cli::{Exit, Failure, Io, Outcome};

/// The name of the app that `dev --app` registers.
pub const APP: &str = "demo";

const TEAM: &str = "DEMO000000";
const BUNDLE: &str = "com.example.demo";
const DIGEST: [u8; 32] = [7; 32];
/// Where the app's page would be.
const ORIGIN: &str = "http://localhost:3000";

const PATH: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"vouchgate/echo","messages":[{"role":"user","content":"Hello from a phone"}]}"#;
const OTHER_BODY: &str = r#"{"model":"vouchgate/echo","messages":[{"role":"user","content":"Hello from between"}]}"#;

/// The longest answer that is looked at.
const MOST: usize = 1 << 20;

/// Make the simulated makers of phones, unless they are there from an earlier run.
pub fn prepare(data_dir: &Path) -> Result<(), Failure> {
    let place = Place(data_dir.join("simulator"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place.0).map_err(|error| place.failed(&error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    if !place.file("apple.key").exists() {
        let apple = Apple::new(Arc::clone(&clock)).map_err(|error| place.failed(&error))?;
        place.write("apple.key", &apple.to_pem().map_err(|error| place.failed(&error))?)?;
        place.write("apple.pem", &apple.root_pem())?;
    }
    if !place.file("google.key").exists() {
        let google = Google::new(clock).map_err(|error| place.failed(&error))?;
        place.write("google.key", &google.to_pem().map_err(|error| place.failed(&error))?)?;
        place.write("google.pem", &google.root_pem())?;
    }
    Ok(())
}

/// The app, for the configuration of `dev --app`.
pub(crate) fn configuration(data_dir: &Path) -> String {
    let root = |name: &str| toml::Value::String(data_dir.join("simulator").join(name).display().to_string());
    let digest: String = DIGEST.map(|byte| format!("{byte:02x}")).concat();
    format!(
        "\n[cors]\n\
         origins = [\"{ORIGIN}\"]\n\n\
         # An app whose installations are phones made of software (`vouchgate attest simulate`): for development only.\n\
         [[app]]\n\
         name = \"{APP}\"\n\
         scopes = [\"chat\"]\n\
         ios = {{ team = \"{TEAM}\", bundle = \"{BUNDLE}\" }}\n\
         android = {{ package = \"{BUNDLE}\", digests = [\"{digest}\"] }}\n\
         web = {{ origins = [\"{ORIGIN}\"], altcha = {{}} }}\n\
         test_roots = {{ apple = {}, android = {} }}\n\n\
         [[risk]]\n\
         name = \"{APP}\"\n\
         apps = [\"{APP}\"]\n\
         rules = [{{ when = {{ flag = \"vpn\" }}, do = \"step_up\", with = \"altcha\", for = \"1h\" }}]\n\n\
         [[policy]]\n\
         name = \"{APP}\"\n\
         who = {{ issuer = \"vouchgate\", client = \"{APP}\", scope = [\"chat\"] }}\n\
         may = {{ models = [\"{}\"], max_output_tokens = 1024 }}\n\
         rate = [{{ requests = 60, per = \"subject\", window = \"1m\" }}]\n",
        root("apple.pem"),
        root("google.pem"),
        config::ECHO_MODEL,
    )
}

/// What `dev --app` prints besides.
pub(crate) fn invitation(public: &str, data_dir: &Path) -> String {
    format!(
        "\nThe app `{APP}` takes phones made of software. In another terminal:\n\n\
         vouchgate attest simulate --gateway {public} --data-dir {}\n\n\
         (--device android, --device web; --defect list shows what can be wrong with one)\n",
        data_dir.display()
    )
}

/// Show the flow.
pub(crate) async fn run(args: &AttestSimulateArgs, io: &mut Io<'_>) -> Outcome {
    if args.defect.as_deref() == Some("list") {
        for (name, reason) in defects(args.device) {
            io.line(&format!("{name:28} {reason}"))?;
        }
        return Ok(Exit::Done);
    }
    let (device, described) = device(args)?;
    let client = Client::new(Options::new(&args.gateway, &args.app), device).map_err(|error| told(&error))?;
    let mut steps = Steps { io, number: 0 };
    steps.say("device", &described)?;
    let installation = match client.ready().await {
        Ok(installation) => installation,
        Err(error) => {
            steps.say("enrol", &format!("{} ({})", error, error.status().name()))?;
            if let Some(arc) = error.arc() {
                steps.io.note(&format!("Why: vouchgate arc show {arc} --data-dir {}", args.data_dir.display()));
            }
            return Ok(Exit::No);
        }
    };
    if let Some(what) = &installation.stepped_up {
        steps.say("step-up", &format!("refused first; asked for besides and shown: {what}"))?;
    }
    let enrolled = format!("installation {}, code {}", installation.instance, installation.arc);
    steps.say("enrol", &enrolled)?;
    steps.token(&client).await?;
    let outcomes = [
        steps.signed(&client).await?,
        steps.stolen(&client).await?,
        steps.refreshed(&client).await?,
        steps.left(&client).await?,
    ];
    Ok(if outcomes.contains(&false) { Exit::No } else { Exit::Done })
}

/// A phone as it is asked for, and a line about it.
fn device(args: &AttestSimulateArgs) -> Result<(Arc<dyn Attester>, String), Failure> {
    let place = Place(args.data_dir.join("simulator"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let wrong = args.defect.as_deref();
    let with = |text: &str| wrong.map_or_else(|| text.to_owned(), |wrong| format!("{text}, wrong: {wrong}"));
    match args.device {
        SimulatedDevice::Ios => {
            let apple = Apple::from_pem(&place.read("apple.key")?, clock).map_err(|error| place.failed(&error))?;
            let app_id = format!("{TEAM}.{BUNDLE}");
            let mut iphone = Iphone::new(&apple, &app_id);
            iphone.reported.clone_from(&args.report);
            iphone.defect = wrong.map(|name| find(&IphoneDefect::ATTESTATION, name)).transpose()?;
            Ok((Arc::new(iphone), with(&format!("iPhone made of software, iOS 27, app {app_id}"))))
        }
        SimulatedDevice::Android => {
            let google = Google::from_pem(&place.read("google.key")?, clock).map_err(|error| place.failed(&error))?;
            let app = AndroidApp { package: BUNDLE.to_owned(), version: 1, digest: DIGEST };
            let mut phone = AndroidPhone::new(&google, app).map_err(|error| place.failed(&error))?;
            phone.reported.clone_from(&args.report);
            phone.defect = wrong.map(|name| find(&AndroidDefect::ALL, name)).transpose()?;
            Ok((Arc::new(phone), with(&format!("Android phone made of software, package {BUNDLE}"))))
        }
        SimulatedDevice::Web if wrong.is_some() => Err(Failure::new("a browser has no defects")),
        SimulatedDevice::Web => {
            let mut browser = Browser::default();
            browser.reported.clone_from(&args.report);
            Ok((Arc::new(browser), "browser made of software, proof of work".to_owned()))
        }
    }
}

/// The names of what can be wrong with a device, each with the reason for which it is refused.
fn defects(device: SimulatedDevice) -> Vec<(String, &'static str)> {
    match device {
        SimulatedDevice::Ios => IphoneDefect::ATTESTATION.iter().map(|one| (name(one), one.reason())).collect(),
        SimulatedDevice::Android => AndroidDefect::ALL.iter().map(|one| (name(one), one.reason())).collect(),
        SimulatedDevice::Web => Vec::new(),
    }
}

fn find<D: std::fmt::Debug + Copy>(all: &[D], wanted: &str) -> Result<D, Failure> {
    let found = all.iter().find(|one| name(one) == wanted).copied();
    found.ok_or_else(|| Failure::new(format!("no defect is called {wanted:?}; --defect list names them")))
}

/// `OwnRoot` as `own-root`.
fn name(defect: &impl std::fmt::Debug) -> String {
    let mut text = String::new();
    for c in format!("{defect:?}").chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

fn told(error: &Error) -> Failure {
    Failure::new(format!("{error} ({})", error.status().name()))
}

/// What happened, step by step.
struct Steps<'s, 'io> {
    io: &'s mut Io<'io>,
    number: usize,
}

impl Steps<'_, '_> {
    fn say(&mut self, what: &str, outcome: &str) -> Result<(), Failure> {
        self.number += 1;
        self.io.line(&format!("{} {what:9} {outcome}", self.number))
    }

    /// What the token says.
    async fn token(&mut self, client: &Client) -> Result<(), Failure> {
        let token = client.token().await.map_err(|error| told(&error))?;
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
        let shown: Vec<String> = ["sub", "client_id", "plat", "lvl", "att", "exp"]
            .into_iter()
            .filter_map(|name| Some(format!("{name}={}", claims.get(name)?)))
            .collect();
        self.say("token", &format!("{}, bound to the phone's key", shown.join(" ")))
    }

    /// A signed request; then, as somebody between would send it, the same again and the same with another body.
    async fn signed(&mut self, client: &Client) -> Result<bool, Failure> {
        let signed = || fields(client, BODY);
        let answer = client.send(request(&HeaderMap::new(), BODY)?).await.map_err(|error| told(&error))?;
        let good = self.expect("request", "signed", answer, 200).await?;
        let first = signed().await?;
        send(client, &first, BODY).await?;
        let again = send(client, &first, BODY).await?;
        let replayed = self.expect("replay", "the same again", again, 401).await?;
        let altered = send(client, &signed().await?, OTHER_BODY).await?;
        let altered = self.expect("altered", "signed, then another body", altered, 401).await?;
        Ok(good && replayed && altered)
    }

    /// The token without the key.
    async fn stolen(&mut self, client: &Client) -> Result<bool, Failure> {
        let mut headers = HeaderMap::new();
        let token = client.token().await.map_err(|error| told(&error))?;
        let value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| Failure::new(error.to_string()))?;
        headers.insert(header::AUTHORIZATION, value);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = send(client, &headers, BODY).await?;
        self.expect("stolen", "the token without the key", answer, 401).await
    }

    async fn refreshed(&mut self, client: &Client) -> Result<bool, Failure> {
        match client.refresh().await {
            Ok(installation) => {
                self.say("refresh", &format!("the next token, code {}", installation.arc))?;
                Ok(true)
            }
            Err(error) => {
                self.say("refresh", &format!("{error} ({})", error.status().name()))?;
                Ok(false)
            }
        }
    }

    async fn left(&mut self, client: &Client) -> Result<bool, Failure> {
        let outcome = client.leave().await;
        let said = outcome.as_ref().map_or_else(ToString::to_string, |()| "the installation is deleted".to_owned());
        self.say("leave", &said)?;
        Ok(outcome.is_ok())
    }

    async fn expect(&mut self, what: &str, how: &str, answer: Answer, expected: u16) -> Result<bool, Failure> {
        let status = answer.status.as_u16();
        let body = answer.bytes(MOST).await.map_err(|error| told(&error))?;
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = said.pointer("/choices/0/message/content").or_else(|| said.pointer("/error/code"));
        let text = text.or_else(|| said.get("code")).and_then(Value::as_str).unwrap_or_default();
        let wrong = if status == expected { String::new() } else { format!("; EXPECTED {expected}") };
        self.say(what, &format!("{how}: {status} {text}{wrong}"))?;
        Ok(status == expected)
    }
}

/// The fields of a signed request with this body.
async fn fields(client: &Client, body: &'static str) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let uri = Uri::from_static(PATH);
    let signed = client.sign(&Method::POST, &uri, &headers, &Bytes::from_static(body.as_bytes())).await;
    signed.map_err(|error| told(&error))
}

async fn send(client: &Client, headers: &HeaderMap, body: &'static str) -> Result<Answer, Failure> {
    client.send_as_is(request(headers, body)?).await.map_err(|error| told(&error))
}

fn request(headers: &HeaderMap, body: &'static str) -> Result<Request<Bytes>, Failure> {
    let mut request = Request::post(PATH).body(Bytes::from_static(body.as_bytes()));
    if let Ok(request) = &mut request {
        request.headers_mut().clone_from(headers);
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request.map_err(|error| Failure::new(error.to_string()))
}

/// Where the makers' keys are.
struct Place(PathBuf);

impl Place {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn failed(&self, error: &impl std::fmt::Display) -> Failure {
        Failure::new(format!("the simulated makers of phones in {}: {error}", self.0.display()))
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        let file = self.file(name);
        std::fs::read_to_string(&file).map_err(|error| {
            Failure::new(format!("cannot read {}: {error}; start `vouchgate dev --app` first", file.display()))
        })
    }

    /// A file that only its owner reads.
    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).truncate(true).write(true).mode(0o600).open(self.file(name));
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| self.failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_makers_of_phones_stay_and_only_their_owner_reads_their_keys() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).unwrap();
        let place = Place(dir.path().join("simulator"));
        let (key, root) = (place.read("apple.key").unwrap(), place.read("google.pem").unwrap());
        prepare(dir.path()).unwrap();
        assert_eq!((place.read("apple.key").unwrap(), place.read("google.pem").unwrap()), (key, root));
        for name in ["apple.key", "google.key"] {
            let mode = std::fs::metadata(place.file(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn defects_are_found_by_their_names() {
        let names = defects(SimulatedDevice::Android);
        assert!(names.contains(&("own-root".to_owned(), "chain_unknown_root")), "{names:?}");
        assert_eq!(find(&AndroidDefect::ALL, "boolean-one").unwrap(), AndroidDefect::BooleanOne);
        assert!(find(&AndroidDefect::ALL, "list").is_err());
    }
}

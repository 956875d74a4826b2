//! `pins ...` and `cert plan`: what apps are told over the air.

mod verify;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use base::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use proof::app_config::{delegate, pin_of_pem, pin_text};
use proof::jose::{KeySet, SigningAlg, SigningKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::args::{
    CertCommand, DelegateArgs, PinsCommand, PinsKillArgs, PinsPublishArgs, RootCommand, StateArgs, SwitchArg,
};
use super::io::{Exit, Failure, Io, Outcome};
use super::manage::{ask, done};
use super::print;
use super::remote::segment;
use super::table::{Column, printable, text};

/// The largest file with a key, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// How far the clock where a root key is kept may be ahead of the server's.
const CLOCKS_DIFFER: Duration = Duration::from_hours(1);

const CONFIGS: &[Column] = &[
    ("app", |row| text(row, "app")),
    ("seq", |row| text(row, "seq")),
    ("host", |row| text(row, "host")),
    ("mode", |row| text(row, "mode")),
    ("role", |row| text(row, "role")),
    ("pin", |row| text(row, "pin")),
    ("until", |row| text(row, "until")),
    ("counts until", |row| text(row, "expires_at")),
    ("switched off", |row| text(row, "off")),
];

const PLAN: &[Column] = &[
    ("host", |row| text(row, "host")),
    ("key", |row| text(row, "role")),
    ("pin", |row| text(row, "pin")),
    ("published", |row| text(row, "published")),
    ("safe to show", |row| text(row, "safe")),
    ("from", |row| text(row, "safe_from")),
    ("dropped", |row| text(row, "dropped_at")),
];

/// Run one of `pins ...`.
pub(super) async fn run(command: PinsCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        PinsCommand::Show { app, state } => show(app.as_deref(), &state, io).await,
        PinsCommand::Publish(args) => publish(args, io).await,
        PinsCommand::Kill(args) => kill(args, io).await,
        PinsCommand::Verify(args) => verify::run(args, io).await,
        PinsCommand::Hash { file } => {
            let text = read(&file)?;
            let pin = pin_of_pem(text.expose()).map_err(|error| failed(&file, &error))?;
            io.line(&format!("sha256/{}", pin_text(&pin)))?;
            Ok(Exit::Done)
        }
        PinsCommand::Root(RootCommand::New { out }) => new_root(&out, io),
        PinsCommand::Key(state) => {
            let answer = ask(io, &state, (Method::POST, "/config-keys"), None).await?;
            io.note("The key waits for a root key to vouch for it: vouchgate pins delegate --root FILE");
            // One line, to be carried to where the root key is.
            let key = answer.get("public_jwk").cloned().unwrap_or_default();
            io.line(&key.to_string())?;
            Ok(Exit::Done)
        }
        PinsCommand::Delegate(args) => vouch(&args, io),
        PinsCommand::Accept(state) => {
            let delegation = io.read_value("the delegation")?;
            let body = json!({ "delegation": delegation.expose() });
            let answer = ask(io, &state, (Method::POST, "/config-keys/accept"), Some(body)).await?;
            let (kid, until) = (text(&answer, "kid"), text(&answer, "delegated_until"));
            done(io, state.json, &answer, &format!("The configuration key {kid} signs from now on, until {until}."))
        }
    }
}

/// Run one of `cert ...`.
pub(super) async fn cert(command: CertCommand, io: &mut Io<'_>) -> Outcome {
    let CertCommand::Plan(state) = command;
    let plan = ask(io, &state, (Method::GET, "/cert-plan"), None).await?;
    let verdict = if plan.get("ok") == Some(&Value::Bool(true)) { Exit::Done } else { Exit::No };
    if state.json {
        io.json(&plan)?;
        return Ok(verdict);
    }
    let hosts = plan.get("hosts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut rows = Vec::new();
    for host in hosts {
        for key in host.get("keys").and_then(Value::as_array).into_iter().flatten() {
            let mut row = key.clone();
            row.as_object_mut().map(|row| row.insert("host".into(), text(host, "host").into()));
            rows.push(row);
        }
    }
    print::list(io, false, PLAN, (&rows, "No key is pinned: there is no [[pins]] in the configuration."))?;
    for host in hosts {
        io.line("")?;
        io.line(&format!("{}:", printable(&text(host, "host"))))?;
        for step in host.get("steps").and_then(Value::as_array).into_iter().flatten() {
            let when = match (step.get("safe"), step.get("from")) {
                (Some(Value::Bool(true)), _) => "now".to_owned(),
                (_, Some(from)) => format!("not before {}", from.as_str().unwrap_or_default()),
                _ => "not now".to_owned(),
            };
            let (name, said) = (text(step, "step").replace('_', " "), text(step, "text"));
            io.line(&format!("  {name} ({when}): {}", printable(&said)))?;
        }
    }
    Ok(verdict)
}

async fn show(app: Option<&str>, state: &StateArgs, io: &mut Io<'_>) -> Outcome {
    let path = app.map_or_else(|| "/app-configs".to_owned(), |app| format!("/app-configs/{}", segment(app)));
    let answer = ask(io, state, (Method::GET, &path), None).await?;
    let listed = answer.get("items").and_then(Value::as_array).cloned();
    let configs = listed.unwrap_or_else(|| vec![answer]);
    if state.json {
        io.json(&Value::Array(configs))?;
        return Ok(Exit::Done);
    }
    let mut rows = Vec::new();
    for config in &configs {
        let off = [("kill_pinning", "pinning"), ("kill_attest", "attest")];
        let off: Vec<&str> =
            off.iter().filter(|(key, _)| config.get(*key) == Some(&Value::Bool(true))).map(|(_, name)| *name).collect();
        let mut row = |host: &Value, pin: &Value| {
            rows.push(json!({
                "app": config.get("app"), "seq": config.get("seq"), "expires_at": config.get("expires_at"), "off": off,
                "host": host.get("host"), "mode": host.get("mode"), "role": pin.get("role"), "pin": pin.get("pin"),
                "until": pin.get("until"),
            }));
        };
        let hosts = config.get("hosts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if hosts.is_empty() {
            row(&Value::Null, &Value::Null);
        }
        for host in hosts {
            host.get("pins").and_then(Value::as_array).into_iter().flatten().for_each(|pin| row(host, pin));
        }
    }
    print::list(io, false, CONFIGS, (&rows, "No app is told anything; tell one: vouchgate pins publish APP"))?;
    Ok(Exit::Done)
}

async fn publish(args: PinsPublishArgs, io: &mut Io<'_>) -> Outcome {
    let PinsPublishArgs { apps, drop, state } = args;
    let mut answers = Vec::new();
    for app in &apps {
        let path = format!("/app-configs/{}/publish", segment(app));
        let answer = ask(io, &state, (Method::POST, &path), Some(json!({ "drop": drop }))).await?;
        for warning in answer.get("warnings").and_then(Value::as_array).into_iter().flatten() {
            io.note(&format!("Warning: {}", warning.as_str().unwrap_or_default()));
        }
        if !state.json {
            let (seq, until) = (text(&answer, "seq"), text(&answer, "expires_at"));
            io.note(&format!("{app} is told configuration {seq}; it counts until {until}."));
        }
        answers.push(answer);
    }
    if state.json {
        io.json(&Value::Array(answers))?;
    }
    Ok(Exit::Done)
}

async fn kill(args: PinsKillArgs, io: &mut Io<'_>) -> Outcome {
    let PinsKillArgs { app, pinning, attest, state } = args;
    let off = |switch: Option<SwitchArg>| switch.map(|switch| switch == SwitchArg::Off);
    let body = json!({ "pinning": off(pinning), "attest": off(attest) });
    let path = format!("/app-configs/{}/kill", segment(&app));
    let answer = ask(io, &state, (Method::POST, &path), Some(body)).await?;
    let word = |key: &str| if answer.get(key) == Some(&Value::Bool(true)) { "off" } else { "on" };
    let (pinning, attest) = (word("kill_pinning"), word("kill_attest"));
    let said =
        format!("{app} is told so (configuration {}): pinning {pinning}, attest {attest}.", text(&answer, "seq"));
    done(io, state.json, &answer, &said)
}

/// A root key. Only its owner reads the file, and no file is overwritten.
fn new_root(out: &Path, io: &mut Io<'_>) -> Outcome {
    let key = SigningKey::generate(SigningAlg::Es256).map_err(|error| Failure::new(error.to_string()))?;
    let pkcs8 = key.to_pkcs8().map_err(|error| Failure::new(error.to_string()))?;
    let body = Secret::new(STANDARD.encode(pkcs8.expose()).into_bytes());
    let mut text = b"-----BEGIN PRIVATE KEY-----\n".to_vec();
    for line in body.expose().chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END PRIVATE KEY-----\n");
    let text = Secret::new(text);
    let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
    let written = options.and_then(|mut file| file.write_all(text.expose()).and_then(|()| file.sync_all()));
    written.map_err(|error| Failure::new(format!("cannot make {}: {error}", out.display())))?;
    io.note(&format!(
        "Made a root key: {}. Keep it offline. Its public half, to be built into the app and named in [app_config] roots:",
        out.display()
    ));
    io.line(&key.public_jwk().to_string())?;
    Ok(Exit::Done)
}

fn vouch(args: &DelegateArgs, io: &mut Io<'_>) -> Outcome {
    let pem = read(&args.root)?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose())
        .map_err(|_| failed(&args.root, &"it holds no private key (PEM, PKCS#8)"))?;
    let der = Secret::new(der.secret_pkcs8_der().to_vec());
    let root = SigningKey::from_pkcs8(SigningAlg::Es256, &der)
        .map_err(|_| failed(&args.root, &"its private key is none on P-256"))?;
    let asked = io.read_value("the configuration key that `vouchgate pins key` printed")?;
    let unusable = || Failure { exit: Exit::No, message: "standard input is no public key (JWK) on P-256".to_owned() };
    let jwk: Value = serde_json::from_str(asked.expose()).map_err(|_| unusable())?;
    // As strict as whoever takes it.
    let keys = KeySet::from_issuer_file(jwk.to_string().as_bytes()).map_err(|_| unusable())?;
    let usable = keys.keys().iter().all(|key| key.bind(&[proof::jose::Alg::Es256]).is_some());
    if keys.keys().len() != 1 || !usable || jwk.get("keys").is_some() {
        return Err(unusable());
    }
    let now = io.clock.now();
    let end = now.plus(Duration::from_hours(24) * args.days);
    let delegation =
        delegate(&root, &jwk, (now, now.minus(CLOCKS_DIFFER), end)).map_err(|error| Failure::new(error.to_string()))?;
    io.note(&format!("The key may sign until {}. For the server: vouchgate pins accept", end.rfc3339()));
    io.line(&delegation)?;
    Ok(Exit::Done)
}

fn read(file: &Path) -> Result<Secret<Vec<u8>>, Failure> {
    let length = std::fs::metadata(file).map_err(|error| failed(file, &error))?.len();
    if length > MAX_FILE {
        return Err(failed(file, &"it is too long"));
    }
    std::fs::read(file).map(Secret::new).map_err(|error| failed(file, &error))
}

fn failed(file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {why}", file.display()))
}

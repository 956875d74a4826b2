//! `vouchgate doctor`: looks at what runs and what it depends on, and says what to do. Changes nothing, and makes no
//! call that costs money.

mod apps;
mod audit_log;
mod budgets;
mod clouds;
mod pins;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SystemClock, SystemRng};
use config::{Config, SecretRef};
use http::{Method, Request, header};
use net::jwks::{Forget, Jwks, Refreshed, Timing};
use net::{Deadlines, Egress, EgressConfig, OutBody, Reach, Target};
use serde::Serialize;
use store::{Ledger, LedgerSettings, Store};
use tokio::net::UnixStream;
use vault::MasterKey;

use crate::cli::args::CheckArgs;
use crate::cli::{Exit, Failure, Outcome};
use crate::preflight;
use crate::references;
use crate::server::master_key_path;
use crate::wire::issuers;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but somebody should know.
    Warning,
    /// Does not work.
    Failure,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What: `store`, `provider openai`.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

/// How long a provider or issuer has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The largest clock difference that goes unmentioned.
const SKEW: i64 = 30;

/// Look at everything and print what was found. Exit 1 if something does not work.
pub async fn run(args: &CheckArgs, stdout: &mut dyn Write) -> Outcome {
    let text = std::fs::read_to_string(&args.config)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", args.config.display())))?;
    let mut findings = Findings::default();
    match preflight::read(&text) {
        Ok(config) => {
            findings.ok("configuration", format!("{} is valid", args.config.display()));
            look(&config, &mut findings).await;
        }
        Err(faults) => {
            for fault in faults {
                let seen = format!("{}:{fault}", args.config.display());
                findings.add("configuration", Verdict::Failure, seen, Some("correct the file and run doctor again"));
            }
        }
    }
    let Findings(findings) = findings;
    if args.json {
        let text = serde_json::to_string_pretty(&findings).map_err(|error| Failure::new(error.to_string()))?;
        writeln!(stdout, "{text}")?;
    } else {
        for Finding { what, verdict, seen, todo } in &findings {
            let mark = match verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warning => "warn",
                Verdict::Failure => "FAIL",
            };
            writeln!(stdout, "{mark}  {what}: {seen}")?;
            if let Some(todo) = todo {
                writeln!(stdout, "      -> {todo}")?;
            }
        }
    }
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Failure);
    Ok(if broken { Exit::No } else { Exit::Done })
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, what: impl Into<String>, seen: impl Into<String>) {
        self.add(what, Verdict::Ok, seen, None);
    }

    fn add(&mut self, what: impl Into<String>, verdict: Verdict, seen: impl Into<String>, todo: Option<&str>) {
        self.0.push(Finding { what: what.into(), verdict, seen: seen.into(), todo: todo.map(str::to_owned) });
    }
}

/// Have the way out trust what the server's does, and say whom that is.
fn authorities(config: &Config, egress: &Egress, findings: &mut Findings) {
    match crate::authorities::read(config) {
        Ok(read) => egress.trust(read.authorities()),
        Err(error) => findings.add("certificate authorities", Verdict::Failure, error.to_string(), None),
    }
    for ca in config.server.upstream_ca.iter().filter(|ca| ca.hosts.iter().any(config::HostPattern::is_all)) {
        let seen = format!("whoever has the key of {} can stand in for any host that is called", ca.file.display());
        let todo = "name the hosts it is for in [server] upstream_ca";
        findings.add("certificate authorities", Verdict::Warning, seen, Some(todo));
    }
}

async fn look(config: &Config, findings: &mut Findings) {
    files(config, findings);
    state(config, findings).await;
    match Egress::new(EgressConfig::default()) {
        Ok(egress) => {
            authorities(config, &egress, findings);
            apps::look(config, &egress, findings).await;
            keys_of_issuers(config, &egress, findings).await;
            signin(config, &egress, findings).await;
            providers(config, &egress, findings).await;
            clouds::look(config, &egress, findings).await;
        }
        Err(error) => findings.add("way out", Verdict::Failure, error.to_string(), None),
    }
    risks(config, findings);
    budgets::look(config, findings);
    audit_log::look(config, findings).await;
    pins::look(config, &SystemClock, findings).await;
}

/// Who may read what only Vouchgate should.
fn files(config: &Config, findings: &mut Findings) {
    let data_dir = &config.server.data_dir;
    private("data directory", data_dir, "chmod 700", findings);
    for reference in std::iter::once(&config.vault.key).chain(&config.vault.older) {
        let SecretRef::File(path) = reference else { continue };
        let path = master_key_path(data_dir, path);
        match MasterKey::read_file(&path) {
            Ok(_) => findings.ok("master key", format!("{} opens", path.display())),
            Err(error) => findings.add(
                "master key",
                Verdict::Failure,
                error.to_string(),
                Some("restore it from your backup; for a new data directory `vouchgate key list --config FILE` makes one"),
            ),
        }
    }
    if let Some(tls) = &config.server.tls {
        private("TLS key", &tls.key, "chmod 600", findings);
    }
}

fn private(what: &str, path: &Path, command: &str, findings: &mut Findings) {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.permissions().mode().trailing_zeros() >= 6 => {
            findings.ok(what, format!("{} is for its owner only", path.display()));
        }
        Ok(metadata) => {
            let seen = format!("{} has mode {:o}", path.display(), metadata.permissions().mode() & 0o777);
            findings.add(what, Verdict::Warning, seen, Some(&format!("{command} {}", path.display())));
        }
        Err(error) => {
            findings.add(what, Verdict::Warning, format!("{}: {error}", path.display()), None);
        }
    }
}

/// How the way to a database server is protected.
fn way_to_store(config: &Config, findings: &mut Findings) {
    for warning in crate::preflight::warnings(config) {
        let (seen, todo) = warning.split_once("; ").unwrap_or((&warning, ""));
        findings.add("way to the store", Verdict::Warning, seen, Some(todo));
    }
    if let config::StoreAddress::Written(config::StoreUrl::Postgres(written)) = &config.store.url
        && written.has_password()
    {
        let todo = "write { env = \"NAME\" } or { file = \"path\" } instead";
        findings.add("way to the store", Verdict::Warning, "its password stands in the configuration file", Some(todo));
    }
}

/// What nodes share beside the database.
async fn shared(config: &Config, findings: &mut Findings) {
    let what = "shared state";
    let opened = match references::shared_state(config, &SystemRng) {
        Ok(None) => return,
        Ok(Some(shared)) => Ok(shared),
        Err(error) => Err(error.to_string()),
    };
    let checked = match opened {
        Ok(shared) => {
            // The first question also makes the connection, for which the deadline of a question may be too short.
            let _ = shared.check().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            shared.check().await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error),
    };
    match checked {
        Ok(risks) if risks.is_empty() => findings.ok(what, "answers"),
        Ok(risks) => risks.into_iter().for_each(|risk| findings.add(what, Verdict::Warning, risk, None)),
        Err(error) => {
            let todo = "without it requests with proofs are refused, and each node counts its part of the limits";
            findings.add(what, Verdict::Failure, error, Some(todo));
        }
    }
}

/// The store: through the server if one runs, else by itself.
async fn state(config: &Config, findings: &mut Findings) {
    way_to_store(config, findings);
    shared(config, findings).await;
    let data_dir = &config.server.data_dir;
    if UnixStream::connect(data_dir.join(control::admin::SOCKET_NAME)).await.is_ok() {
        findings.ok("server", "one is running on this data directory");
        let socket = data_dir.join(control::admin::SOCKET_NAME);
        match crate::cli::newest_revocations(socket).await {
            Ok((count, true)) => revocations(&format!("{count}"), findings),
            Ok((count, false)) => revocations(&format!("{count} and more"), findings),
            Err(error) => findings.add("revocations", Verdict::Failure, error.message, None),
        }
        return;
    }
    if !data_dir.exists() {
        findings.add("server", Verdict::Warning, "none has run on this data directory yet", None);
        return;
    }
    let url = match references::store_url(config) {
        Ok(url) => url,
        Err(error) => return findings.add("store", Verdict::Failure, error.to_string(), None),
    };
    match Store::open(&url, data_dir, Arc::new(SystemClock), Arc::new(SystemRng)).await {
        Ok(store) => {
            match store.risks().await {
                Ok(risks) => risks.into_iter().for_each(|risk| findings.add("store", Verdict::Warning, risk, None)),
                Err(error) => findings.add("store", Verdict::Failure, error.to_string(), None),
            }
            match store.check().await {
                Ok(complaints) if complaints.is_empty() => findings.ok("store", "sound; no server is running on it"),
                Ok(complaints) => findings.add(
                    "store",
                    Verdict::Failure,
                    complaints.join("; "),
                    Some("restore the last backup; keep the damaged files for inspection"),
                ),
                Err(error) => findings.add("store", Verdict::Failure, error.to_string(), None),
            }
            books(&store, findings).await;
            revocations(&store.revoked().entries().to_string(), findings);
            store.close().await;
        }
        Err(error) => findings.add("store", Verdict::Failure, error.to_string(), None),
    }
}

/// Whether the budgets' books balance.
async fn books(store: &Store, findings: &mut Findings) {
    let verified = async {
        let ledger = Ledger::open(store, LedgerSettings::new(crate::cli::COMMAND_LINE)).await?;
        ledger.verify().await
    };
    match verified.await {
        Ok(complaints) if complaints.is_empty() => findings.ok("budgets", "their books balance"),
        Ok(complaints) => findings.add(
            "budgets",
            Verdict::Failure,
            complaints.join("; "),
            Some("keep a copy of the database for inspection, and restore the last backup"),
        ),
        Err(error) => findings.add("budgets", Verdict::Failure, error.to_string(), None),
    }
}

fn revocations(count: &str, findings: &mut Findings) {
    findings.ok("revocations", format!("{count} in force; `vouchgate token revocations` lists them"));
}

async fn keys_of_issuers(config: &Config, egress: &Egress, findings: &mut Findings) {
    let (clock, rng) = (Arc::new(SystemClock), Arc::new(SystemRng));
    let jwks = Jwks::new(Arc::new(egress.clone()), Arc::new(Forget), clock, rng, Timing::default());
    let fetched = issuers::fetched(&config.issuers);
    jwks.configure(fetched.clone()).await;
    for issuer in &fetched {
        let what = format!("issuer {}", issuer.name);
        match jwks.refresh(&issuer.name).await {
            Refreshed::Fetched => {
                let status = jwks.status().into_iter().find(|status| status.name == issuer.name);
                let (keys, rejected) = status.map_or((0, 0), |status| (status.keys.unwrap_or(0), status.rejected));
                let verdict = if keys == 0 { Verdict::Failure } else { Verdict::Ok };
                findings.add(what, verdict, format!("{keys} usable keys, {rejected} unusable"), None);
            }
            Refreshed::Failed(error) => findings.add(
                what,
                Verdict::Failure,
                error.to_string(),
                Some("its tokens are refused once the kept keys are too old"),
            ),
            Refreshed::CoolingDown | Refreshed::NotHere => {}
        }
    }
}

/// Whether people can sign in: our secret at the OpenID provider, and where it says its endpoints are.
async fn signin(config: &Config, egress: &Egress, findings: &mut Findings) {
    let Some(signin) = &config.signin else { return };
    let Some(issuer) = config.issuers.iter().find(|issuer| issuer.name == signin.issuer) else { return };
    if let Some(reference @ (SecretRef::Env(_) | SecretRef::File(_))) = &signin.client_secret
        && let Err(error) = references::read(reference)
    {
        let todo = "give it the secret the provider shows for this client";
        findings.add("sign-in secret", Verdict::Failure, error.to_string(), Some(todo));
    }
    if signin.authorization_endpoint.is_some() && signin.token_endpoint.is_some() {
        findings.ok("sign-in", "the endpoints are given in [signin]");
        return;
    }
    let reach = if issuer.allow_private { Reach::Private } else { Reach::Public };
    match net::jwks::metadata(egress, issuer.issuer.as_deref().unwrap_or_default(), reach).await {
        Ok(metadata) => {
            let named = |name: &str| metadata.get(name).and_then(serde_json::Value::as_str);
            match (named("authorization_endpoint"), named("token_endpoint")) {
                (Some(authorization), Some(_)) => {
                    findings.ok("sign-in", format!("people are sent to {authorization}"));
                }
                _ => findings.add(
                    "sign-in",
                    Verdict::Failure,
                    "the issuer's metadata names no authorization_endpoint or token_endpoint",
                    Some("give both in [signin]"),
                ),
            }
        }
        Err(error) => findings.add("sign-in", Verdict::Failure, error.to_string(), Some("nobody can sign in")),
    }
}

/// Whether each provider answers at all (its models list, without a key: any status will do), and its clock.
async fn providers(config: &Config, egress: &Egress, findings: &mut Findings) {
    let deadlines = Deadlines { connect: PATIENCE, tls: PATIENCE, first_byte: PATIENCE, idle: PATIENCE };
    for provider in &config.providers {
        let what = format!("provider {}", provider.name);
        let Some(url) = provider.base().and_then(|base| url::Url::parse(&base).ok()) else { continue };
        let reach = if provider.may_be_private() { Reach::Private } else { Reach::Public };
        let path = format!("{}/models", url.path().trim_end_matches('/'));
        let request = Request::builder().method(Method::GET).uri(path).body(OutBody::empty());
        let (Ok(target), Ok(request)) = (Target::new(&url, reach), request) else { continue };
        match egress.send(&target, request, &deadlines).await {
            Ok(response) => {
                findings.ok(&*what, format!("{} answers", target.host()));
                let date = response.headers().get(header::DATE).and_then(|value| value.to_str().ok());
                clock(date, findings);
            }
            Err(error) => findings.add(
                what,
                Verdict::Failure,
                format!("{} does not answer: {error}", target.host()),
                Some("check the network, base_url and allow_private"),
            ),
        }
    }
}

/// Tokens live for minutes: a clock that is off refuses good ones and accepts expired ones.
fn clock(date: Option<&str>, findings: &mut Findings) {
    let Some(theirs) = date.and_then(http_date) else { return };
    let off = SystemClock.now().as_secs().saturating_sub(theirs);
    if off.abs() > SKEW {
        let seen = format!("this machine differs from a provider's clock by {off} s");
        findings.add("clock", Verdict::Warning, seen, Some("synchronise the clock (NTP)"));
    }
}

/// Seconds since the epoch of an IMF-fixdate (RFC 9110 section 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::PrimitiveDateTime::parse(text, &format).ok().map(|date| date.assume_utc().unix_timestamp())
}

/// Settings that work and still deserve a second look.
fn risks(config: &Config, findings: &mut Findings) {
    let mut risk = |what: String, seen: &str, todo: &str| findings.add(what, Verdict::Warning, seen, Some(todo));
    let server = &config.server;
    if server.plain_http && server.tls.is_none() {
        let seen = "plain_http = true: tokens cross the network readable unless something in front adds TLS";
        risk("server".into(), seen, "set [server] tls, or listen on loopback behind the proxy");
    }
    if !server.admin_listen.ip().is_loopback() {
        let seen = "the admin listener is reachable from other machines";
        risk("server".into(), seen, "listen on 127.0.0.1 and reach it through a tunnel");
    }
    for issuer in &config.issuers {
        let what = format!("issuer {}", issuer.name);
        if issuer.hs256_secret.is_some() {
            let seen = "a shared secret: whoever can check its tokens can also make them";
            risk(what.clone(), seen, "move to a key pair: jwks_url, or our own /oauth/token");
        }
        if issuer.max_lifetime.is_none() {
            risk(what, "its tokens may live for ever", "set max_lifetime, for example \"1h\"");
        }
    }
    for policy in &config.policies {
        if policy.rate.is_empty() {
            let what = format!("policy {}", policy.name);
            risk(what, "no rate limit", "add rate = [{ requests = 60, per = \"subject\", window = \"1m\" }]");
        }
    }
    if config.policies.is_empty() {
        risk("policies".into(), "there are none: every request is refused", "add a [[policy]]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_clock_is_read() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
    }

    #[tokio::test]
    async fn it_says_whether_people_can_sign_in() {
        let op = testkit::op::Op::start("ES256").await;
        let issuer = op.issuer();
        let look = async |more: &str| {
            let text = format!(
                "[[issuer]]\nname = \"corp\"\nissuer = \"{issuer}\"\naudience = [\"a\"]\ndiscovery = true\n\
                 allow_private = true\n[signin]\nissuer = \"corp\"\nclient_id = \"us\"\n{more}"
            );
            let (config, mut findings) = (config::parse(&text).unwrap(), Findings::default());
            signin(&config, &Egress::new(EgressConfig::default()).unwrap(), &mut findings).await;
            findings.0.into_iter().map(|finding| (finding.what, finding.verdict)).collect::<Vec<_>>()
        };
        let (ok, bad) = (("sign-in".to_owned(), Verdict::Ok), ("sign-in".to_owned(), Verdict::Failure));
        assert_eq!(look("").await, std::slice::from_ref(&ok));
        let secret = ("sign-in secret".to_owned(), Verdict::Failure);
        assert_eq!(look("client_secret = { env = \"VOUCHGATE_NO_SUCH_VARIABLE\" }").await, [secret, ok]);
        op.change(|op| op.metadata = serde_json::json!({"token_endpoint": null}));
        assert_eq!(look("").await, std::slice::from_ref(&bad));
        op.change(|op| op.metadata = serde_json::json!({"issuer": "https://evil.example"}));
        assert_eq!(look("").await, [bad]);
    }

    #[test]
    fn an_authority_for_every_host_is_worth_a_warning_and_one_that_cannot_be_read_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let text =
            format!("[server]\nupstream_ca = [{{ file = {:?}, hosts = [\"*\"] }}]\n", file.display().to_string());
        let (config, egress) = (config::parse(&text).unwrap(), Egress::new(EgressConfig::default()).unwrap());
        let look = || {
            let mut findings = Findings::default();
            authorities(&config, &egress, &mut findings);
            findings.0.into_iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        assert_eq!(look(), [Verdict::Failure, Verdict::Warning]);
        std::fs::write(&file, testkit::certs::Authority::new().pem()).unwrap();
        assert_eq!(look(), [Verdict::Warning]);
    }

    #[test]
    fn risky_settings_are_named() {
        let config = config::parse(
            "[server]\nadmin_listen = \"0.0.0.0:8081\"\nplain_http = true\n\
             [[issuer]]\nname = \"app\"\nhs256_secret = { env = \"S\" }\n\
             [[policy]]\nname = \"all\"\nmay = { models = [\"*\"] }\n",
        );
        let mut findings = Findings::default();
        risks(&config.unwrap(), &mut findings);
        let all: Vec<_> = findings.0.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(all, ["server", "server", "issuer app", "issuer app", "policy all"]);
    }
}

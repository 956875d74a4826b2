//! `pins verify`: what a host shows, what apps are told of it, and whether the two fit. From outside, as an app sees it.

use base::Timestamp;
use net::{Lookout, look};
use proof::app_config::{
    AppConfig, Enforce, MAX_CONFIG_LEN, Role, Rules, Seen, Verified, pin_of_certificate, pin_text,
};
use proof::jose::KeySet;
use proof::mtls::ClientCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::{failed, read};
use crate::cli::args::PinsVerifyArgs;
use crate::cli::io::{Exit, Failure, Io, Outcome};
use crate::cli::place::read_config;

/// What is compared.
struct Asked {
    host: String,
    port: u16,
    apps: Vec<String>,
    roots: KeySet,
    seen: Option<Seen>,
    now: Timestamp,
}

/// Run it.
pub(super) async fn run(args: PinsVerifyArgs, io: &mut Io<'_>) -> Outcome {
    let asked = asked(&args, io)?;
    let extra_roots = match &args.ca {
        None => Vec::new(),
        Some(file) => {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read(file)?.expose()).collect();
            found
                .ok()
                .filter(|found| !found.is_empty())
                .ok_or_else(|| failed(file, &"it holds no certificate (PEM)"))?
        }
    };
    let paths = asked.apps.iter().map(|app| {
        let app = percent_encoding::utf8_percent_encode(app, percent_encoding::NON_ALPHANUMERIC);
        format!("/.well-known/gateway-config/{app}")
    });
    let lookout = Lookout {
        host: asked.host.clone(),
        port: asked.port,
        address: args.connect,
        extra_roots,
        paths: paths.collect(),
        longest: MAX_CONFIG_LEN,
    };
    let at = format!("{}:{}", asked.host, asked.port);
    let seen = look(&lookout).await.map_err(|error| Failure::new(format!("{at}: {error}")))?;
    let pins: Vec<Option<String>> =
        seen.chain.iter().map(|der| pin_of_certificate(der).ok().map(|pin| pin_text(&pin))).collect();
    let shown = pins.first().cloned().flatten().unwrap_or_default();
    let mut reason = seen.untrusted.as_ref().map(|_| "certificate_untrusted");
    let mut apps = Vec::new();
    for (app, (status, body)) in asked.apps.iter().zip(&seen.answers) {
        let (verdict, config) = asked.judge(app, status.as_u16(), body, &shown);
        reason = reason.or(verdict.err());
        apps.push(told(app, verdict, config.as_ref(), &shown));
    }
    if asked.apps.is_empty() {
        io.note("What apps are told was not looked at: name one with --app, or give --config.");
    }
    let certificates: Vec<Value> =
        seen.chain.iter().zip(&pins).map(|(der, pin)| certificate(der, pin.as_deref())).collect();
    io.json(&json!({
        "valid": reason.is_none(), "reason": reason, "host": asked.host, "port": asked.port,
        "trusted": seen.untrusted.is_none(), "untrusted": seen.untrusted, "certificates": certificates, "apps": apps,
    }))?;
    Ok(if reason.is_none() { Exit::Done } else { Exit::No })
}

fn asked(args: &PinsVerifyArgs, io: &mut Io<'_>) -> Result<Asked, Failure> {
    let not_a_host =
        || Failure::new(format!("{:?} is no host: write ai.example.com, with a port where it is not 443", args.host));
    let text = if args.host.contains("://") { args.host.clone() } else { format!("https://{}", args.host) };
    let url = url::Url::parse(&text).map_err(|_| not_a_host())?;
    let host = url.host_str().filter(|_| url.scheme() == "https").ok_or_else(not_a_host)?.to_owned();
    let (mut apps, mut roots) = (args.app.clone(), args.root.clone());
    if let Some(file) = &args.config {
        let config = read_config(file, io)?;
        if apps.is_empty() {
            apps = config.apps.iter().map(|app| app.name.to_string()).collect();
        }
        if roots.is_empty() {
            roots = config.app_config.roots;
        }
    }
    if roots.is_empty() && !apps.is_empty() {
        return Err(Failure::new(
            "whom to believe is not said: give the public root keys with --root FILE, or --config FILE that names them",
        ));
    }
    let mut keys = Vec::new();
    for file in &roots {
        let set = KeySet::from_issuer_file(read(file)?.expose()).map_err(|error| failed(file, &error))?;
        keys.extend(set.keys().iter().cloned());
    }
    Ok(Asked {
        host,
        port: url.port_or_known_default().unwrap_or(443),
        apps,
        roots: KeySet::of(keys),
        seen: args.seq.map(|seq| Seen { seq, delegated_at: i64::MIN }),
        now: args.now.map_or_else(|| io.clock.now(), Timestamp::from_secs),
    })
}

impl Asked {
    /// Whether what an app is told holds, and fits what the host shows.
    fn judge(&self, app: &str, status: u16, body: &[u8], shown: &str) -> (Result<(), &'static str>, Option<Verified>) {
        if status != 200 {
            return (Err(if status == 404 { "config_not_found" } else { "config_not_served" }), None);
        }
        let rules = Rules { roots: &self.roots, app, now: self.now, seen: self.seen };
        let verified = std::str::from_utf8(body).map_err(|_| "not_compact_jws");
        match verified
            .and_then(|text| proof::app_config::verify(text, &rules).map_err(proof::app_config::ConfigError::reason))
        {
            Err(reason) => (Err(reason), None),
            Ok(verified) => (self.fits(&verified.config, shown), Some(verified)),
        }
    }

    fn fits(&self, config: &AppConfig, shown: &str) -> Result<(), &'static str> {
        let host = config.hosts.iter().find(|known| known.host == self.host).ok_or("host_not_pinned")?;
        let mut counts = host.pins.iter().filter(|pin| pin.counts(self.now));
        if !counts.clone().any(|pin| pin.spki_sha256 == shown) {
            return Err("pin_mismatch");
        }
        if counts.any(|pin| pin.spki_sha256 != shown) { Ok(()) } else { Err("only_one_pin") }
    }
}

fn told(app: &str, verdict: Result<(), &'static str>, verified: Option<&Verified>, shown: &str) -> Value {
    let mut told = json!({ "app": app, "valid": verdict.is_ok(), "reason": verdict.err() });
    let (Some(object), Some(Verified { config, delegation })) = (told.as_object_mut(), verified) else { return told };
    let pins = |host: &proof::app_config::PinnedHost| -> Vec<Value> {
        let pin = |pin: &proof::app_config::Pin| json!({ "pin": format!("sha256/{}", pin.spki_sha256), "role": pin.role.as_str(), "shown": pin.spki_sha256 == shown });
        host.pins.iter().map(pin).collect()
    };
    let hosts = config.hosts.iter().map(|host| {
        json!({ "host": host.host, "mode": if host.enforce == Enforce::Yes { "enforce" } else { "report" }, "pins": pins(host) })
    });
    let next = config.hosts.iter().flat_map(|host| &host.pins).any(|pin| pin.role == Role::Next);
    object.extend([
        ("seq".to_owned(), json!(config.seq)),
        ("issued_at".to_owned(), json!(Timestamp::from_secs(config.iat).rfc3339())),
        ("expires_at".to_owned(), json!(Timestamp::from_secs(config.exp).rfc3339())),
        ("delegated_until".to_owned(), json!(delegation.exp.rfc3339())),
        ("kid".to_owned(), json!(delegation.key.thumbprint_text())),
        ("root".to_owned(), json!(delegation.root)),
        ("next".to_owned(), json!(next)),
        ("kill".to_owned(), json!(config.kill)),
        ("hosts".to_owned(), hosts.collect()),
    ]);
    told
}

fn certificate(der: &CertificateDer<'_>, pin: Option<&str>) -> Value {
    let read = ClientCertificate::parse(der).ok();
    json!({
        "pin": pin.map(|pin| format!("sha256/{pin}")),
        "names": read.as_ref().map(|read| read.dns().to_vec()),
        "ends": read.as_ref().map(|read| read.not_after().rfc3339()),
    })
}

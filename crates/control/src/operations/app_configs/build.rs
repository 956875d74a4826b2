//! What an app is to be told: the keys of each host, compared with what the listener shows.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base::{Name, Timestamp};
use config::{Config, PinHash, PinMode, PinSet};
use proof::app_config::{AppConfig, Enforce, MAX_PEM_LEN, Pin, PinnedHost, Role, pin_of_pem, pin_text};

use super::Certificate;
use crate::operations::OperationError;

/// A configuration that would end sooner is not worth being signed.
const SHORTEST: Duration = Duration::from_mins(10);

/// Why an app is not told what was asked for. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// TLS does not end here, and nothing says what the host shows.
    #[error(
        "TLS does not end at this listener, so it is not known which key {host} shows: write current = \"sha256/...\" in the pin set \
         {set} (vouchgate pins verify {host} prints it)"
    )]
    NoCurrent {
        /// The pin set.
        set: Name,
        /// Its host.
        host: String,
    },
    /// The listener's certificate is not for the host.
    #[error(
        "the certificate of server.tls is not for {host}: put that host's certificate there, or write current = \"sha256/...\" in the \
         pin set {set} if TLS ends elsewhere"
    )]
    OtherHost {
        /// The pin set.
        set: Name,
        /// Its host.
        host: String,
    },
    /// The listener shows another key than is said.
    #[error(
        "the listener shows {shown} for {host}, and that is not what apps would be told: install the certificate of a key they are told \
         of, or take current out of the pin set {set} and publish what is shown"
    )]
    NotServed {
        /// The pin set.
        set: String,
        /// Its host.
        host: String,
        /// What it shows.
        shown: String,
    },
    /// The listener's certificate is over.
    #[error("the certificate that the listener shows for {host} is not valid now: renew it first, with the same key")]
    Certificate {
        /// The host.
        host: String,
    },
    /// There is no next key.
    #[error(
        "the pin set {set} has no next key: apps that know one key only are lost with it. Make one (openssl ecparam -genkey -name \
         prime256v1 -noout -out next.pem), keep it safe, and write next_file = \"next.pem\""
    )]
    NoNext {
        /// The pin set.
        set: Name,
    },
    /// The next key is the current one.
    #[error("the next key of the pin set {set} is the one that {host} shows now: make a new one and name that")]
    OneKey {
        /// The pin set.
        set: Name,
        /// Its host.
        host: String,
    },
    /// A file with a key cannot be read.
    #[error("{path}: {why}")]
    KeyFile {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// No root key is configured.
    #[error(
        "[app_config] roots names no root key: make one (vouchgate pins root new), keep its private half offline, and name its public \
         half"
    )]
    NoRoots,
    /// No configuration key was vouched for.
    #[error(
        "no configuration key can sign: vouchgate pins key | vouchgate pins delegate --root FILE | vouchgate pins accept"
    )]
    NoKey,
    /// The delegation is over, or nearly.
    #[error(
        "the delegation of the configuration key ended or ends at {0}: have a root key make a new one (vouchgate pins delegate)"
    )]
    DelegationEnded(String),
    /// What is said is too long.
    #[error("the configuration is longer than apps read: pin fewer hosts")]
    TooLong,
}

impl PublishError {
    /// A stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoCurrent { .. } => "pins_no_current",
            Self::OtherHost { .. } => "pins_other_host",
            Self::NotServed { .. } => "pins_not_served",
            Self::Certificate { .. } => "pins_certificate_invalid",
            Self::NoNext { .. } => "pins_no_next",
            Self::OneKey { .. } => "pins_one_key",
            Self::KeyFile { .. } => "pins_key_file",
            Self::NoRoots => "root_key_missing",
            Self::NoKey => "config_key_missing",
            Self::DelegationEnded(_) => "delegation_expired",
            Self::TooLong => "config_too_long",
        }
    }
}

/// What is compared with what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) shown: Option<&'a Certificate>,
    pub(super) now: Timestamp,
}

/// How long a key that apps are told of may be gone by: until nobody goes by what it was told before.
pub(super) fn hold(config: &Config) -> Duration {
    config.app_config.lifetime.duration() + config.app_config.offline.duration()
}

/// The pin sets of an app.
pub(super) fn sets<'a>(config: &'a Config, app: &Name) -> impl Iterator<Item = &'a PinSet> {
    let app = app.clone();
    config.pins.iter().filter(move |set| set.apps.is_empty() || set.apps.contains(&app))
}

/// What an app is to be told of hosts. A key that was shown is told of for a while longer.
pub(super) fn hosts(
    facts: &Facts<'_>,
    app: &Name,
    before: Option<&AppConfig>,
    drop: &[PinHash],
) -> Result<Vec<PinnedHost>, PublishError> {
    let mut hosts = Vec::new();
    for set in sets(facts.config, app) {
        let current = current(set, facts)?;
        let next = next(set)?.ok_or_else(|| PublishError::NoNext { set: set.name.clone() })?;
        if next == current {
            return Err(PublishError::OneKey { set: set.name.clone(), host: set.host.clone() });
        }
        let mut pins = Vec::new();
        let mut add = |hash: &[u8; 32], role: Role, end: Option<i64>| {
            let text = pin_text(hash);
            if pins.iter().all(|pin: &Pin| pin.spki_sha256 != text) {
                pins.push(Pin { spki_sha256: text, role, nbf: None, exp: end });
            }
        };
        add(current.as_bytes(), Role::Current, None);
        add(next.as_bytes(), Role::Next, None);
        for backup in backups(set)? {
            add(backup.as_bytes(), Role::Backup, None);
        }
        let told = before.and_then(|before| before.hosts.iter().find(|host| host.host == set.host));
        for pin in told.into_iter().flat_map(|host| retained(&host.pins, facts)) {
            let text = &pin.spki_sha256;
            let unwanted = drop.iter().any(|hash| pin_text(hash.as_bytes()) == *text);
            if !unwanted && pins.iter().all(|pin: &Pin| pin.spki_sha256 != *text) {
                pins.push(pin);
            }
        }
        let enforce = match set.mode {
            PinMode::Enforce => Enforce::Yes,
            PinMode::Report => Enforce::Report,
        };
        hosts.push(PinnedHost { host: set.host.clone(), enforce, pins });
    }
    Ok(hosts)
}

/// Keys that were told of as current, and those that were before: backups until nobody can go by them any more.
fn retained(pins: &[Pin], facts: &Facts<'_>) -> Vec<Pin> {
    let end = facts.now.plus(hold(facts.config)).as_secs();
    let kept = |pin: &Pin| match pin.role {
        Role::Current => Some(Pin { role: Role::Backup, exp: Some(end), ..pin.clone() }),
        Role::Next | Role::Backup => pin.exp.filter(|end| *end > facts.now.as_secs()).map(|_| pin.clone()),
    };
    pins.iter().filter_map(kept).collect()
}

/// What an app was told of hosts, anew: keys whose time is over are left out, and what is current is what the listener shows.
pub(super) fn renewed(
    facts: &Facts<'_>,
    app: &Name,
    mut hosts: Vec<PinnedHost>,
) -> Result<Vec<PinnedHost>, PublishError> {
    let end = facts.now.plus(hold(facts.config)).as_secs();
    for host in &mut hosts {
        host.pins.retain(|pin| pin.exp.is_none_or(|end| end > facts.now.as_secs()));
        let set = sets(facts.config, app).find(|set| set.host == host.host);
        let shown = match set {
            Some(set) => pin_text(current(set, facts)?.as_bytes()),
            // It was taken out of the configuration, which has not been published since.
            None => continue,
        };
        if host.pins.iter().all(|pin| pin.spki_sha256 != shown) {
            let set = set.map(|set| set.name.to_string()).unwrap_or_default();
            let shown = format!("sha256/{shown}");
            return Err(PublishError::NotServed { set, host: host.host.clone(), shown });
        }
        for pin in &mut host.pins {
            match (pin.spki_sha256 == shown, pin.role) {
                (true, _) => (pin.role, pin.exp) = (Role::Current, None),
                (false, Role::Current) => (pin.role, pin.exp) = (Role::Backup, Some(end)),
                (false, _) => {}
            }
        }
    }
    Ok(hosts)
}

/// The key a host shows now.
pub(super) fn current(set: &PinSet, facts: &Facts<'_>) -> Result<PinHash, PublishError> {
    let (name, host) = (|| set.name.clone(), || set.host.clone());
    let here = facts.shown.filter(|shown| shown.covers(&set.host));
    if here.is_some_and(|shown| !shown.names.in_date(facts.now)) {
        return Err(PublishError::Certificate { host: host() });
    }
    match (set.current, facts.shown, here) {
        (Some(said), _, Some(shown)) if *said.as_bytes() != shown.pin => {
            let shown = PinHash::new(shown.pin).to_string();
            Err(PublishError::NotServed { set: set.name.to_string(), host: host(), shown })
        }
        (Some(said), _, _) => Ok(said),
        (None, _, Some(shown)) => Ok(PinHash::new(shown.pin)),
        (None, Some(_), None) => Err(PublishError::OtherHost { set: name(), host: host() }),
        (None, None, None) => Err(PublishError::NoCurrent { set: name(), host: host() }),
    }
}

/// The key a host will show.
pub(super) fn next(set: &PinSet) -> Result<Option<PinHash>, PublishError> {
    match (&set.next, &set.next_file) {
        (Some(next), _) => Ok(Some(*next)),
        (None, Some(file)) => of_file(file).map(Some),
        (None, None) => Ok(None),
    }
}

/// Keys a host may show when the others are lost.
pub(super) fn backups(set: &PinSet) -> Result<Vec<PinHash>, PublishError> {
    let mut found = set.backup.clone();
    for file in &set.backup_files {
        found.push(of_file(file)?);
    }
    Ok(found)
}

fn of_file(path: &Path) -> Result<PinHash, PublishError> {
    let failed = |why: String| PublishError::KeyFile { path: path.display().to_string(), why };
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > MAX_PEM_LEN as u64 {
        return Err(failed("it is too long".to_owned()));
    }
    let text = base::Secret::new(std::fs::read(path).map_err(|error| failed(error.to_string()))?);
    pin_of_pem(text.expose()).map(PinHash::new).map_err(|error| failed(error.to_string()))
}

/// Keys to be dropped, as they are written.
pub(super) fn dropped(texts: &[String]) -> Result<Vec<PinHash>, OperationError> {
    let read = |text: &String| {
        text.parse().map_err(|error: config::ValueError| OperationError::value("drop", error.to_string()))
    };
    texts.iter().map(read).collect()
}

/// Until when a configuration made now counts: never longer than the key may sign.
pub(super) fn end(config: &Config, now: Timestamp, delegated: Timestamp) -> Result<Timestamp, PublishError> {
    let end = now.plus(config.app_config.lifetime.duration()).min(delegated);
    if end < now.plus(SHORTEST) {
        return Err(PublishError::DelegationEnded(delegated.rfc3339()));
    }
    Ok(end)
}

/// Where things are.
pub(super) fn endpoints(external: &str, app: &Name) -> BTreeMap<String, String> {
    let base = external.trim_end_matches('/');
    let text = |name: &str, url: String| (name.to_owned(), url);
    BTreeMap::from([
        text("api", base.to_owned()),
        text("attest", format!("{base}/attest/v1")),
        // Of what a name may hold only the slash means something in a path.
        text("config", format!("{base}/.well-known/gateway-config/{}", app.as_str().replace('/', "%2F"))),
    ])
}

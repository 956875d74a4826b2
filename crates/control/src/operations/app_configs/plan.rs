//! The timetable of key changes: what is safe to do today, what is not, and when it will be.
//!
//! An app goes by the last configuration it fetched until that has expired, and for `[app_config] offline` longer. So a host may
//! show a key once no configuration can be in use that does not name it: publish the next key, wait, switch, wait, drop the old one.

use base::{Name, Timestamp};
use config::{Config, PinHash, PinSet};
use proof::app_config::{AppConfig, pin_text};
use schemars::JsonSchema;
use serde::Serialize;
use store::ConfigKeyState;

use super::build::{self, Facts};
use super::{Certificate, payload};
use crate::operations::{OperationError, Operations};

/// The timetable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CertPlan {
    /// When it was made (RFC 3339).
    pub at: String,
    /// How long apps may go by what they were told: `lifetime` and `offline` together, in seconds.
    pub hold: u64,
    /// Whether nothing is wrong today.
    pub ok: bool,
    /// What the public listener shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<ShownCertificate>,
    /// Until when the configuration key may sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegated_until: Option<String>,
    /// The pinned hosts.
    pub hosts: Vec<HostPlan>,
}

/// A certificate that is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ShownCertificate {
    /// The pin of its key.
    pub pin: String,
    /// The hosts it is for.
    pub hosts: Vec<String>,
    /// The last second it is valid (RFC 3339).
    pub ends: String,
}

/// The timetable of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostPlan {
    /// The pin set.
    pub name: String,
    /// The host.
    pub host: String,
    /// The apps that are told.
    pub apps: Vec<String>,
    /// Its keys.
    pub keys: Vec<KeyPlan>,
    /// What to do, in order.
    pub steps: Vec<PlanStep>,
}

/// What a key may be used for, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyPlan {
    /// `sha256/` and base64.
    pub pin: String,
    /// `current`, `next`, `backup`, or `previous`: was current and is still told of.
    pub role: &'static str,
    /// Whether every app is told of it now.
    pub published: bool,
    /// From when on no app can be going by a configuration that does not name it (RFC 3339). Absent while it is not published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe_from: Option<String>,
    /// Whether the host may show it now.
    pub safe: bool,
    /// When apps are no longer told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PlanStep {
    /// `repair`, `make_next`, `publish`, `wait`, `switch`, `renew`, `drop` or `delegate`.
    pub step: &'static str,
    /// Whether it can be done today.
    pub safe: bool,
    /// From when on it can (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What to do, in a sentence.
    pub text: String,
}

/// From when on a key may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Safe {
    /// Never, as things are: an app is not told of it.
    NotTold,
    /// From this moment on, because of the configuration of that number.
    From(Timestamp, u64),
    /// It always was.
    Always,
}

impl Safe {
    fn by(self, now: Timestamp) -> bool {
        match self {
            Self::NotTold => false,
            Self::From(moment, _) => moment <= now,
            Self::Always => true,
        }
    }

    fn latest(self, other: Self) -> Self {
        match (self, other) {
            (Self::NotTold, _) | (_, Self::NotTold) => Self::NotTold,
            (Self::Always, other) | (other, Self::Always) => other,
            (Self::From(a, _), Self::From(b, _)) => {
                if a >= b {
                    self
                } else {
                    other
                }
            }
        }
    }
}

/// What one app was told, oldest first; only what it may still go by.
struct Told {
    configs: Vec<AppConfig>,
}

impl Told {
    /// From when on this app accepts a key of a host.
    fn safe(&self, host: &str, pin: &str, config: &Config) -> Safe {
        let lacks = |told: &&AppConfig| {
            let pinned = told.hosts.iter().find(|known| known.host == host).filter(|_| !told.kill.pinning);
            pinned.is_some_and(|known| known.pins.iter().all(|known| known.spki_sha256 != pin))
        };
        if self.configs.last().is_none_or(|last| lacks(&last)) {
            return Safe::NotTold;
        }
        let offline = config.app_config.offline.duration();
        let last = self.configs.iter().filter(lacks).max_by_key(|told| told.exp);
        last.map_or(Safe::Always, |told| Safe::From(Timestamp::from_secs(told.exp).plus(offline), told.seq))
    }

    /// Whether it is told to compare keys of a host.
    fn pins(&self, host: &str) -> bool {
        self.configs.last().is_some_and(|last| last.hosts.iter().any(|known| known.host == host))
    }
}

impl Operations {
    /// The timetable of key changes.
    pub async fn cert_plan(&self) -> Result<CertPlan, OperationError> {
        let config = self.current_config().await?;
        let now = self.clock.now();
        let since = now.minus(config.app_config.offline.duration());
        let mut told: Vec<(Name, Told)> = Vec::new();
        for stored in self.store.app_configs().since(since).await? {
            let payload = payload(&stored)?;
            match told.last_mut() {
                Some((app, all)) if *app == stored.app => all.configs.push(payload),
                _ => told.push((stored.app, Told { configs: vec![payload] })),
            }
        }
        let keys = self.store.app_configs().keys().await?;
        let active = keys.iter().find(|key| key.state == ConfigKeyState::Active);
        let delegated = active.and_then(|key| key.delegation.as_ref()).map(|delegation| delegation.until);
        let shown = self.shown(&config);
        let facts = Facts { config: &config, shown: shown.as_ref(), now };
        let hosts: Vec<HostPlan> = config.pins.iter().map(|set| host_plan(&facts, set, &told, delegated)).collect();
        let wrong = |step: &PlanStep| step.step == "repair";
        Ok(CertPlan {
            at: now.rfc3339(),
            hold: build::hold(&config).as_secs(),
            ok: !hosts.iter().flat_map(|host| &host.steps).any(wrong),
            certificate: shown.as_ref().map(certificate),
            delegated_until: delegated.map(Timestamp::rfc3339),
            hosts,
        })
    }
}

fn certificate(shown: &Certificate) -> ShownCertificate {
    let ips = shown.names.ip().iter().map(ToString::to_string);
    ShownCertificate {
        pin: PinHash::new(shown.pin).to_string(),
        hosts: shown.names.dns().iter().cloned().chain(ips).collect(),
        ends: shown.names.not_after().rfc3339(),
    }
}

fn host_plan(facts: &Facts<'_>, set: &PinSet, told: &[(Name, Told)], delegated: Option<Timestamp>) -> HostPlan {
    let mine: Vec<&(Name, Told)> =
        told.iter().filter(|(app, _)| set.apps.is_empty() || set.apps.contains(app)).collect();
    let safe = |pin: &PinHash| {
        let text = pin_text(pin.as_bytes());
        let all = mine.iter().map(|(_, told)| told.safe(&set.host, &text, facts.config));
        if mine.is_empty() { Safe::NotTold } else { all.fold(Safe::Always, Safe::latest) }
    };
    let (current, next) = (build::current(set, facts), build::next(set));
    let mut keys = Vec::new();
    let mut add = |pin: PinHash, role: &'static str, dropped: Option<i64>| {
        let (safe, text) = (safe(&pin), pin.to_string());
        if keys.iter().any(|known: &KeyPlan| known.pin == text) {
            return;
        }
        let safe_from = match safe {
            Safe::NotTold => None,
            Safe::From(moment, _) => Some(moment.rfc3339()),
            Safe::Always => Some(facts.now.rfc3339()),
        };
        let dropped_at = dropped.map(|end| Timestamp::from_secs(end).rfc3339());
        keys.push(KeyPlan {
            pin: text,
            role,
            published: safe != Safe::NotTold,
            safe_from,
            safe: safe.by(facts.now),
            dropped_at,
        });
    };
    if let Ok(current) = &current {
        add(*current, "current", None);
    }
    if let Ok(Some(next)) = &next {
        add(*next, "next", None);
    }
    for backup in build::backups(set).unwrap_or_default() {
        add(backup, "backup", None);
    }
    for pin in mine.iter().filter_map(|(_, told)| told.configs.last()).flat_map(|last| &last.hosts) {
        for pin in pin.pins.iter().filter(|_| pin.host == set.host) {
            if let Ok(hash) = format!("sha256/{}", pin.spki_sha256).parse() {
                add(hash, if pin.exp.is_some() { "previous" } else { pin.role.as_str() }, pin.exp);
            }
        }
    }
    let ends = facts.shown.filter(|shown| shown.covers(&set.host)).map(|shown| shown.names.not_after());
    let look = Look { now: facts.now, set, ends, delegated, pinned: mine.iter().any(|(_, told)| told.pins(&set.host)) };
    let steps = match (current, next) {
        (Ok(current), Ok(next)) => {
            let next = next.filter(|next| *next != current).map(|next| safe(&next));
            look.steps(safe(&current), next, &keys)
        }
        (Err(error), _) | (_, Err(error)) => {
            vec![PlanStep { step: "repair", safe: true, from: None, text: error.to_string() }]
        }
    };
    HostPlan {
        name: set.name.to_string(),
        host: set.host.clone(),
        apps: mine.iter().map(|(app, _)| app.to_string()).collect(),
        keys,
        steps,
    }
}

/// What the steps of a host depend on.
struct Look<'a> {
    now: Timestamp,
    set: &'a PinSet,
    /// When the certificate that is shown ends.
    ends: Option<Timestamp>,
    delegated: Option<Timestamp>,
    /// Whether an app compares its keys.
    pinned: bool,
}

impl Look<'_> {
    fn steps(&self, current: Safe, next: Option<Safe>, keys: &[KeyPlan]) -> Vec<PlanStep> {
        let host = &self.set.host;
        let mut steps = Vec::new();
        let mut add = |step: &'static str, from: Option<Timestamp>, text: String| {
            let safe = from.is_none_or(|from| from <= self.now);
            steps.push(PlanStep { step, safe, from: from.map(Timestamp::rfc3339), text });
        };
        match current {
            Safe::NotTold if self.pinned => add(
                "repair",
                None,
                format!(
                    "apps refuse {host}: it shows a key they are not told of. Show one of the others, or publish: vouchgate pins publish"
                ),
            ),
            Safe::From(moment, seq) if moment > self.now => add(
                "repair",
                None,
                format!(
                    "apps that last fetched configuration {seq} or an older one refuse {host} until they fetch a newer one, at most until \
                     {}",
                    moment.rfc3339()
                ),
            ),
            _ => {}
        }
        match next {
            None => add(
                "make_next",
                None,
                format!("make the key that follows, keep it safe, and name it in the pin set {}", self.set.name),
            ),
            Some(Safe::NotTold) => {
                add("publish", None, "tell apps of the next key: vouchgate pins publish".to_owned());
            }
            Some(Safe::From(moment, seq)) if moment > self.now => {
                let until = moment.rfc3339();
                add(
                    "wait",
                    None,
                    format!(
                        "show the current key until {until}: apps may still go by configuration {seq}, which does not name the next one"
                    ),
                );
                add("switch", Some(moment), self.switch());
            }
            Some(Safe::From(..) | Safe::Always) => add("switch", None, self.switch()),
        }
        if let Some(ends) = self.ends {
            let late = match next {
                Some(Safe::From(moment, _)) => ends <= moment,
                Some(Safe::Always) => false,
                Some(Safe::NotTold) | None => true,
            };
            if late && ends < self.now.plus(std::time::Duration::from_hours(30 * 24)) {
                add(
                    "renew",
                    None,
                    format!(
                        "the certificate ends {}, before another key may be shown: renew it with the same key (certbot: reuse_key)",
                        ends.rfc3339()
                    ),
                );
            }
        }
        for key in keys.iter().filter(|key| key.role == "previous") {
            let when = key.dropped_at.as_deref().and_then(Timestamp::parse_rfc3339);
            let pin = &key.pin;
            add(
                "drop",
                when,
                format!("apps are told of the old key {pin} until then, by itself; afterwards it may be destroyed"),
            );
        }
        if let Some(until) =
            self.delegated.filter(|until| *until < self.now.plus(std::time::Duration::from_hours(30 * 24)))
        {
            let until = until.rfc3339();
            add(
                "delegate",
                None,
                format!("the configuration key may sign until {until}: have a root key vouch for a new one"),
            );
        }
        steps
    }

    fn switch(&self) -> String {
        format!(
            "install the next key with its certificate for {} and reload; then make a new next key and publish",
            self.set.host
        )
    }
}

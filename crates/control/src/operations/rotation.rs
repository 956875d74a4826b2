//! How old every key is, in which state, and what is due: one list for all of them.

mod outside;

use std::collections::HashMap;
use std::time::Duration;

use base::{Name, Timestamp};
use config::{ClientAuth, Config, SecretRef};
use schemars::JsonSchema;
use serde::Serialize;
use store::{ConfigKeyState, KeyState, Page, SecretVersion, Slot};

pub use self::outside::first_certificate;
use super::{OperationError, Operations, uses};

/// A delegation of a configuration key that ends sooner is to be renewed.
const DELEGATION_SOON: Duration = Duration::from_hours(30 * 24);

/// Kinds of keys that are found in files and in the environment: since when they are known is kept in the store.
pub mod known {
    /// Keys of providers and other secrets that are not in the vault: by the place in the configuration.
    pub const REFERRED: &str = "referred";
    /// Clients' secrets that the configuration file has the hash of: by the client's name.
    pub const CLIENT: &str = "client";
    /// Root keys of what apps are told: by the file's path.
    pub const ROOT: &str = "root";
    /// The vault's master keys: by their id.
    pub const VAULT: &str = "vault";
    /// The key of an audit log: by the log's name.
    pub const AUDIT: &str = "audit";
}

/// A key, as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RotationView {
    /// What it is: `provider key`, `upstream key`, `issuer secret`, `webhook secret`, `secret`, `runtime secret`, `client secret`, `signing key`, `configuration key`, `root key`, `nonce key`, `vault key`, `audit key`, `certificate`.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// `current`, `next`, `old`, `retiring`.
    pub state: &'static str,
    /// Since when it is what it is (RFC 3339), where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// How many whole days that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_days: Option<u64>,
    /// How many days old it may grow; absent: as old as it likes, or it is replaced by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_days: Option<u64>,
    /// When it ends or is forgotten (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    /// Whether something is to be done now.
    pub due: bool,
    /// What can be done, or is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
    /// The secret of the vault that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Whether it is older than it may grow.
    #[serde(skip)]
    #[schemars(skip)]
    pub too_old: bool,
    /// In seconds, for metrics.
    #[serde(skip)]
    #[schemars(skip)]
    pub age: Option<Duration>,
}

impl RotationView {
    /// A key of this kind and name in this state.
    pub fn new(kind: &'static str, name: impl Into<String>, state: &'static str) -> Self {
        Self {
            kind,
            name: name.into(),
            state,
            since: None,
            age_days: None,
            limit_days: None,
            ends_at: None,
            due: false,
            todo: None,
            secret: None,
            too_old: false,
            age: None,
        }
    }

    /// Since when it is what it is.
    #[must_use]
    pub fn since(mut self, since: Option<Timestamp>, now: Timestamp) -> Self {
        let age = since.map(|since| now.since(since));
        self.since = since.map(Timestamp::rfc3339);
        (self.age, self.age_days) = (age, age.map(days));
        self
    }

    /// How old it may grow: older, something is due.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit_days = Some(days(limit));
        self.too_old = self.age.is_some_and(|age| age > limit);
        self.due |= self.too_old;
        self
    }

    /// When it ends.
    #[must_use]
    pub fn ends(mut self, end: Option<Timestamp>) -> Self {
        self.ends_at = end.map(Timestamp::rfc3339);
        self
    }

    /// What can be done, or is due.
    #[must_use]
    pub fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo = Some(todo.into());
        self
    }

    /// Something is to be done now, whatever its age.
    #[must_use]
    pub const fn due(mut self, due: bool) -> Self {
        self.due |= due;
        self
    }
}

const fn days(age: Duration) -> u64 {
    age.as_secs() / 86_400
}

impl Operations {
    /// Every key, by kind.
    pub async fn rotation_list(&self) -> Result<Vec<RotationView>, OperationError> {
        let config = self.current_config().await?;
        let mut all = self.rotation_secrets(&config).await?;
        all.extend(self.rotation_runtime(&config).await?);
        all.extend(self.rotation_clients(&config).await?);
        all.extend(self.rotation_signing(&config).await?);
        all.extend(self.rotation_config_keys(&config).await?);
        all.extend(self.rotation_nonces());
        all.extend(self.rotation_vault(&config).await?);
        all.extend(self.rotation_roots(&config).await?);
        all.extend(self.rotation_audit(&config).await?);
        all.extend(outside::certificates(&config, self.clock.now()));
        Ok(all)
    }

    /// Keys of providers, and whatever else is a secret somewhere.
    async fn rotation_secrets(&self, config: &Config) -> Result<Vec<RotationView>, OperationError> {
        let limit = config.rotation.secrets.duration();
        let known = self.store.known_keys().of_kind(known::REFERRED).await?;
        let mut all = Vec::new();
        for provider in &config.providers {
            for key in provider.key_refs() {
                let name = format!("{}/{}", provider.name, key.name);
                let place = format!("provider.{}.{}", provider.name, key.path);
                self.of_reference(
                    ("provider key", &name),
                    (key.reference, &place, Slot::Current),
                    (&known, limit),
                    &mut all,
                )
                .await?;
                if let Some(next) = key.next {
                    let place = format!("provider.{}.{}", provider.name, key.path.replace("api_key", "next_api_key"));
                    self.of_reference(("provider key", &name), (next, &place, Slot::Next), (&known, limit), &mut all)
                        .await?;
                }
            }
        }
        for used in uses(config) {
            let is_key = |provider: &config::Provider| {
                let mut keys = provider.key_refs().into_iter();
                keys.any(|key| key.reference == used.reference || key.next == Some(used.reference))
            };
            if used.kind == "provider" && config.providers.iter().any(|p| p.name == *used.by && is_key(p)) {
                continue;
            }
            let (kind, name) = match used.kind {
                "upstream" => ("upstream key", used.by.to_string()),
                "issuer" => ("issuer secret", used.by.to_string()),
                "webhook" => ("webhook secret", used.by.to_string()),
                other => ("secret", format!("{other} {}", used.by)),
            };
            let slot = if used.next { Slot::Next } else { Slot::Current };
            let (place, limit) = (used.place(), config.rotation.secrets_of(used.kind));
            self.of_reference((kind, &name), (used.reference, &place, slot), (&known, limit), &mut all).await?;
        }
        // Those that nothing names yet, or any more.
        let mut page = Page { after: None, limit: 200 };
        loop {
            let listed = self.store.secrets().list(&page).await?;
            for version in listed.items {
                if !all.iter().any(|row| row.secret.as_deref() == Some(version.name.as_str())) {
                    let name = version.name.clone();
                    all.push(of_version(("secret", name.as_str()), &name, &version, (self.clock.now(), limit)));
                }
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(all)
    }

    async fn of_reference(
        &self,
        (kind, name): (&'static str, &str),
        (reference, place, slot): (&SecretRef, &str, Slot),
        (known, limit): (&HashMap<String, Timestamp>, Duration),
        all: &mut Vec<RotationView>,
    ) -> Result<(), OperationError> {
        let now = self.clock.now();
        let SecretRef::Secret(secret) = reference else {
            let row = RotationView::new(kind, name, slot.as_str()).since(known.get(place).copied(), now);
            all.push(match slot {
                Slot::Next => row.todo("put it in the place of the one it follows once that one is not needed, and reload"),
                _ => row
                    .limit(limit)
                    .todo("give its successor where it is written (first as next_api_key, next_value or next_hs256_secret, where there is one), and reload"),
            });
            return Ok(());
        };
        let versions = self.store.secrets().versions(secret).await?;
        if versions.is_empty() {
            let missing = RotationView::new(kind, name, "current").due(true);
            all.push(missing.todo(format!("vouchgate secret set {secret} < key.txt")));
        }
        all.extend(versions.iter().map(|version| of_version((kind, name), secret, version, (now, limit))));
        Ok(())
    }

    /// Runtime secrets: of each the version in force, what comes next, and what is known still.
    async fn rotation_runtime(&self, config: &Config) -> Result<Vec<RotationView>, OperationError> {
        let (now, limit) = (self.clock.now(), config.rotation.secrets_of("runtime"));
        let kept = self.store.runtime_secrets().kept().await?;
        let in_force = |name: &Name| {
            let of = kept.iter().filter(|version| version.name == *name && version.holds(now));
            of.map(|version| version.version).max()
        };
        let of = |version: &store::RuntimeVersion| {
            let name = version.name.as_str();
            let row = |state| RotationView::new("runtime secret", name, state).ends(version.not_after);
            if version.sealed.is_none() || version.not_after.is_some_and(|end| end <= now) {
                return None;
            }
            Some(if version.not_before > now {
                let from = version.not_before.rfc3339();
                row("next").since(Some(version.created_at), now).todo(format!("in force by itself from {from}"))
            } else if in_force(&version.name) == Some(version.version) {
                let row = row("current").since(Some(version.not_before), now).limit(limit);
                row.todo(format!("vouchgate secret runtime rotate {name} < new-value.txt"))
            } else {
                let row = row("old").since(Some(version.not_before), now);
                row.todo(format!("by itself; sooner: vouchgate secret runtime retire {name}"))
            })
        };
        Ok(kept.iter().filter_map(of).collect())
    }

    /// Secrets of clients.
    async fn rotation_clients(&self, config: &Config) -> Result<Vec<RotationView>, OperationError> {
        let (now, limit) = (self.clock.now(), config.rotation.client_secrets.duration());
        let known = self.store.known_keys().of_kind(known::CLIENT).await?;
        let mut all = Vec::new();
        for client in &config.clients {
            if matches!(client.auth, Some(ClientAuth::ClientSecret { .. })) {
                let row = RotationView::new("client secret", client.name.as_str(), "current");
                let row = row.since(known.get(client.name.as_str()).copied(), now).limit(limit);
                all.push(row.todo("vouchgate client hash, write the hash into the configuration, and reload"));
            }
        }
        let mut page = Page { after: None, limit: 200 };
        loop {
            let listed = self.store.clients().list(&page).await?;
            for client in listed.items {
                let live = client.secrets.iter().filter(|secret| secret.expires_at.is_none_or(|end| now < end));
                let newest = live.clone().map(|secret| secret.created_at).max();
                for secret in live {
                    let old = Some(secret.created_at) != newest;
                    let row =
                        RotationView::new("client secret", client.name.as_str(), if old { "old" } else { "current" });
                    let row = row.since(Some(secret.created_at), now).ends(secret.expires_at);
                    all.push(if old {
                        row
                    } else {
                        row.limit(limit).todo(format!("vouchgate client rotate {}", client.name))
                    });
                }
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// Our signing keys: they change by themselves.
    async fn rotation_signing(&self, config: &Config) -> Result<Vec<RotationView>, OperationError> {
        let (now, lifetime) = (self.clock.now(), config.token.key_lifetime.duration());
        let keys = self.store.signing_keys().list().await?;
        let of = |key: &store::SigningKey| {
            let (state, since) = match key.state {
                KeyState::Next => ("next", Some(key.created_at)),
                KeyState::Active => ("current", key.activated_at),
                KeyState::Retiring => ("retiring", key.activated_at),
                KeyState::Gone => return None,
            };
            let row = RotationView::new("signing key", key.kid.as_str(), state).since(since, now).ends(key.expires_at);
            Some(match key.state {
                // Twice as old as it should be: what changes it does not work.
                KeyState::Active => {
                    row.limit(lifetime.saturating_mul(2)).todo("by itself; sooner: vouchgate key rotate")
                }
                KeyState::Next => row.todo(format!("signs by itself from {}", key.not_before.rfc3339())),
                _ => row,
            })
        };
        Ok(keys.iter().filter_map(of).collect())
    }

    /// The keys that sign what apps are told.
    async fn rotation_config_keys(&self, config: &Config) -> Result<Vec<RotationView>, OperationError> {
        let (now, limit) = (self.clock.now(), config.rotation.config_keys.duration());
        let of = |key: store::ConfigKey| {
            let state = match key.state {
                ConfigKeyState::Next => "next",
                ConfigKeyState::Active => "current",
                ConfigKeyState::Gone => return None,
            };
            let until = key.delegation.map(|delegation| delegation.until);
            let row = RotationView::new("configuration key", key.kid, state).ends(until);
            Some(match key.state {
                ConfigKeyState::Active => {
                    let soon = until.is_some_and(|until| until < now.plus(DELEGATION_SOON));
                    let row = row.since(key.activated_at.or(Some(key.created_at)), now).limit(limit).due(soon);
                    row.todo("vouchgate pins key, and with the root key: pins delegate, pins accept")
                }
                _ => row.since(Some(key.created_at), now).todo("vouchgate pins delegate, then pins accept"),
            })
        };
        Ok(self.store.app_configs().keys().await?.into_iter().filter_map(of).collect())
    }

    fn rotation_nonces(&self) -> [RotationView; 2] {
        let attest = RotationView::new("nonce key", "attest", "current")
            .todo("with the vault's master key; nonces of the one before count still");
        let row = RotationView::new("nonce key", "dpop", "current");
        let dpop = row.todo(if self.store.is_shared() {
            "by itself: nonces change every few minutes; their key is that of the vault's first master key"
        } else {
            "by itself: nonces change every few minutes; their key is made at each start"
        });
        [attest, dpop]
    }
}

fn of_version(
    (kind, name): (&'static str, &str),
    secret: &Name,
    version: &SecretVersion,
    (now, limit): (Timestamp, Duration),
) -> RotationView {
    let row = RotationView::new(kind, name, version.slot.as_str()).ends(version.retire_at);
    let mut row = row.since(version.activated_at.or(Some(version.created_at)), now);
    row.secret = Some(secret.to_string());
    match version.slot {
        Slot::Current => row.limit(limit).todo(format!("vouchgate secret rotate {secret} < new-key.txt")),
        Slot::Next => row.todo(format!("vouchgate secret activate {secret}")),
        Slot::Old => row.todo(format!("by itself; sooner: vouchgate secret retire {secret}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use http::Method;
    use serde_json::json;

    #[tokio::test]
    async fn every_key_is_listed_with_its_age_and_what_is_due() {
        let toml = "[rotation]\nsecrets = \"30d\"\n[[provider]]\nname = \"a\"\nkind = \"openai\"\napi_key = { secret = \"one\" }\n\
                    [[provider]]\nname = \"b\"\nkind = \"openai\"\napi_key = { env = \"B\" }\nnext_api_key = { env = \"B2\" }\n";
        let fixture = Fixture::with(toml).await;
        let set =
            async |name: &str, body| fixture.owner(Method::PUT, &format!("/admin/v1/secrets/{name}"), Some(body)).await;
        set("one", json!({ "value": "first" })).await;
        set("spare", json!({ "value": "x", "origin": "https://a.example" })).await;
        fixture.owner(Method::POST, "/admin/v1/secrets/one/rotate", Some(json!({ "value": "second" }))).await;
        let known_keys = fixture.operations.store().known_keys();
        known_keys.seen(known::REFERRED, "provider.b.api_key", &[[1; 32]]).await.unwrap();
        let rows = async || {
            let rows = fixture.operations.rotation_list().await.unwrap();
            let keys = rows.into_iter().filter(|row| ["provider key", "secret", "signing key"].contains(&row.kind));
            keys.map(|row| (row.kind, row.name, row.state, row.age_days, row.due)).collect::<Vec<_>>()
        };
        let found = rows().await;
        let row = |name: &str, state, age, due| ("provider key", name.to_owned(), state, age, due);
        assert_eq!(
            found[..4],
            [
                row("a/default", "current", Some(0), false),
                row("a/default", "old", Some(0), false),
                row("b/default", "current", Some(0), false),
                row("b/default", "next", None, false),
            ]
        );
        assert_eq!(found[4], ("secret", "spare".to_owned(), "current", Some(0), false));
        assert_eq!((found[5].0, found[5].2), ("signing key", "current"));
        fixture.clock.advance(Duration::from_hours(31 * 24));
        let found = rows().await;
        assert_eq!(
            found[..3],
            [
                row("a/default", "current", Some(31), true),
                row("b/default", "current", Some(31), true),
                row("b/default", "next", None, false),
            ],
            "the old one's time is over, and the current ones are old"
        );
        let shown = fixture.owner(Method::GET, "/admin/v1/rotation", None).await.json();
        assert_eq!(shown["items"][0]["todo"], "vouchgate secret rotate one < new-key.txt");
    }
}

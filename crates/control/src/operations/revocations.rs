//! Revocation: tokens that end before their time. What is revoked is on the disk and in force before anybody is told.

use std::time::Duration;

use base::{Name, Timestamp};
use proof::jose::{JsonObject, parse_compact};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{NewRevocation, OWN_ISSUER, Page, Revocation, Revoke, StoreError};

use super::clients::MAX_TTL;
use super::{Listed, OperationError, Operations};

/// The longest value and reason, in bytes.
const MAX_VALUE: usize = 1024;
const MAX_REASON: usize = 256;

/// How much longer a revocation is remembered than the last token it is about is valid, since clocks differ.
const MARGIN: Duration = Duration::from_hours(1);

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationKind {
    /// One token, by its `jti`, or the token itself.
    Token,
    /// A subject.
    Subject,
    /// A client.
    Client,
    /// A device (`device_id`).
    Device,
    /// A session (`sid`).
    Session,
    /// Whatever a key has signed or will sign, by its `kid`.
    Key,
    /// All tokens of an issuer.
    Issuer,
    /// All tokens.
    Everything,
}

/// A revocation asked for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRevocation {
    /// What is revoked.
    pub kind: RevocationKind,
    /// The configured name of the issuer of the tokens. Absent: `vouchgate`, which is ourselves. A subject, session or
    /// device of another issuer takes the tokens along that we made for it.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Which: the `jti`, `sub`, `client_id`, `device_id`, `sid` or `kid`. None of an issuer and of everything.
    #[serde(default)]
    pub value: Option<String>,
    /// The token itself, in place of issuer and value: an access token, or a refresh token of ours.
    #[serde(default)]
    pub token: Option<String>,
    /// Revoke what was issued before this moment: how long ago (`24h`), a moment (RFC 3339), or seconds since 1970. Absent: up to now. Not for
    /// tokens and keys, which no time makes valid.
    #[serde(default)]
    pub before: Option<String>,
    /// Why, for the record.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A revocation as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RevocationView {
    /// Its number.
    pub id: u64,
    /// What is revoked.
    pub kind: &'static str,
    /// The issuer it names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// What of the issuer it names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// What was issued before this moment is refused (RFC 3339). Absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// When it was revoked (RFC 3339).
    pub at: String,
    /// Who revoked.
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it is forgotten, since no token it is about is valid then (RFC 3339). Absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten_at: Option<String>,
    /// Since when it is lifted (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifted_at: Option<String>,
    /// Who lifted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifted_by: Option<String>,
}

impl Operations {
    /// Revoke. When this returns it is on the disk and in force, also for tokens that were verified before.
    pub async fn revoke(&self, asked: &CreateRevocation, by: &str) -> Result<RevocationView, OperationError> {
        let reason = asked.reason.clone().unwrap_or_default();
        if reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
            return Err(OperationError::value("reason", "at most 256 bytes of text on one line"));
        }
        let (what, until) = match &asked.token {
            Some(token) => self.named_by_token(asked, token).await?,
            None => (self.named(asked).await?, None),
        };
        let not_before = self.before(asked, &what)?;
        let expires_at = match until {
            Some(until) => Some(until),
            None => self.remembered_until(&what, not_before).await?,
        };
        let new = NewRevocation { what, not_before, expires_at, by: by.to_owned(), reason };
        let entry = self.store.revocations().revoke(new).await?;
        audit(&entry);
        self.audit.noted(revoked("token.revoked", &entry)).await;
        Ok(view(&entry))
    }

    /// Revoke what an event of another party says, or what we found out ourselves. Of what the same one says of the same
    /// thing again and again, the last is kept.
    pub(crate) async fn revoke_now(
        &self,
        what: Vec<Revoke>,
        (not_before, by): (Timestamp, &str),
        reason: &str,
    ) -> Result<(), OperationError> {
        let mut all = Vec::new();
        for what in what {
            let expires_at = self.remembered_until(&what, not_before).await?;
            all.push(NewRevocation { what, not_before, expires_at, by: by.to_owned(), reason: reason.to_owned() });
        }
        self.store.revocations().revoke_anew(all).await?.iter().for_each(audit);
        Ok(())
    }

    /// Revocations, newest first.
    pub async fn revocation_list(&self, page: &Page) -> Result<Listed<RevocationView>, OperationError> {
        let listed = self.store.revocations().list(page).await?;
        Ok(Listed { items: listed.items.iter().map(view).collect(), next: listed.next })
    }

    /// Lift a revocation: tokens from before it count again, where no other reaches them. Refresh tokens stay ended.
    pub async fn revocation_lift(&self, id: &str, by: &str) -> Result<RevocationView, OperationError> {
        let missing = || OperationError::NotFound { kind: "revocation that can be lifted", name: id.to_owned() };
        let seq = id.parse().map_err(|_| missing())?;
        let entry = match self.store.revocations().lift(seq, by).await {
            Err(StoreError::Missing(_)) => return Err(missing()),
            other => other?,
        };
        tracing::info!(target: "audit", by, id = entry.seq, kind = entry.what.kind(), "revocation lifted");
        self.audit.noted(revoked("revocation.lifted", &entry).with("lifted_by", by)).await;
        Ok(view(&entry))
    }

    /// What issuer and value name.
    async fn named(&self, asked: &CreateRevocation) -> Result<Revoke, OperationError> {
        use RevocationKind as Kind;
        let issuer = self.issuer_named(asked.issuer.as_deref()).await?;
        let value = || match asked.value.as_deref() {
            Some(value) if !value.is_empty() && value.len() <= MAX_VALUE && !value.chars().any(char::is_control) => {
                Ok(value.to_owned())
            }
            _ => Err(OperationError::value("value", "say which, in at most 1024 bytes without control characters")),
        };
        let what = match asked.kind {
            Kind::Token => Revoke::Token { issuer, jti: value()? },
            Kind::Subject => Revoke::Subject { issuer, subject: value()? },
            Kind::Client => Revoke::Client { issuer, client: value()? },
            Kind::Device => Revoke::Device { issuer, device: value()? },
            Kind::Session => Revoke::Session { issuer, session: value()? },
            Kind::Key if issuer == OWN_ISSUER => {
                return Err(OperationError::value(
                    "kind",
                    "a key of ours is revoked by rotating it: key rotate --compromised KID",
                ));
            }
            Kind::Key => Revoke::Key { issuer, kid: value()? },
            Kind::Issuer if asked.value.is_none() => Revoke::Issuer { issuer },
            Kind::Everything if asked.value.is_none() && asked.issuer.is_none() => Revoke::Everything,
            Kind::Issuer | Kind::Everything => {
                return Err(OperationError::value("value", "all of an issuer, and everything, have no value"));
            }
        };
        Ok(what)
    }

    /// The issuer of that name, which must be known: a misspelt one would revoke nothing and say that it had.
    async fn issuer_named(&self, name: Option<&str>) -> Result<String, OperationError> {
        let Some(name) = name.filter(|name| *name != OWN_ISSUER) else { return Ok(OWN_ISSUER.to_owned()) };
        let in_file = self.file().issuers.iter().any(|issuer| issuer.name.as_str() == name);
        let stored = match Name::new(name) {
            Ok(name) if !in_file => self.store.resources().get("issuer", &name).await?.is_some(),
            _ => false,
        };
        if in_file || stored {
            Ok(name.to_owned())
        } else {
            Err(OperationError::value("issuer", format!("no issuer is named {name} in the configuration")))
        }
    }

    /// What a token names, and until when that matters. The token is not verified: whoever may revoke may revoke any.
    async fn named_by_token(
        &self,
        asked: &CreateRevocation,
        token: &str,
    ) -> Result<(Revoke, Option<Timestamp>), OperationError> {
        if asked.kind != RevocationKind::Token || asked.issuer.is_some() || asked.value.is_some() {
            return Err(OperationError::value("token", "a token itself goes with the kind token, and alone"));
        }
        if let Some(found) = self.refresh_token_find(token).await? {
            let session = found.family.session.clone().ok_or_else(|| {
                OperationError::value("token", "this refresh token has no session; revoke its client or subject")
            })?;
            return Ok((Revoke::Session { issuer: OWN_ISSUER.to_owned(), session }, None));
        }
        let unusable = |why: String| OperationError::value("token", why);
        let parsed = parse_compact(token).map_err(|error| unusable(format!("this is no token: {error}")))?;
        let claims = parsed.claims().map_err(|error| unusable(format!("this is no token: {error}")))?;
        let iss = word(&claims, "iss").ok_or_else(|| unusable("the token names no issuer".to_owned()))?;
        let issuer = self.issuer_called(iss).await?;
        let jti = word(&claims, "jti").filter(|jti| !jti.is_empty() && jti.len() <= MAX_VALUE);
        let jti = jti.ok_or_else(|| {
            unusable("the token has no jti to know it by; revoke its subject or session instead".to_owned())
        })?;
        let until = claims.get("exp").and_then(Value::as_i64).map(|exp| Timestamp::from_secs(exp).plus(MARGIN));
        Ok((Revoke::Token { issuer, jti: jti.to_owned() }, until))
    }

    /// The configured name of the issuer whose tokens say `iss`.
    async fn issuer_called(&self, iss: &str) -> Result<String, OperationError> {
        if iss == self.external_url {
            return Ok(OWN_ISSUER.to_owned());
        }
        let file = self.file();
        let merged = self.merged_config(&file).await?.unwrap_or_else(|_| (*file).clone());
        let named = merged.issuers.iter().find(|issuer| issuer.issuer.as_deref() == Some(iss));
        let named = named.ok_or_else(|| {
            OperationError::value("token", "its issuer is none of the configuration, so its tokens are refused anyway")
        })?;
        Ok(named.name.to_string())
    }

    fn before(&self, asked: &CreateRevocation, what: &Revoke) -> Result<Timestamp, OperationError> {
        let up_to_now = self.store.revocations().now();
        let Some(text) = &asked.before else { return Ok(up_to_now) };
        if !what.can_be_lifted() {
            return Err(OperationError::value("before", "no time makes a revoked token or key valid"));
        }
        let moment = crate::moment(text, self.clock.now());
        let moment = moment.ok_or_else(|| OperationError::value("before", crate::MOMENTS))?;
        if moment > up_to_now {
            return Err(OperationError::value("before", "this moment is in the future"));
        }
        Ok(moment)
    }

    /// From when on a revocation may be forgotten: once no token it is about can be valid. What names people, clients
    /// and issuers also reaches Vouchgate keys, which live for years, so that is kept.
    async fn remembered_until(
        &self,
        what: &Revoke,
        not_before: Timestamp,
    ) -> Result<Option<Timestamp>, OperationError> {
        let lifetime = match what {
            Revoke::Token { issuer, .. } | Revoke::Session { issuer, .. } | Revoke::Device { issuer, .. } => {
                self.longest_token(issuer).await?
            }
            _ => None,
        };
        let from = not_before.max(self.clock.now());
        Ok(lifetime.map(|lifetime| from.plus(lifetime).plus(MARGIN)))
    }

    /// How long a token of an issuer, or one of ours for somebody of that issuer, can be valid; nothing: without bound.
    async fn longest_token(&self, issuer: &str) -> Result<Option<Duration>, OperationError> {
        if issuer == OWN_ISSUER {
            return Ok(Some(MAX_TTL));
        }
        let file = self.file();
        let merged = self.merged_config(&file).await?.unwrap_or_else(|_| (*file).clone());
        let found = merged.issuers.iter().find(|known| known.name.as_str() == issuer);
        Ok(found.and_then(|issuer| issuer.max_lifetime).map(|longest| longest.duration().max(MAX_TTL)))
    }
}

fn word<'c>(claims: &'c JsonObject, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

/// Subjects are people, so the log has the number of the entry that names them.
fn audit(entry: &Revocation) {
    tracing::info!(
        target: "audit", by = entry.by, id = entry.seq, kind = entry.what.kind(), issuer = entry.what.issuer(),
        reason = entry.reason, "revoked"
    );
}

/// What the audit log says of a revocation: of whom under their key, of what else as it is.
fn revoked(kind: &'static str, entry: &Revocation) -> audit::Event {
    let event = audit::Event::new(kind).by(entry.by.as_str()).with("id", entry.seq).with("what", entry.what.kind());
    let event = event.with("reason", entry.reason.as_str());
    match &entry.what {
        Revoke::Subject { issuer, subject } => event.about(issuer, subject),
        what => event.with("issuer", what.issuer()).with("value", what.value()),
    }
}

fn view(entry: &Revocation) -> RevocationView {
    RevocationView {
        id: entry.seq,
        kind: entry.what.kind(),
        issuer: entry.what.issuer().to_owned(),
        value: entry.what.value().to_owned(),
        before: entry.what.can_be_lifted().then(|| entry.not_before.rfc3339()),
        at: entry.at.rfc3339(),
        by: entry.by.clone(),
        reason: entry.reason.clone(),
        forgotten_at: entry.expires_at.map(Timestamp::rfc3339),
        lifted_at: entry.lifted.as_ref().map(|(at, _)| at.rfc3339()),
        lifted_by: entry.lifted.as_ref().map(|(_, by)| by.clone()),
    }
}

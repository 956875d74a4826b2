//! What apps are told over the air, and the keys that sign it.

use base::{Name, Timestamp};
use vault::Sealed;

use crate::engine::{Row, first};
use crate::error::at_most;
use crate::{Store, StoreError};

/// The longest configuration, in bytes.
const MAX_CONFIG: usize = 64 << 10;

/// Where a configuration key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigKeyState {
    /// It waits until a root key vouches for it.
    Next,
    /// It signs. At most one.
    Active,
    /// It signs no more; its private half is erased.
    Gone,
}

impl ConfigKeyState {
    /// The state as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Gone => "gone",
        }
    }

    fn from_str(text: &str) -> Option<Self> {
        [Self::Next, Self::Active, Self::Gone].into_iter().find(|state| state.as_str() == text)
    }
}

/// A key that signs what apps are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its key id: its thumbprint (RFC 7638).
    pub kid: String,
    /// Where it is in its life.
    pub state: ConfigKeyState,
    /// Its public half, as a JWK.
    pub public_jwk: String,
    /// Its private half (PKCS #8), sealed under its `kid`; absent once it is gone.
    pub sealed: Option<Sealed>,
    /// What a root key says of it.
    pub delegation: Option<Delegated>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it began to sign.
    pub activated_at: Option<Timestamp>,
}

/// What a root key says of a configuration key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// The signed object.
    pub jws: String,
    /// When it was made.
    pub at: Timestamp,
    /// Until when the key may sign.
    pub until: Timestamp,
}

/// A configuration key to be stored; it begins as [`ConfigKeyState::Next`].
#[derive(Debug, Clone)]
pub struct NewConfigKey {
    /// Its key id.
    pub kid: String,
    /// Its public half, as a JWK.
    pub public_jwk: String,
    /// Its private half (PKCS #8), sealed.
    pub sealed: Sealed,
}

/// A configuration that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppConfig {
    /// The app it is for.
    pub app: Name,
    /// Its number, from 1.
    pub seq: u64,
    /// What it says, as JSON.
    pub payload: String,
    /// As it is served.
    pub jws: String,
    /// When it was made.
    pub issued_at: Timestamp,
    /// From when on it does not count.
    pub expires_at: Timestamp,
    /// Who made it.
    pub made_by: String,
}

/// What apps are told, and the keys that sign it.
#[derive(Debug, Clone, Copy)]
pub struct AppConfigs<'a>(pub(crate) &'a Store);

impl AppConfigs<'_> {
    /// Publish a configuration. [`StoreError::Conflict`] unless its number follows that of the last of its app: of two who
    /// publish at once, one does.
    pub async fn publish(self, new: AppConfig) -> Result<AppConfig, StoreError> {
        at_most("configuration", new.payload.len(), MAX_CONFIG)?;
        at_most("configuration", new.jws.len(), 2 * MAX_CONFIG)?;
        let last = self.0.sql("SELECT COALESCE(MAX(seq), 0) FROM app_configs WHERE tenant = $1 AND app = $2");
        let last = last.bind(&new.app);
        let insert = self
            .0
            .sql(
                "INSERT INTO app_configs (tenant, app, seq, payload, jws, issued_at, expires_at, made_by)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            )
            .bind(&new.app)
            .bind(new.seq)
            .bind(&*new.payload)
            .bind(&*new.jws)
            .bind(new.issued_at)
            .bind(new.expires_at)
            .bind(&*new.made_by);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    let last: u64 = first(tx.fetch(last).await?).ok_or(StoreError::Corrupt)?.take()?;
                    if new.seq != last + 1 || tx.execute(insert).await? == 0 {
                        return Err(StoreError::Conflict("configuration of the app"));
                    }
                    Ok(new)
                })
            })
            .await
    }

    /// Of each app the configuration in force, by name.
    pub async fn latest(self) -> Result<Vec<AppConfig>, StoreError> {
        let select = self.0.sql(
            "SELECT app, seq, payload, jws, issued_at, expires_at, made_by FROM app_configs AS c
             WHERE tenant = $1 AND seq = (SELECT MAX(seq) FROM app_configs WHERE tenant = $1 AND app = c.app)
             ORDER BY app",
        );
        self.0.read(select, read).await
    }

    /// Every configuration that counted after a moment, by app and number.
    pub async fn since(self, moment: Timestamp) -> Result<Vec<AppConfig>, StoreError> {
        let select = self.0.sql(
            "SELECT app, seq, payload, jws, issued_at, expires_at, made_by FROM app_configs
             WHERE tenant = $1 AND expires_at > $2 ORDER BY app, seq",
        );
        self.0.read(select.bind(moment), read).await
    }

    /// Forget up to `most` configurations that counted only before a moment, but never the last of an app; how many.
    pub async fn delete_before(self, moment: Timestamp, most: u32) -> Result<u64, StoreError> {
        let old = self.0.sql(
            "SELECT app, seq FROM app_configs AS c WHERE tenant = $1 AND expires_at <= $2
             AND seq < (SELECT MAX(seq) FROM app_configs WHERE tenant = $1 AND app = c.app) LIMIT $3",
        );
        let old = old.bind(moment).bind(i64::from(most));
        let mut deletes = Vec::new();
        for mut row in self.0.fetch(old).await? {
            let (app, seq): (String, i64) = (row.take()?, row.take()?);
            let delete = self.0.sql("DELETE FROM app_configs WHERE tenant = $1 AND app = $2 AND seq = $3");
            deletes.push(delete.bind(app).bind(seq));
        }
        if deletes.is_empty() {
            return Ok(0);
        }
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let mut gone = 0;
                    for delete in deletes {
                        gone += tx.execute(delete).await?;
                    }
                    Ok(gone)
                })
            })
            .await
    }

    /// All configuration keys, oldest first.
    pub async fn keys(self) -> Result<Vec<ConfigKey>, StoreError> {
        let select = self.0.sql(
            "SELECT kid, state, public_jwk, sealed, delegation, delegated_at, delegated_until, created_at, activated_at
             FROM config_keys WHERE tenant = $1 ORDER BY created_at, kid",
        );
        self.0.read(select, read_key).await
    }

    /// Store a new key, to be vouched for. [`StoreError::Exists`] if one waits already.
    pub async fn insert_key(self, new: NewConfigKey) -> Result<(), StoreError> {
        at_most("kid", new.kid.len(), 256)?;
        at_most("public key", new.public_jwk.len(), 8192)?;
        let waiting = self.0.sql("SELECT 1 FROM config_keys WHERE tenant = $1 AND state = 'next' LIMIT 1");
        let insert = self
            .0
            .sql(
                "INSERT INTO config_keys (tenant, kid, state, public_jwk, sealed, created_at)
                 VALUES ($1, $2, 'next', $3, $4, $5) ON CONFLICT DO NOTHING",
            )
            .bind(&*new.kid)
            .bind(&*new.public_jwk)
            .bind(&new.sealed)
            .bind(self.0.now());
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if !tx.fetch(waiting).await?.is_empty() || tx.execute(insert).await? == 0 {
                        return Err(StoreError::Exists("a configuration key"));
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Let a key sign from now on, by what a root key says of it; the one before is gone. Of the key that signs already, only what
    /// is said of it is replaced. [`StoreError::Conflict`] unless there is such a key that is not gone.
    pub async fn delegate(self, kid: &str, delegated: &Delegated) -> Result<(), StoreError> {
        at_most("delegation", delegated.jws.len(), 8192)?;
        let retire = self
            .0
            .sql("UPDATE config_keys SET state = 'gone', sealed = NULL WHERE tenant = $1 AND state = 'active' AND kid <> $2")
            .bind(kid);
        let activate = self
            .0
            .sql(
                "UPDATE config_keys SET state = 'active', delegation = $3, delegated_at = $4, delegated_until = $5,
                 activated_at = COALESCE(activated_at, $6) WHERE tenant = $1 AND kid = $2 AND state <> 'gone'",
            )
            .bind(kid)
            .bind(&*delegated.jws)
            .bind(delegated.at)
            .bind(delegated.until)
            .bind(self.0.now());
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(activate).await? == 0 {
                        return Err(StoreError::Conflict("configuration key"));
                    }
                    tx.execute(retire).await.map(drop)
                })
            })
            .await
    }
}

fn read(mut row: Row) -> Result<AppConfig, StoreError> {
    Ok(AppConfig {
        app: row.take()?,
        seq: row.take()?,
        payload: row.take()?,
        jws: row.take()?,
        issued_at: row.take()?,
        expires_at: row.take()?,
        made_by: row.take()?,
    })
}

fn read_key(mut row: Row) -> Result<ConfigKey, StoreError> {
    let kid = row.take()?;
    let state = ConfigKeyState::from_str(&row.take::<String>()?);
    let (public_jwk, sealed) = (row.take()?, row.take()?);
    let (jws, at, until): (Option<String>, Option<Timestamp>, Option<Timestamp>) =
        (row.take()?, row.take()?, row.take()?);
    let delegation = match (jws, at, until) {
        (Some(jws), Some(at), Some(until)) => Some(Delegated { jws, at, until }),
        _ => None,
    };
    Ok(ConfigKey {
        kid,
        state: state.ok_or(StoreError::Row("not a state of a configuration key"))?,
        public_jwk,
        sealed,
        delegation,
        created_at: row.take()?,
        activated_at: row.take()?,
    })
}

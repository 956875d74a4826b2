//! Clients: programs that may ask us for tokens.

use std::time::Duration;

use base::{Name, Timestamp};

use crate::engine::{Connection, Row, Statement};
use crate::error::at_most;
use crate::{Page, Paged, Store, StoreError};

/// The longest settings, in bytes: a JWK Set and some URIs.
const MAX_SETTINGS: usize = 65_536;

/// A client and its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Random id, `cl_...`.
    pub id: String,
    /// Its name, which is its `client_id`.
    pub name: Name,
    /// The scopes it may ask for.
    pub scopes: Vec<String>,
    /// How long its tokens live; absent: the default.
    pub token_ttl: Option<Duration>,
    /// Whether it is refused, though not forgotten.
    pub disabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grants, authentication, redirect URIs and requirements, as a JSON object. The store does not look inside.
    pub settings: String,
    /// Its secrets, oldest first; more than one while a rotation overlaps.
    pub secrets: Vec<ClientSecret>,
}

impl Client {
    /// The keyed hashes of the secrets that are valid at `now`.
    pub fn live_secrets(&self, now: Timestamp) -> impl Iterator<Item = &[u8; 32]> {
        self.secrets
            .iter()
            .filter(move |secret| secret.expires_at.is_none_or(|end| now < end))
            .map(|secret| &secret.hash)
    }
}

/// What verifies a client's secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSecret {
    /// Random id, `cs_...`.
    pub id: String,
    /// Keyed hash of the secret.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it is refused; absent: never.
    pub expires_at: Option<Timestamp>,
}

/// A client to be made.
#[derive(Debug, Clone)]
pub struct NewClient {
    /// Its name, which is its `client_id`.
    pub name: Name,
    /// The scopes it may ask for.
    pub scopes: Vec<String>,
    /// How long its tokens live; absent: the default.
    pub token_ttl: Option<Duration>,
    /// Grants, authentication, redirect URIs and requirements, as a JSON object.
    pub settings: String,
    /// Whether it is refused until it is let in.
    pub disabled: bool,
    /// Keyed hash of its first secret; absent: it authenticates otherwise.
    pub secret: Option<[u8; 32]>,
    /// Who makes it.
    pub created_by: String,
}

/// Clients that may ask us for tokens.
#[derive(Debug, Clone, Copy)]
pub struct Clients<'a>(pub(crate) &'a Store);

impl Clients<'_> {
    /// Make a client. [`StoreError::Exists`] if there is one of that name.
    pub async fn create(self, new: NewClient) -> Result<Client, StoreError> {
        at_most("list of scopes", new.scopes.iter().map(String::len).sum(), 4096)?;
        at_most("client's settings", new.settings.len(), MAX_SETTINGS)?;
        let (store, now) = (self.0.clone(), self.0.now());
        let client = Client {
            id: store.new_id("cl"),
            name: new.name,
            scopes: new.scopes,
            token_ttl: new.token_ttl,
            disabled: new.disabled,
            created_at: now,
            created_by: new.created_by,
            updated_at: now,
            settings: new.settings,
            secrets: new
                .secret
                .map(|hash| ClientSecret { id: store.new_id("cs"), hash, created_at: now, expires_at: None })
                .into_iter()
                .collect(),
        };
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    let insert = store
                        .sql(
                            "INSERT INTO clients
                             (tenant, id, name, scopes, token_ttl_ms, disabled, created_at, created_by, updated_at,
                              settings)
                             VALUES ($1, $2, $3, $4, $5, $9, $6, $7, $6, $8) ON CONFLICT DO NOTHING",
                        )
                        .bind(&*client.id)
                        .bind(&client.name)
                        .bind(&*client.scopes)
                        .bind(client.token_ttl.map(millis))
                        .bind(now)
                        .bind(&*client.created_by)
                        .bind(&*client.settings)
                        .bind(client.disabled);
                    if tx.execute(insert).await? == 0 {
                        return Err(StoreError::Exists("a client"));
                    }
                    for secret in &client.secrets {
                        tx.execute(insert_secret(&store, &client.id, secret)).await?;
                    }
                    Ok(client)
                })
            })
            .await
    }

    /// The client of that name.
    pub async fn get(self, name: &Name) -> Result<Option<Client>, StoreError> {
        let rows = self.0.fetch(select_one(self.0, name)).await?;
        Ok(group(rows)?.pop())
    }

    /// All clients, by name.
    pub async fn list(self, page: &Page) -> Result<Paged<Client>, StoreError> {
        let select = self
            .0
            .sql(
                "SELECT c.id, c.name, c.scopes, c.token_ttl_ms, c.disabled, c.created_at, c.created_by, c.updated_at, c.settings,
                        s.id, s.hash, s.created_at, s.expires_at
                 FROM (SELECT * FROM clients WHERE tenant = $1 AND name > $2 ORDER BY name LIMIT $3) c
                 LEFT JOIN client_secrets s ON s.tenant = c.tenant AND s.client_id = c.id
                 ORDER BY c.name, s.created_at, s.id",
            )
            .bind(page.after.as_deref().unwrap_or_default())
            .bind(page.rows() + 1);
        let clients = group(self.0.fetch(select).await?)?;
        Ok(Paged::cut(clients, page, |client| client.name.to_string()))
    }

    /// Change what a client may ask for and how.
    pub async fn update(
        self,
        name: &Name,
        scopes: Vec<String>,
        token_ttl: Option<Duration>,
        settings: String,
    ) -> Result<Client, StoreError> {
        at_most("list of scopes", scopes.iter().map(String::len).sum(), 4096)?;
        at_most("client's settings", settings.len(), MAX_SETTINGS)?;
        let update = self
            .0
            .sql(
                "UPDATE clients SET scopes = $3, token_ttl_ms = $4, updated_at = $5, settings = $6
                 WHERE tenant = $1 AND name = $2",
            )
            .bind(name)
            .bind(&*scopes)
            .bind(token_ttl.map(millis))
            .bind(self.0.now())
            .bind(settings);
        self.changed(name, vec![update]).await
    }

    /// Refuse a client, or accept it again.
    pub async fn set_disabled(self, name: &Name, disabled: bool) -> Result<Client, StoreError> {
        let update = self
            .0
            .sql("UPDATE clients SET disabled = $3, updated_at = $4 WHERE tenant = $1 AND name = $2")
            .bind(name)
            .bind(disabled)
            .bind(self.0.now());
        self.changed(name, vec![update]).await
    }

    /// Give a client a new secret. Its others stay valid for `overlap` more at most; expired ones are forgotten.
    pub async fn rotate(self, name: &Name, secret: [u8; 32], overlap: Duration) -> Result<Client, StoreError> {
        let now = self.0.now();
        let touch =
            self.0.sql("UPDATE clients SET updated_at = $3 WHERE tenant = $1 AND name = $2").bind(name).bind(now);
        let forget = self
            .0
            .sql(
                "DELETE FROM client_secrets WHERE tenant = $1 AND expires_at <= $3
                 AND client_id = (SELECT id FROM clients WHERE tenant = $1 AND name = $2)",
            )
            .bind(name)
            .bind(now);
        let shorten = self
            .0
            .sql(
                "UPDATE client_secrets SET expires_at = $3 WHERE tenant = $1 AND (expires_at IS NULL OR expires_at > $3)
                 AND client_id = (SELECT id FROM clients WHERE tenant = $1 AND name = $2)",
            )
            .bind(name)
            .bind(now.plus(overlap));
        let insert = self
            .0
            .sql(
                "INSERT INTO client_secrets (tenant, id, client_id, hash, created_at, expires_at)
                 SELECT $1, $3, id, $4, $5, NULL FROM clients WHERE tenant = $1 AND name = $2",
            )
            .bind(name)
            .bind(self.0.new_id("cs"))
            .bind(secret)
            .bind(now);
        self.changed(name, vec![touch, forget, shorten, insert]).await
    }

    /// Forget a client and its secrets. Its refresh tokens end, so that they are not another's who takes its name.
    pub async fn delete(self, name: &Name) -> Result<(), StoreError> {
        let delete = self.0.sql("DELETE FROM clients WHERE tenant = $1 AND name = $2").bind(name);
        let end = self
            .0
            .sql(
                "UPDATE refresh_families SET revoked_at = $3, revoked_why = 'client deleted'
                 WHERE tenant = $1 AND client = $2 AND revoked_at IS NULL",
            )
            .bind(name)
            .bind(self.0.now());
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    if tx.execute(delete).await? == 0 {
                        return Err(StoreError::Missing("client"));
                    }
                    tx.execute(end).await.map(drop)
                })
            })
            .await
    }

    /// Run the updates, of which the first must find the client, and read it back.
    async fn changed(self, name: &Name, updates: Vec<Statement>) -> Result<Client, StoreError> {
        let select = select_one(self.0, name);
        self.0
            .change(move |tx, _| {
                Box::pin(async move {
                    let mut found = 0;
                    for (index, update) in updates.into_iter().enumerate() {
                        let changed = tx.execute(update).await?;
                        if index == 0 {
                            found = changed;
                        }
                    }
                    if found == 0 {
                        return Err(StoreError::Missing("client"));
                    }
                    read_back(tx, select).await
                })
            })
            .await
    }
}

async fn read_back(tx: &mut dyn Connection, select: Statement) -> Result<Client, StoreError> {
    group(tx.fetch(select).await?)?.pop().ok_or(StoreError::Missing("client"))
}

fn select_one(store: &Store, name: &Name) -> Statement {
    store
        .sql(
            "SELECT c.id, c.name, c.scopes, c.token_ttl_ms, c.disabled, c.created_at, c.created_by, c.updated_at, c.settings,
                    s.id, s.hash, s.created_at, s.expires_at
             FROM clients c LEFT JOIN client_secrets s ON s.tenant = c.tenant AND s.client_id = c.id
             WHERE c.tenant = $1 AND c.name = $2 ORDER BY s.created_at, s.id",
        )
        .bind(name)
}

fn insert_secret(store: &Store, client: &str, secret: &ClientSecret) -> Statement {
    store
        .sql(
            "INSERT INTO client_secrets (tenant, id, client_id, hash, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&*secret.id)
        .bind(client)
        .bind(secret.hash)
        .bind(secret.created_at)
        .bind(secret.expires_at)
}

/// Rows of clients joined with their secrets, each client's rows together.
fn group(rows: Vec<Row>) -> Result<Vec<Client>, StoreError> {
    let mut clients: Vec<Client> = Vec::new();
    for mut row in rows {
        let client = Client {
            id: row.take()?,
            name: row.take()?,
            scopes: row.take()?,
            token_ttl: row.take::<Option<u64>>()?.map(Duration::from_millis),
            disabled: row.take()?,
            created_at: row.take()?,
            created_by: row.take()?,
            updated_at: row.take()?,
            settings: row.take()?,
            secrets: Vec::new(),
        };
        let secret = match row.take::<Option<String>>()? {
            None => None,
            Some(id) => Some(ClientSecret { id, hash: row.take()?, created_at: row.take()?, expires_at: row.take()? }),
        };
        match clients.last_mut() {
            Some(last) if last.id == client.id => last.secrets.extend(secret),
            _ => clients.push(Client { secrets: secret.into_iter().collect(), ..client }),
        }
    }
    Ok(clients)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

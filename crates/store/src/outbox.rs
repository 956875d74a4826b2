//! Messages for webhooks, kept until they are taken: at least once each, under an id that stays.

use std::fmt::Write;
use std::time::Duration;

use aws_lc_rs::digest;
use base::{Name, Timestamp};

use crate::engine::Row;
use crate::error::at_most;
use crate::leases::moment;
use crate::{Notice, Store, StoreError};

/// How many messages wait for one webhook at most; beyond that new ones are dropped.
const WAITING: i64 = 10_000;
/// The longest text of what went wrong.
const MAX_ERROR: usize = 256;

/// A message that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The name of the webhook.
    pub endpoint: Name,
    /// Its id, the same at every attempt.
    pub id: String,
    /// What it tells of.
    pub event: String,
    /// What is sent.
    pub body: String,
    /// Which attempt this is, from 1.
    pub attempt: u64,
    /// When it was made.
    pub made_at: Timestamp,
}

/// What came of sending a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It was taken.
    Taken,
    /// It was not, and is to be sent again after a while.
    Later(Duration, String),
    /// It was not, and is given up.
    GivenUp(String),
}

/// Messages for webhooks.
#[derive(Debug, Clone, Copy)]
pub struct Outbox<'a>(pub(crate) &'a Store);

impl Outbox<'_> {
    /// Keep a notice as a message for each of these webhooks; how many were new. Of notices about the same thing
    /// ([`Notice::about`]) a webhook gets one, for as long as it is remembered ([`Outbox::delete_before`]).
    pub async fn put(self, notice: &Notice, endpoints: &[Name]) -> Result<u64, StoreError> {
        let mut data = notice.data.clone();
        data.extend(notice.names.clone());
        let body =
            serde_json::json!({ "type": notice.event, "timestamp": notice.at.rfc3339(), "data": data }).to_string();
        at_most("webhook message", body.len(), 64 * 1024)?;
        let id = match &notice.about {
            Some(about) => id_of(notice.event, about),
            None => self.0.new_id("msg"),
        };
        let insert = self.0.sql(
            "INSERT INTO webhook_messages (tenant, endpoint, id, event, body, made_at, due_at)
                 SELECT $1, $2, $3, $4, $5, $6, $7 WHERE
                 (SELECT COUNT(*) FROM webhook_messages WHERE tenant = $1 AND endpoint = $2 AND due_at IS NOT NULL) < $8
                 ON CONFLICT DO NOTHING",
        );
        let inserts: Vec<_> = endpoints
            .iter()
            .map(|endpoint| insert.clone().bind(endpoint).bind(&*id).bind(notice.event).bind(&*body))
            .collect();
        let (store, at) = (self.0.clone(), notice.at);
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let now = moment(tx, &store).await?;
                    let mut new = 0;
                    for insert in inserts {
                        new += tx.execute(insert.bind(at).bind(now).bind(WAITING)).await?;
                    }
                    Ok(new)
                })
            })
            .await
    }

    /// Take up to `limit` messages that are due. They are due again after `again`, unless [`Outbox::sent`] says what came of
    /// them: so a node that dies keeps none.
    pub async fn take(self, limit: u32, again: Duration) -> Result<Vec<Message>, StoreError> {
        let store = self.0.clone();
        let take = self.0.sql(
            "UPDATE webhook_messages SET due_at = $3, attempts = attempts + 1 WHERE tenant = $1 AND due_at <= $2
             AND (endpoint, id) IN (SELECT endpoint, id FROM webhook_messages WHERE tenant = $1 AND due_at <= $2
                                    ORDER BY due_at LIMIT $4)
             RETURNING endpoint, id, event, body, attempts, made_at",
        );
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let now = moment(tx, &store).await?;
                    let take = take.bind(now).bind(now.plus(again)).bind(i64::from(limit));
                    tx.fetch(take).await?.into_iter().map(read).collect()
                })
            })
            .await
    }

    /// Say what came of a message.
    pub async fn sent(self, message: &Message, sent: Sent) -> Result<(), StoreError> {
        let store = self.0.clone();
        let (wait, error) = match sent {
            Sent::Taken => (None, None),
            Sent::Later(wait, error) => (Some(wait), Some(error)),
            Sent::GivenUp(error) => (None, Some(error)),
        };
        let error = error.map(|error| error.chars().take(MAX_ERROR).collect::<String>());
        let update = self
            .0
            .sql("UPDATE webhook_messages SET due_at = $4, error = $5 WHERE tenant = $1 AND endpoint = $2 AND id = $3")
            .bind(&message.endpoint)
            .bind(&*message.id);
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let now = moment(tx, &store).await?;
                    let update = update.bind(wait.map(|wait| now.plus(wait))).bind(error);
                    tx.execute(update).await.map(drop)
                })
            })
            .await
    }

    /// How many messages wait.
    pub async fn waiting(self) -> Result<u64, StoreError> {
        let count = self.0.sql("SELECT COUNT(*) FROM webhook_messages WHERE tenant = $1 AND due_at IS NOT NULL");
        self.0.read(count, |mut row| row.take()).await?.pop().ok_or(StoreError::Corrupt)
    }

    /// Forget up to `limit` messages that were made before `moment` and are done; how many there were.
    pub async fn delete_before(self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM webhook_messages WHERE tenant = $1 AND due_at IS NULL AND (endpoint, id) IN
                 (SELECT endpoint, id FROM webhook_messages WHERE tenant = $1 AND made_at < $2 AND due_at IS NULL
                  ORDER BY made_at LIMIT $3)",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

/// The id of the message about something: whoever makes it makes the same.
fn id_of(event: &str, about: &str) -> String {
    let hash = digest::digest(&digest::SHA256, format!("{event}\0{about}").as_bytes());
    let mut id = String::from("msg_");
    for byte in hash.as_ref().iter().take(16) {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

fn read(mut row: Row) -> Result<Message, StoreError> {
    Ok(Message {
        endpoint: row.take()?,
        id: row.take()?,
        event: row.take()?,
        body: row.take()?,
        attempt: row.take()?,
        made_at: row.take()?,
    })
}

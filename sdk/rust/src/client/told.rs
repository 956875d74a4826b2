//! What the app is told over the air, and secrets it asks for.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Value, json};

use super::{Client, read_json};
use crate::app_config::{self, AppConfig};
use crate::error::Error;
use crate::memory::Kept;
use crate::proof::Proof;
use crate::secrets::{self, Recipient, RuntimeSecret};

/// After how many seconds another attempt is made when fetching failed.
const AGAIN: i64 = 60;

/// A configuration as it came, and when to ask again.
pub(super) struct Told {
    /// Empty: nothing was accepted yet.
    pub(super) text: String,
    etag: Option<HeaderValue>,
    ask_at: i64,
}

impl Client {
    /// Fetch what the app is told over the air, now. Whether it is newer or not, what is not accepted changes nothing.
    pub async fn update_config(&self) -> Result<Arc<AppConfig>, Error> {
        let path = format!("/.well-known/gateway-config/{}", self.inner.app);
        let uri = format!("{}{path}", self.inner.origin);
        let mut request = Request::get(uri).body(Bytes::new()).map_err(|_| Error::Request("not a name of an app"))?;
        let known = self.inner.book.config();
        let etag = self.told().as_ref().and_then(|told| told.etag.clone());
        if let (Some(etag), true) = (etag, known.is_some()) {
            request.headers_mut().insert(header::IF_NONE_MATCH, etag);
        }
        let answer = self.inner.unpinned.send(request).await?;
        let now = self.inner.clock.now();
        if let (StatusCode::NOT_MODIFIED, Some(known)) = (answer.status, known) {
            self.ask_again(now, known.refresh_after);
            return Ok(known);
        }
        let etag = answer.headers.get(header::ETAG).cloned();
        if answer.status != StatusCode::OK {
            return Err(super::refused(answer).await);
        }
        let body = answer.bytes(app_config::MAX_LEN).await?;
        let text = std::str::from_utf8(&body).map_err(|_| Error::Answer)?.trim().to_owned();
        let config = self.accept(&text)?;
        *self.told() = Some(Told { text, etag, ask_at: 0 });
        self.ask_again(now, config.refresh_after);
        self.keep();
        Ok(config)
    }

    /// Secrets by name, to be used now: they are not kept here. The gateway says in its configuration who may have which.
    pub async fn secrets(&self, names: &[&str]) -> Result<BTreeMap<String, RuntimeSecret>, Error> {
        let path = "/attest/v1/secrets";
        let session = self.session().await?;
        let recipient = Recipient::on(self.inner.curve)?;
        let body = Bytes::from(json!({"names": names, "epk": recipient.public_jwk().to_json()}).to_string());
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Signed over the body in any case: what is asked for is in it.
        let answer = self.call((Proof::Signature, &*session), (&Method::POST, path), &headers, &body).await?;
        let answer = read_json(answer).await?;
        let jwe = answer.get("jwe").and_then(Value::as_str).filter(|jwe| jwe.len() <= secrets::MAX_LEN);
        Ok(recipient.open(jwe.ok_or(Error::Answer)?, &session.instance)?)
    }

    pub(super) fn told(&self) -> MutexGuard<'_, Option<Told>> {
        self.inner.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take up what was accepted before the process ended. Its end is looked at as for any other.
    pub(super) fn remember_config(&self, kept: &Kept) {
        let Some(text) = kept.config() else { return };
        let roots = &self.inner.config_roots;
        // At its own end, so that its number counts against older ones although its time is over.
        if let Ok(config) = AppConfig::accept(text, roots, &self.inner.app, i64::MIN, None) {
            let _ = self.inner.book.set_config(Arc::new(config));
            *self.told() = Some(Told { text: text.to_owned(), etag: None, ask_at: 0 });
        }
    }

    /// Before a request: what the app was told must be in time, and is fetched anew when it is due.
    pub(super) async fn told_in_time(&self) -> Result<(), Error> {
        if self.inner.config_roots.is_empty() {
            return Ok(());
        }
        let now = self.inner.clock.now();
        let due = self.told().as_ref().is_none_or(|told| told.ask_at <= now);
        if due {
            self.ask_again(now, u64::try_from(AGAIN).unwrap_or_default());
            let first = self.inner.book.config().is_none();
            match self.update_config().await {
                Err(error) if first => return Err(error),
                _ => {}
            }
        }
        if self.inner.book.is_stale(&self.inner.host) { Err(Error::ConfigStale) } else { Ok(()) }
    }

    fn ask_again(&self, now: i64, after: u64) {
        let at = now.saturating_add(i64::try_from(after).unwrap_or(i64::MAX));
        let mut told = self.told();
        let told = told.get_or_insert_with(|| Told { text: String::new(), etag: None, ask_at: at });
        told.ask_at = at;
    }

    fn accept(&self, text: &str) -> Result<Arc<AppConfig>, Error> {
        let last = self.inner.book.config();
        let (roots, app) = (&self.inner.config_roots, &self.inner.app);
        // By this device's clock, as the pins are judged: whoever answers must not choose the time they end at.
        let now = self.inner.clock.now();
        let config = Arc::new(AppConfig::accept(text, roots, app, now, last.as_deref())?);
        if self.inner.book.set_config(Arc::clone(&config))? {
            self.inner.http.begin_anew();
        }
        Ok(config)
    }
}

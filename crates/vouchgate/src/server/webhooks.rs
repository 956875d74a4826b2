//! Telling others what happens: notices become messages in the store, messages are sent until they are taken. Whatever is told
//! is written into the audit log first.
//!
//! Each node sends what is due, whoever made it: a message that is being sent is due for nobody else for a minute.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use audit::{Event, Recorder};
use base::{Clock, Name};
use config::{Webhook, WebhookEvent};
use control::oauth::Secrets;
use futures_util::future::join_all;
use net::{Egress, Reach, WebhookKey, WebhookMessage, send_webhook};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use store::{Message, Notice, Sent, Store};
use tokio::sync::Notify;

use super::{Running, ages, rotation};
use crate::tasks::Tasks;
use crate::wire::Referred;

/// How often what is due is looked for.
const POLL: Duration = Duration::from_secs(2);
/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// After which time another node may send what this one has taken.
const AGAIN: Duration = Duration::from_mins(1);
/// How many are sent at once.
const AT_ONCE: u32 = 16;
/// How long to wait after each attempt, in seconds: as Standard Webhooks recommends. After the last the message is given up.
const WAITS: [u64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// What sends messages.
pub(super) struct Webhooks {
    store: Store,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    counts: Arc<Counts>,
    ages: rotation::Ages,
    /// Wakes when there is a new message.
    fresh: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    unkept: AtomicU64,
}

impl Webhooks {
    pub(super) fn new(store: &Store, recorder: &Recorder, clock: &Arc<dyn Clock>, registry: &mut Registry) -> Self {
        let counts = Arc::<Counts>::default();
        let ages = rotation::Ages::default();
        rotation::register(registry, &ages);
        registry.register_collector(Box::new(Shown(Arc::clone(&counts), store.clone())));
        Self {
            store: store.clone(),
            recorder: recorder.clone(),
            clock: Arc::clone(clock),
            counts,
            ages,
            fresh: Notify::new(),
        }
    }

    /// Begin to send.
    pub(super) fn begin(self, tasks: &Tasks, running: &Arc<Running>, egress: &Egress) {
        ages::begin(tasks, running, Arc::clone(&self.clock));
        rotation::begin(tasks, running, Arc::clone(&self.clock), self.ages.clone());
        let this = Arc::new(self);
        let (keeping, builder, stopped) = (Arc::clone(&this), Arc::clone(running), tasks.stopped());
        tasks.spawn_to_completion(async move {
            let all = async {
                loop {
                    keeping.store.notices().ready().await;
                    keeping.keep(&builder.builder.webhooks.load()).await;
                }
            };
            tokio::select! {
                () = all => {}
                () = stopped => {}
            }
            // What happened last is told at the next start.
            keeping.keep(&builder.builder.webhooks.load()).await;
        });
        let (running, egress) = (Arc::clone(running), egress.clone());
        tasks.spawn(async move {
            loop {
                let hooks = running.builder.webhooks.load_full();
                let secrets = Referred { store: this.store.clone(), vault: Arc::clone(&running.builder.vault) };
                if !this.send_due(&hooks, &secrets, &egress).await {
                    let _either = tokio::time::timeout(POLL, this.fresh.notified()).await;
                }
            }
        });
    }

    /// Write down what has happened, and keep it for those who are to be told.
    async fn keep(&self, hooks: &[Webhook]) {
        for notice in self.store.notices().take() {
            self.record(&notice).await;
            let wanted = |hook: &&Webhook| hook.events.iter().any(|event| event.as_str() == notice.event);
            let endpoints: Vec<Name> = hooks.iter().filter(wanted).map(|hook| hook.name.clone()).collect();
            if endpoints.is_empty() {
                continue;
            }
            if let Err(error) = self.store.outbox().put(&notice, &endpoints).await.map(|_| self.fresh.notify_one()) {
                self.counts.unkept.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(event = notice.event, reason = error.reason(), %error, "an event cannot be told");
            }
        }
    }

    async fn record(&self, notice: &Notice) {
        // Of the log itself it says nothing new, and what somebody did is there already.
        let known = [WebhookEvent::AuditCheckpoint, WebhookEvent::AnomalyRestored];
        if known.iter().any(|event| event.as_str() == notice.event) {
            return;
        }
        let mut event = Event { members: notice.data.clone(), ..Event::new(notice.event) };
        if let Some((issuer, subject)) = &notice.person {
            event = event.about(issuer, subject);
        }
        self.recorder.noted(event).await;
    }

    /// Send what is due; whether there may be more.
    async fn send_due(&self, hooks: &[Webhook], secrets: &Referred, egress: &Egress) -> bool {
        // Looking costs no write.
        if matches!(self.store.outbox().waiting().await, Ok(0)) {
            return false;
        }
        let due = match self.store.outbox().take(AT_ONCE, AGAIN).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(reason = error.reason(), %error, "messages for webhooks cannot be read");
                return false;
            }
        };
        let more = due.len() >= AT_ONCE as usize;
        join_all(due.iter().map(|message| self.send(message, hooks, secrets, egress))).await;
        more
    }

    async fn send(&self, message: &Message, hooks: &[Webhook], secrets: &Referred, egress: &Egress) {
        let sent = match hooks.iter().find(|hook| hook.name == message.endpoint) {
            None => Sent::GivenUp("there is no such webhook any more".to_owned()),
            Some(hook) => match self.try_send(message, hook, secrets, egress).await {
                Ok(()) => Sent::Taken,
                Err((true, error)) => Sent::GivenUp(error),
                Err((false, error)) => {
                    let tried = usize::try_from(message.attempt.saturating_sub(1)).unwrap_or(usize::MAX);
                    match WAITS.get(tried) {
                        Some(seconds) => Sent::Later(Duration::from_secs(*seconds), error),
                        None => Sent::GivenUp(error),
                    }
                }
            },
        };
        let (endpoint, id, event, attempt) = (&message.endpoint, &message.id, &message.event, message.attempt);
        match &sent {
            Sent::Taken => {
                self.counts.delivered.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(webhook = %endpoint, id, event, attempt, "told");
            }
            Sent::Later(_, error) => {
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(webhook = %endpoint, id, event, attempt, error, "not told yet");
            }
            Sent::GivenUp(error) => {
                self.counts.given_up.fetch_add(1, Ordering::Relaxed);
                tracing::error!(webhook = %endpoint, id, event, attempt, error, "given up: it was not told");
            }
        }
        if let Err(error) = self.store.outbox().sent(message, sent).await {
            // It is sent again, under the same id.
            tracing::warn!(webhook = %endpoint, id, reason = error.reason(), "what came of a message cannot be kept");
        }
    }

    /// Whether to give it up, and what went wrong.
    async fn try_send(
        &self,
        message: &Message,
        hook: &Webhook,
        secrets: &Referred,
        egress: &Egress,
    ) -> Result<(), (bool, String)> {
        let secret = secrets.read(&hook.secret).await.map_err(|error| (false, error.message))?;
        let key = WebhookKey::parse(&secret).map_err(|error| (false, error.to_string()))?;
        let reach = if hook.allow_private { Reach::Private } else { Reach::Public };
        let sending = WebhookMessage { id: &message.id, at: self.clock.now(), body: &message.body };
        let sent = send_webhook(egress, (hook.url.url(), reach), &key, &sending, PATIENCE).await;
        sent.map_err(|error| (error.is_final(), error.to_string()))
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// What `/metrics` shows of them.
#[derive(Debug)]
struct Shown(Arc<Counts>, Store);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Messages for webhooks, by what came of sending them";
        let mut family = encoder.encode_descriptor("vouchgate_webhook_messages", help, None, MetricType::Counter)?;
        let counts = &self.0;
        for (outcome, count) in [
            ("delivered", counts.delivered.load(Ordering::Relaxed)),
            ("failed", counts.failed.load(Ordering::Relaxed)),
            ("given_up", counts.given_up.load(Ordering::Relaxed)),
            ("dropped", counts.unkept.load(Ordering::Relaxed) + self.1.notices().dropped()),
        ] {
            ConstCounter::new(count).encode(family.encode_family(&[("outcome", outcome)])?)?;
        }
        Ok(())
    }
}

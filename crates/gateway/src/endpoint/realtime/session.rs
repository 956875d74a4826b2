//! A session in progress: events in both directions, the client's looked at by policy, the provider's for usage.
//!
//! Two pumps, one for each direction, so that a side that takes nothing holds up the other direction only. Each holds one
//! message. Pings are answered on each side by itself. A provider that goes without saying goodbye is an error event and an
//! abnormal close code to the client, never a clean end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::Problem;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use llm::realtime::{ClientEvent, ServerEvent, client_event, error_event, server_event, server_usage};
use llm::{Failure, Usage};
use policy::{Ask, Permit, Target, Tools};
use tokio::sync::Mutex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Bytes, Message, Utf8Bytes};

use crate::admit::{Apart, Counts};
use crate::anomaly::{Actors, AnomalyError};
use crate::authenticate::Caller;
use crate::budget::{Spent, Stake, Tally};
use crate::endpoint::request_problem;
use crate::metrics::Label;
use crate::relay::draining_or_revoked;
use crate::settle::{Outcome, Receipt};
use crate::snapshot::Limits;
use crate::{Reservation, Shared, authorize};

/// How long a side may say nothing at all before it is pinged,
const PING: Duration = Duration::from_secs(30);
/// and before it is taken for gone.
const SILENCE: Duration = Duration::from_secs(90);
/// How long a side may take nothing of what is sent to it.
const BLOCKED: Duration = Duration::from_mins(1);
/// How long closing may take.
const CLOSING: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<net::Tunnel>;
type Sink = Mutex<SplitSink<Socket, Message>>;

/// A session that has been opened at a provider.
pub(crate) struct Session {
    upstream: net::Tunnel,
    rules: Rules,
    config: WebSocketConfig,
}

/// What holds for every event of a client's.
struct Rules {
    /// The model as the caller named it, and as its provider calls it.
    asked: String,
    model: String,
    /// The policy's bound on tokens generated, and what the provider calls it.
    bound: Option<u64>,
    bound_name: &'static str,
    json: llm::Limits,
}

/// Why a session is over.
#[derive(Debug)]
enum End {
    /// One side said goodbye.
    Closed(Option<CloseFrame>),
    /// The client does not go on.
    Client(Lost),
    /// The provider does not go on.
    Provider(Lost),
    /// This gateway ends it.
    Told(Problem),
}

/// What is wrong with a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// It is gone, or what it sends is no WebSocket's.
    Gone,
    /// It has said nothing for too long.
    Silent,
    /// It takes nothing.
    Blocked,
    /// It sent more at once than is taken.
    TooLarge,
    /// It sent what this API has no messages for.
    Binary,
}

impl End {
    /// A stable code, for records and in what the client is told.
    fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Closed(_) => None,
            Self::Client(Lost::Gone) => Some("client_gone"),
            Self::Client(Lost::Silent) => Some("client_silent"),
            Self::Client(Lost::Blocked) => Some("write_idle"),
            Self::Client(Lost::TooLarge) => Some("body_too_large"),
            Self::Client(Lost::Binary) => Some("invalid_request"),
            Self::Provider(Lost::Gone) => Some("upstream_cut"),
            Self::Provider(Lost::Silent | Lost::Blocked) => Some("body_idle_timeout"),
            Self::Provider(Lost::TooLarge) => Some("upstream_too_large"),
            Self::Provider(Lost::Binary) => Some("upstream_invalid_stream"),
            Self::Told(problem) => Some(problem.code),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("model", &self.rules.model).finish_non_exhaustive()
    }
}

impl Session {
    /// A session over `upstream` with the model `asked` for and as its provider calls it; `bound`: the policy's bound on
    /// tokens, and whether the session is of the beta API, which has another name for it.
    pub(super) fn new(
        upstream: net::Tunnel,
        (asked, model): (&str, String),
        (bound, beta): (Option<u64>, bool),
        limits: &Limits,
    ) -> Self {
        let bound_name = if beta { "max_response_output_tokens" } else { "max_output_tokens" };
        let rules = Rules { asked: asked.to_owned(), model, bound, bound_name, json: limits.json };
        let most = Some(limits.body);
        // Every event is written at once; what a peer has not taken yet is at most one message.
        let config = WebSocketConfig::default()
            .max_message_size(most)
            .max_frame_size(most)
            .read_buffer_size(16 * 1024)
            .write_buffer_size(0);
        Self { upstream, rules, config }
    }

    /// Carry events until one side, or this gateway, ends it.
    pub(crate) async fn run(self, client: net::Tunnel, mut receipt: Receipt, reservation: Option<Reservation>) {
        receipt.streaming();
        let client = WebSocketStream::from_raw_socket(client, Role::Server, Some(self.config)).await;
        let upstream = WebSocketStream::from_raw_socket(self.upstream, Role::Client, Some(self.config)).await;
        let ((to_client, from_client), (to_upstream, from_upstream)) = (client.split(), upstream.split());
        let (to_client, to_upstream) = (Mutex::new(to_client), Mutex::new(to_upstream));
        let (shared, caller) = (Arc::clone(receipt.shared()), receipt.caller().clone());
        let mut count = Count { stake: receipt.take_stake(), tally: receipt.tally(), ..Count::default() };
        let (provider, tag, asked) = (receipt.provider().clone(), receipt.tag(), AtomicU64::new(0));
        let gate = Gate { rules: &self.rules, shared: &shared, caller: &caller, provider, tag, asked };
        let end = if let Err(end) = gate.begin(&to_upstream).await {
            end
        } else {
            // What is revoked asks for nothing more, whatever the policy says of answers that have begun.
            tokio::select! {
                end = gate.upward(from_client, &to_client, &to_upstream) => end,
                end = downward(from_upstream, &to_client, (&mut count, &gate)) => end,
                end = keep_alive(&to_client, &to_upstream) => end,
                ending = draining_or_revoked(Arc::clone(&shared), caller.clone()) => End::Told(ending.problem()),
            }
        };
        receipt.sent(count.bytes);
        receipt.usage(count.usage);
        count.over();
        receipt.ended(end.reason().map_or(Outcome::Ok, Outcome::Cut));
        let _ = tokio::time::timeout(CLOSING, close(end, &to_client, &to_upstream)).await;
        drop((receipt, reservation));
    }
}

/// What a session took.
#[derive(Default)]
struct Count {
    usage: Usage,
    bytes: usize,
    /// What is held for the answer under way, or for the next.
    stake: Option<Stake>,
    /// Whether one is under way.
    answering: bool,
    answers: u64,
    tally: Arc<Tally>,
}

impl Count {
    /// An event of the provider's: an answer that is over is charged, and as much held for the next. There is none if that is
    /// not there.
    async fn hear(&mut self, text: &str, gate: &Gate<'_>) -> Result<(), End> {
        self.bytes = self.bytes.saturating_add(text.len());
        let usage = server_usage(text);
        if let Some(usage) = &usage {
            self.usage.add(usage);
        }
        if self.stake.is_none() {
            return Ok(());
        }
        let done = match server_event(text) {
            Some(ServerEvent::Begun) => {
                self.answering = true;
                return Ok(());
            }
            Some(ServerEvent::Done) => true,
            // What was heard is written down by another model, when it pleases.
            None => usage.is_some(),
        };
        if let Some(stake) = self.stake.take_if(|_| done) {
            self.answering = false;
            self.answers += 1;
            let ended = usage.is_some();
            let spent = Spent { usage: usage.unwrap_or_default(), ended };
            let next = stake.next(spent).await;
            let next = next.map_err(|error| End::Told(error.problem()));
            if let Err(end) = gate.spent(self.tally.untold()) {
                // There is to be no other answer.
                next.map(Stake::release)?;
                return Err(end);
            }
            self.stake = Some(next?);
        }
        Ok(())
    }

    /// The session is over.
    fn over(&mut self) {
        match self.stake.take() {
            // An answer under way costs nobody knows what.
            Some(stake) if self.answering => drop(stake),
            Some(stake) if self.answers == 0 => stake.give_back(),
            Some(stake) => stake.release(),
            None => {}
        }
    }
}

/// Where a client's events pass.
struct Gate<'a> {
    rules: &'a Rules,
    shared: &'a Arc<Shared>,
    caller: &'a Caller,
    /// Who answers.
    provider: Label,
    /// The tag its client gave it.
    tag: Option<Arc<str>>,
    /// Answers that the client has asked for and that are not over: any other its provider has begun by itself.
    asked: AtomicU64,
}

impl Gate<'_> {
    /// Bound answers that nobody asks for one by one: the provider's voice detection begins them by itself.
    async fn begin(&self, upstream: &Sink) -> Result<(), End> {
        let Some(bound) = self.rules.bound else { return Ok(()) };
        let kind = if self.rules.bound_name == "max_output_tokens" { "\"type\":\"realtime\"," } else { "" };
        let name = self.rules.bound_name;
        let update = format!("{{\"type\":\"session.update\",\"session\":{{{kind}\"{name}\":{bound}}}}}");
        send(upstream, Message::text(update)).await.map_err(End::Provider)
    }

    /// An answer is over and has cost so much. A caller that has become quite unlike itself, here or anywhere, is heard no further.
    fn spent(&self, nano: Option<i64>) -> Result<(), End> {
        let asked = |asked: u64| asked.checked_sub(1);
        if self.asked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, asked).is_err() {
            self.asks().map_err(End::Told)?;
        }
        let (watch, now) = (&self.shared.watch, self.shared.clock.now());
        if let Some(nano) = nano {
            let rules = &self.shared.snapshot.load().anomaly;
            watch.spent(rules, (self.caller, &Actors::of(self.caller, rules)), (nano, now));
        }
        watch.check(self.caller, now).map_err(|error| End::Told(error.problem()))
    }

    /// An answer counts as any other request of the caller's.
    fn asks(&self) -> Result<(), Problem> {
        let (watch, now) = (&self.shared.watch, self.shared.clock.now());
        let rules = &self.shared.snapshot.load().anomaly;
        let actors = Actors::of(self.caller, rules);
        let asks = || watch.asks(rules, (self.caller, &actors), (Some(self.rules.asked.as_str()), now));
        watch.check(self.caller, now).and_then(|()| asks()).map_err(AnomalyError::problem)
    }

    /// The client's events, to the provider.
    async fn upward(&self, mut from: SplitStream<Socket>, client: &Sink, upstream: &Sink) -> End {
        loop {
            let text = match next(&mut from).await {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(frame)) => return End::Closed(frame),
                Ok(Message::Binary(_)) => return End::Client(Lost::Binary),
                Ok(_) => continue,
                Err(lost) => return End::Client(lost),
            };
            match self.judge(text).await {
                Ok(text) => {
                    if let Err(lost) = send(upstream, Message::Text(text)).await {
                        return End::Provider(lost);
                    }
                }
                Err((problem, event)) => {
                    self.shared.metrics.blocked(problem.code);
                    let told = error_event(&Failure::from(&*problem), event.as_deref());
                    if let Err(lost) = send(client, Message::text(told)).await {
                        return End::Client(lost);
                    }
                }
            }
        }
    }

    /// An event as it goes on, or why it does not, with its id.
    async fn judge(&self, text: Utf8Bytes) -> Result<Utf8Bytes, (Box<Problem>, Option<String>)> {
        let event = client_event(&text, &self.rules.json).map_err(|error| (Box::new(request_problem(&error)), None))?;
        if let Some(permit) = self.permit(&event).map_err(|problem| (problem, event.id.clone()))? {
            self.asks().map_err(|problem| (Box::new(problem), event.id.clone()))?;
            let apart = Apart::of(&permit, (&self.shared.snapshot.load(), self.caller), self.tag.as_deref());
            let counts = Counts::new(self.caller, apart.as_deref()).within(self.provider.as_str());
            let again = self.shared.limiter.again(&permit, counts, self.shared.clock.monotonic());
            again.await.map_err(|error| (Box::new(error.problem()), event.id.clone()))?;
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        let bound = self.rules.bound.map(|bound| (self.rules.bound_name, bound));
        let spliced = event.splice(&text, &self.rules.model, bound.filter(|_| event.asks() || event.configures()));
        Ok(match spliced {
            std::borrow::Cow::Borrowed(_) => text,
            std::borrow::Cow::Owned(changed) => Utf8Bytes::from(changed),
        })
    }

    /// Ask the policies in force now for whatever the event would have the provider do. The permit is of an answer it asks for,
    /// to be counted.
    fn permit(&self, event: &ClientEvent) -> Result<Option<Permit>, Box<Problem>> {
        let refused = |refusal: crate::problem::Refusal| Box::new(refusal.problem().clone());
        if event.model.as_ref().is_some_and(|model| *model != self.rules.asked && *model != self.rules.model) {
            let message = "A session keeps the model it was opened with.";
            return Err(Box::new(Problem::client(StatusCode::BAD_REQUEST, "invalid_request", message).param("model")));
        }
        let decides = event.asks() || event.configures() || event.has_tools || !event.other_models.is_empty();
        if !decides {
            return Ok(None);
        }
        let snapshot = self.shared.snapshot.load();
        let at = self.shared.clock.now();
        let tools = if event.has_tools { Tools::Named(&event.tool_names) } else { Tools::None };
        let most = event.max_output_tokens;
        let ask = |model| Ask { max_output_tokens: most, tools, ..Ask::new(Target::Model(model), at) };
        let permit = authorize::permit(&snapshot, self.caller, &ask(self.rules.asked.as_str())).map_err(refused)?;
        for other in &event.other_models {
            let _also = authorize::permit(&snapshot, self.caller, &ask(other.as_str())).map_err(refused)?;
        }
        Ok(event.asks().then_some(permit))
    }
}

/// The provider's events, to the client.
async fn downward(mut from: SplitStream<Socket>, client: &Sink, (count, gate): (&mut Count, &Gate<'_>)) -> End {
    loop {
        match next(&mut from).await {
            Ok(Message::Text(text)) => {
                let heard = count.hear(&text, gate).await;
                if let Err(lost) = send(client, Message::Text(text)).await {
                    return End::Client(lost);
                }
                if let Err(end) = heard {
                    return end;
                }
            }
            Ok(Message::Close(frame)) => return End::Closed(frame),
            Ok(Message::Binary(_)) => return End::Provider(Lost::Binary),
            Ok(_) => {}
            Err(lost) => return End::Provider(lost),
        }
    }
}

/// The next message of a side that is alive.
async fn next(from: &mut SplitStream<Socket>) -> Result<Message, Lost> {
    match tokio::time::timeout(SILENCE, from.next()).await {
        Ok(Some(Ok(message))) => Ok(message),
        Ok(Some(Err(tungstenite::Error::Capacity(_)))) => Err(Lost::TooLarge),
        Ok(Some(Err(_)) | None) => Err(Lost::Gone),
        Err(_) => Err(Lost::Silent),
    }
}

async fn send(to: &Sink, message: Message) -> Result<(), Lost> {
    let sent = async { to.lock().await.send(message).await };
    match tokio::time::timeout(BLOCKED, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Lost::Gone),
        Err(_) => Err(Lost::Blocked),
    }
}

/// Ping both sides now and then, so that one that is gone without a word is noticed.
async fn keep_alive(client: &Sink, upstream: &Sink) -> End {
    loop {
        tokio::time::sleep(PING).await;
        if let Err(lost) = send(client, Message::Ping(Bytes::new())).await {
            return End::Client(lost);
        }
        if let Err(lost) = send(upstream, Message::Ping(Bytes::new())).await {
            return End::Provider(lost);
        }
    }
}

/// Tell both sides that it is over, and why.
async fn close(end: End, client: &Sink, upstream: &Sink) {
    let frame = |code, reason: &'static str| Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) });
    let reason = end.reason().unwrap_or_default();
    let (event, to_client, to_upstream) = match end {
        // Codes that only say what happened to a connection are never sent (RFC 6455 section 7.4.1).
        End::Closed(said) => {
            let said = said.filter(|frame| frame.code.is_allowed());
            (None, said.clone(), said)
        }
        End::Client(lost) => {
            let code = match lost {
                Lost::TooLarge => CloseCode::Size,
                Lost::Binary => CloseCode::Unsupported,
                Lost::Gone | Lost::Silent | Lost::Blocked => CloseCode::Away,
            };
            (None, frame(code, reason), frame(CloseCode::Normal, ""))
        }
        End::Provider(_) => {
            let failure = Failure { code: Some(reason.to_owned()), ..Failure::cut() };
            (Some(failure), frame(CloseCode::Error, reason), frame(CloseCode::Normal, ""))
        }
        End::Told(problem) => {
            let stopping = problem.status == StatusCode::SERVICE_UNAVAILABLE;
            let code = if stopping { CloseCode::Restart } else { CloseCode::Policy };
            (Some(Failure::from(&problem)), frame(code, reason), frame(CloseCode::Normal, ""))
        }
    };
    let telling = async {
        if let Some(failure) = event {
            let _ = send(client, Message::text(error_event(&failure, None))).await;
        }
        let _ = send(client, Message::Close(to_client)).await;
    };
    tokio::join!(telling, async {
        let _ = send(upstream, Message::Close(to_upstream)).await;
    });
}

//! `/v1/chat/completions`, `/v1/messages` and Gemini's `:generateContent`: the same dialect passes through byte for byte, another is
//! translated.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use llm::catalogue::Overflow;
use llm::passthrough::{CapName, Edits, Peek, StreamTap, peek, peek_response};
use llm::{Dialect, Options, RequestError, Translation};
use net::UpstreamBody;
use policy::{Ask, Permit, Target, Tools};

use super::attempts::mirror::{Copied, MOST_HELD};
use super::attempts::{self, Exchange, Failed, Prepared};
use super::cached::{self, Looked};
use super::within::{self, Makes};
use super::{Answered, Asked, gemini, native, request_problem};
use crate::Reservation;
use crate::authorize;
use crate::budget::{Load, Tokens};
use crate::objects::Holder;
use crate::problem::Refusal;
use crate::relay::{Answer, Content, Watched};
use crate::route::{self, Facts};
use crate::settle::{Leg, Outcome, Receipt};
use crate::snapshot::{Provider, Snapshot};
use crate::upstream::{self, UpstreamError};

/// Answer a request in `dialect`.
pub(crate) async fn answer(
    asked: Asked<'_>,
    (dialect, path): (Dialect, Option<&gemini::Path>),
    receipt: &mut Receipt,
) -> Answered {
    let limits = json_limits(asked.snapshot, dialect);
    let seen = peek(dialect, &asked.body, &limits).and_then(|seen| match path {
        Some(path) => seen.with_path(&path.model, path.stream),
        None => Ok(seen),
    });
    let seen = seen.map_err(|error| Refusal::from(request_problem(&error)))?;
    let permit = permit(asked.snapshot, &seen, receipt)?;
    let admitted = receipt.admit(permit).await?;
    let plan = route::plan(asked.snapshot, admitted.permit(), &seen.model).map_err(|unknown| unknown.problem())?;
    receipt.model(&seen.model, plan.label());
    let holders = native::check_references(&plan, &asked.body, receipt).await?;
    let inference = Inference {
        dialect,
        head: &asked.head.headers,
        body: &asked.body,
        seen: &seen,
        holders: holders.as_deref(),
        drops: plan.drops_unsupported(),
        limit: asked.snapshot.limits.response_body,
        now: u64::try_from(receipt.at().as_secs()).unwrap_or(0),
    };
    let about = (dialect, &seen, holders.is_some());
    let (mut answer, reservation) = match cached::look(&asked, about, &admitted, receipt).await {
        Looked::Found(answer) => cached::paid(*answer, (asked.snapshot, &seen.model, None), admitted, receipt).await?,
        looked => {
            let (answer, reservation) = attempts::run(&inference, &plan, admitted, receipt).await?;
            (looked.keep(answer), reservation)
        }
    };
    if dialect == Dialect::Gemini && !gemini::wants_events(asked.head.uri.query()) {
        answer = gemini::as_array(answer);
    }
    Ok((answer, Some(reservation)))
}

/// Lists of tokens to be embedded are long.
pub(super) fn json_limits(snapshot: &Snapshot, dialect: Dialect) -> llm::Limits {
    let limits = snapshot.limits.json;
    match dialect {
        Dialect::OpenAiEmbeddings => llm::Limits { nodes: limits.nodes.max(llm::Limits::EMBEDDINGS.nodes), ..limits },
        _ => limits,
    }
}

/// Ask for the model, and for every other model the request would have the provider use.
fn permit(snapshot: &Snapshot, seen: &Peek, receipt: &mut Receipt) -> Result<Permit, Refusal> {
    let tools = if seen.has_tools { Tools::Named(&seen.tool_names) } else { Tools::None };
    let most = seen.max_output_tokens.map(|each| each.saturating_mul(seen.answers.max(1)));
    let at = receipt.at();
    let ask = |model| Ask { max_output_tokens: most, tools, ..Ask::new(Target::Model(model), at) };
    let permit = authorize::permit(snapshot, receipt.caller(), &ask(seen.model.as_str()))?;
    for other in &seen.other_models {
        let _also = authorize::permit(snapshot, receipt.caller(), &ask(other.as_str()))?;
    }
    receipt.permitted(permit.policy());
    Ok(permit)
}

struct Inference<'a> {
    dialect: Dialect,
    head: &'a HeaderMap,
    body: &'a Bytes,
    seen: &'a Peek,
    /// The providers that hold all that the request names, if it names anything stored.
    holders: Option<&'a [Holder]>,
    /// Whether what a target cannot express may be left out.
    drops: bool,
    limit: usize,
    now: u64,
}

impl Inference<'_> {
    fn prepared<S>(
        &self,
        provider: &Provider,
        model: &str,
        body: Vec<u8>,
        sent: (Dialect, S),
    ) -> Result<Prepared<(Dialect, S)>, RequestError> {
        let path = attempts::path(provider, sent.0, (model, self.seen.stream))?;
        let body = Bytes::from(provider.body(sent.0, body)?);
        let content = upstream::Content::json(body, self.seen.stream.then(|| sent.0.framing()));
        Ok(Prepared { path, content, sent })
    }
}

/// How a request was translated, and what was left out of it.
pub(super) struct Translated {
    translation: Translation,
    omitted: Vec<String>,
}

impl Translated {
    /// Tell the caller, and whoever reads the log, what was left out.
    fn told(self, headers: &mut HeaderMap, leg: &mut Leg) -> Translation {
        let names = Some(self.omitted.join(", ")).filter(|names| !names.is_empty());
        if let Some(value) = names.as_deref().and_then(|names| HeaderValue::try_from(names).ok()) {
            headers.insert(HeaderName::from_static("x-vouchgate-dropped"), value);
        }
        leg.dropped(names);
        self.translation
    }
}

impl Exchange for Inference<'_> {
    type Sent = (Dialect, Option<Translated>);

    fn streams(&self) -> bool {
        self.seen.stream
    }

    fn stores(&self, provider: &Provider, model: &str) -> bool {
        let own = provider.speaks(self.dialect, model) == self.dialect;
        let store = || self.facts().parsed().get("store").and_then(serde_json::Value::as_bool);
        // What is translated is never kept.
        own && store().unwrap_or(self.dialect == Dialect::OpenAiResponses)
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            streamed: self.seen.stream,
            tools: Some(self.seen.has_tools),
            output: self.seen.max_output_tokens,
            ..Facts::new(self.head, self.body)
        }
    }

    fn makes(&self, (spoken, translation): &Self::Sent) -> Option<Makes> {
        if translation.is_some() { None } else { within::may_make(*spoken, self.seen) }
    }

    fn head(&self) -> &HeaderMap {
        self.head
    }

    fn holders(&self) -> Option<&[Holder]> {
        self.holders
    }

    fn copied(&self) -> Option<Copied> {
        let (head, body, seen) = (self.head.clone(), self.body.clone(), self.seen.clone());
        let (dialect, drops, now, limit) = (self.dialect, self.drops, self.now, self.limit.min(MOST_HELD));
        Some(Box::new(move |mirror| {
            async move {
                let (head, body, seen) = (&head, &body, &seen);
                mirror.made(&Inference { dialect, head, body, seen, holders: None, drops, limit, now }).await;
            }
            .boxed()
        }))
    }

    fn repeatable(&self) -> bool {
        super::repeat::is_harmless(self.dialect, self.seen, self.body)
    }

    fn text(&self) -> Option<Bytes> {
        Some(self.body.clone())
    }

    fn load(&self) -> Load {
        Load::Tokens(Tokens::seen(self.seen))
    }

    fn prepare(
        &self,
        provider: &Provider,
        model: &str,
        reservation: &Reservation,
    ) -> Result<Prepared<Self::Sent>, RequestError> {
        if !provider.chats() {
            return Err(super::no_endpoint());
        }
        if let Some(Overflow { at_least, limit }) = provider.overflow(model, self.body) {
            return Err(RequestError::TooLong { at_least, limit });
        }
        let spoken = provider.speaks(self.dialect, model);
        let flavour = provider.flavour(model);
        let edits = Edits {
            model: Some(provider.called(model)),
            include_usage: provider.takes_stream_options(model),
            max_output_tokens: reservation
                .max_output_tokens(provider.name.as_str(), model)
                .filter(|_| self.seen.max_output_tokens.is_none()),
            cap_name: CapName::from(flavour),
        };
        if spoken == self.dialect {
            let body = self.seen.splice(self.dialect, self.body, &edits);
            return self.prepared(provider, model, body, (spoken, None));
        }
        let options = Options { flavour, stream: self.seen.stream, now: self.now, ..Options::default() };
        let translation = Translation::new(self.dialect, spoken, options).ok_or_else(super::no_endpoint)?.naming(model);
        let translation = translation.answering(self.body);
        let (body, omitted) = if self.drops {
            translation.lenient_request(self.body, &edits)?
        } else {
            (translation.request(self.body, &edits)?, Vec::new())
        };
        self.prepared(provider, model, body, (spoken, Some(Translated { translation, omitted })))
    }

    fn echo(&self, reservation: &Reservation, receipt: &mut Receipt) -> Result<Answer, Failed> {
        super::echo::answer(self.dialect, (self.body, self.seen), reservation.permit().max_output_tokens(), receipt)
    }

    async fn finish(
        &self,
        response: Response<UpstreamBody>,
        (spoken, translation): Self::Sent,
        leg: &mut Leg,
    ) -> Result<Answer, Failed> {
        let (head, mut body) = response.into_parts();
        let status = head.status;
        let mut headers = upstream::returned(&head.headers);
        let mut ready = VecDeque::new();
        let labelled = upstream::framing(&head.headers);
        if status.is_success() && labelled.is_some_and(|framing| !spoken.comes_in(framing)) {
            return Err(UpstreamError::Kind.into());
        }
        let mut streamed = labelled.is_some();
        if self.seen.stream && status.is_success() && !streamed {
            // Some servers stream and call it JSON.
            ready = upstream::first_piece(&mut body).await?.into_iter().collect();
            streamed = ready.front().is_some_and(|first| upstream::begins_events(spoken.framing(), first));
        }
        let translation = translation.map(|translated| translated.told(&mut headers, leg));
        if translation.is_some() || (streamed && labelled.is_none()) {
            headers.remove(header::CONTENT_TYPE);
        }
        match translation {
            None if streamed && status.is_success() => {
                let strip = self.seen.stream && !self.seen.include_usage;
                let pipe = Watched::new(StreamTap::new(self.dialect, strip));
                Ok(Answer::events(headers, Content::Stream(ready, body, Box::new(pipe))))
            }
            None => {
                let bytes = upstream::read(ready.pop_front(), body, self.limit).await?;
                let outcome = if status.is_success() { Outcome::Ok } else { Outcome::ProviderError };
                if status.is_success() {
                    let answer = peek_response(self.dialect, &bytes);
                    // A page of something that stands in the provider's place is no answer.
                    if !answer.is_object {
                        return Err(UpstreamError::Kind.into());
                    }
                    leg.usage(answer.usage);
                }
                Ok(Answer { status, headers, content: Content::Whole(bytes, outcome) })
            }
            Some(_) if status.is_success() && streamed != self.seen.stream => Err(UpstreamError::Kind.into()),
            Some(translation) if status.is_success() && streamed => {
                let framing = labelled.unwrap_or(spoken.framing());
                let pipe = translation.framed_stream(framing, self.seen.include_usage);
                Ok(Answer::events(headers, Content::Stream(ready, body, Box::new(pipe))))
            }
            Some(translation) => {
                let bytes = upstream::read(ready.pop_front(), body, self.limit).await?;
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                if !status.is_success() {
                    let error = Bytes::from(translation.named_error(
                        status.as_u16(),
                        upstream::error_type(&head.headers),
                        &bytes,
                    ));
                    return Ok(Answer { status, headers, content: Content::Whole(error, Outcome::ProviderError) });
                }
                let answer = translation.response(&bytes).map_err(UpstreamError::from)?;
                leg.usage(answer.usage);
                let content = Content::Whole(Bytes::from(answer.body), Outcome::Ok);
                Ok(Answer { status, headers, content })
            }
        }
    }
}

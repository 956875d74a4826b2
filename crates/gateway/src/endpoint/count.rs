//! `/v1/messages/count_tokens`, `/v1/responses/input_tokens` and Google's `:countTokens`: how large a request is. Nothing is generated and nothing is charged.

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderMap, HeaderValue};
use llm::count::{self, Surface};
use llm::embeddings::{Named, named};
use llm::passthrough::{Edits, Peek, peek, peek_response};
use llm::{Dialect, Failure, RequestError, error_body, provider_error};
use net::UpstreamBody;
use policy::{Ask, Target, Tools};

use super::attempts::{self, Exchange, Failed, Prepared};
use super::within::Makes;
use super::{Answered, Asked, native, request_problem};
use crate::Reservation;
use crate::authorize;
use crate::budget::Load;
use crate::objects::Holder;
use crate::problem::Refusal;
use crate::relay::{Answer, Content};
use crate::route;
use crate::settle::{Leg, Outcome, Receipt};
use crate::snapshot::Provider;
use crate::upstream::{self, UpstreamError};

/// What was seen of a request before anybody decided on it.
struct Seen {
    peek: Peek,
    /// The request that is to be counted, where it stands inside another.
    inner: Option<Vec<u8>>,
    /// Where Google's form names the model.
    named: Option<Named>,
}

impl Seen {
    fn read(client: Dialect, path: Option<&str>, asked: &Asked<'_>) -> Result<Self, RequestError> {
        let limits = &asked.snapshot.limits.json;
        let inner = count::inner(client, &asked.body, limits)?;
        let peek = peek(client, inner.as_deref().unwrap_or(&asked.body), limits)?;
        let Some(model) = path else { return Ok(Self { peek, inner, named: None }) };
        let named = Some(named(&asked.body, model, limits)?);
        Ok(Self { peek: peek.with_path(model, false)?, inner, named })
    }
}

/// Answer a request of `client`; `path` is the model that Google's form has in its path.
pub(crate) async fn answer(asked: Asked<'_>, client: Dialect, path: Option<&str>, receipt: &mut Receipt) -> Answered {
    let seen = Seen::read(client, path, &asked).map_err(|error| Refusal::from(request_problem(&error)))?;
    let model = seen.peek.model.as_str();
    let tools = if seen.peek.has_tools { Tools::Named(&seen.peek.tool_names) } else { Tools::None };
    let ask = Ask { tools, ..Ask::new(Target::Model(model), receipt.at()) };
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &ask)?;
    receipt.permitted(permit.policy());
    let admitted = receipt.admit(permit).await?;
    let plan = route::plan(asked.snapshot, admitted.permit(), model).map_err(|unknown| unknown.problem())?;
    receipt.model(model, plan.label());
    let holders = native::check_references(&plan, &asked.body, receipt).await?;
    let call = Counting {
        client,
        head: &asked.head.headers,
        body: &asked.body,
        seen: &seen,
        holders: holders.as_deref(),
        limit: asked.snapshot.limits.response_body,
    };
    let (answer, reservation) = attempts::run(&call, &plan, admitted, receipt).await?;
    Ok((answer, Some(reservation)))
}

struct Counting<'a> {
    client: Dialect,
    head: &'a HeaderMap,
    body: &'a Bytes,
    seen: &'a Seen,
    holders: Option<&'a [Holder]>,
    limit: usize,
}

impl Exchange for Counting<'_> {
    /// How the provider counts, if not as the client asks.
    type Sent = Option<Surface>;

    fn streams(&self) -> bool {
        false
    }

    fn makes(&self, _: &Self::Sent) -> Option<Makes> {
        None
    }

    fn head(&self) -> &HeaderMap {
        self.head
    }

    fn holders(&self) -> Option<&[Holder]> {
        self.holders
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn load(&self) -> Load {
        Load::Free
    }

    fn prepare(&self, provider: &Provider, model: &str, _: &Reservation) -> Result<Prepared<Self::Sent>, RequestError> {
        let (surface, path) = provider.counts(model).ok_or_else(super::no_endpoint)?;
        let called = provider.called(model);
        let (body, sent) = match (self.client, surface, &self.seen.named) {
            (Dialect::AnthropicMessages, Surface::Anthropic, _) => {
                let edits = Edits { model: Some(called), ..Edits::default() };
                (self.seen.peek.splice(Dialect::AnthropicMessages, self.body, &edits), None)
            }
            (Dialect::OpenAiResponses, Surface::OpenAi, _) => {
                let edits = Edits { model: Some(called), ..Edits::default() };
                (self.seen.peek.splice(Dialect::OpenAiResponses, self.body, &edits), None)
            }
            (Dialect::Gemini, Surface::Gemini, Some(named)) => (named.set(self.body, called), None),
            (client, surface, _) => {
                let counted = self.seen.inner.as_deref().unwrap_or(self.body);
                (count::request(client, counted, surface, called)?, Some(surface))
            }
        };
        Ok(Prepared { path, content: upstream::Content::json(Bytes::from(body), None), sent })
    }

    fn echo(&self, _: &Reservation, _: &mut Receipt) -> Result<Answer, Failed> {
        let counted = self.seen.inner.as_deref().unwrap_or(self.body);
        let tokens = llm::echo::count(self.client, counted).map_err(Failed::Request)?;
        Ok(Answer::json(count::answer(self.client, tokens)))
    }

    async fn finish(&self, response: Response<UpstreamBody>, sent: Self::Sent, _: &mut Leg) -> Result<Answer, Failed> {
        let (head, body) = response.into_parts();
        let status = head.status;
        let mut headers = upstream::returned(&head.headers);
        let bytes = upstream::read(None, body, self.limit).await?;
        let outcome = if status.is_success() { Outcome::Ok } else { Outcome::ProviderError };
        let Some(surface) = sent else {
            if status.is_success() && !peek_response(self.client, &bytes).is_object {
                return Err(UpstreamError::Kind.into());
            }
            return Ok(Answer { status, headers, content: Content::Whole(bytes, outcome) });
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let told = if status.is_success() {
            count::answer(self.client, count::read(surface, &bytes).map_err(UpstreamError::from)?)
        } else {
            error_body(self.client, &Failure::from(&provider_error(status.as_u16(), &bytes)))
        };
        Ok(Answer { status, headers, content: Content::Whole(Bytes::from(told), outcome) })
    }
}

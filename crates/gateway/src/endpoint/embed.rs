//! `/v1/embeddings`, and Google's `:embedContent` and `:batchEmbedContents`: the same form passes through byte for byte, another
//! is translated.

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use llm::embeddings::{Client, Embed, Named, Surface, is_voyages, named};
use llm::passthrough::{Edits, Peek, peek, peek_response};
use llm::{Dialect, Limits, RequestError, Usage};
use net::UpstreamBody;
use policy::{Ask, Target};

use super::attempts::mirror::{Copied, MOST_HELD};
use super::attempts::{self, Exchange, Failed, Prepared};
use super::cached::{self, Looked};
use super::within::Makes;
use super::{Answered, Asked, inference, native, request_problem};
use crate::Reservation;
use crate::authorize;
use crate::budget::{Load, Tokens};
use crate::objects::Holder;
use crate::problem::Refusal;
use crate::relay::{Answer, Content};
use crate::route::{self, Facts};
use crate::settle::{Leg, Outcome, Receipt};
use crate::snapshot::Provider;
use crate::upstream::{self, UpstreamError};

/// What was seen of a request before anybody decided on it.
#[derive(Clone)]
pub(super) enum Seen {
    OpenAi(Box<Peek>),
    Gemini(Named),
}

/// Answer a request of `client`; `path` is the model that Google's form has in its path.
pub(crate) async fn answer(asked: Asked<'_>, client: Client, path: Option<&str>, receipt: &mut Receipt) -> Answered {
    let limits = inference::json_limits(asked.snapshot, Dialect::OpenAiEmbeddings);
    let seen = match path {
        None => peek(Dialect::OpenAiEmbeddings, &asked.body, &limits).map(|seen| Seen::OpenAi(Box::new(seen))),
        Some(model) => named(&asked.body, model, &limits).map(Seen::Gemini),
    };
    let seen = seen.map_err(|error| Refusal::from(request_problem(&error)))?;
    let model = match (&seen, path) {
        (Seen::OpenAi(seen), _) => seen.model.as_str(),
        (Seen::Gemini(_), path) => path.unwrap_or_default(),
    };
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &Ask::new(Target::Model(model), receipt.at()))?;
    receipt.permitted(permit.policy());
    let admitted = receipt.admit(permit).await?;
    let plan = route::plan(asked.snapshot, admitted.permit(), model).map_err(|unknown| unknown.problem())?;
    receipt.model(model, plan.label());
    let holders = native::check_references(&plan, &asked.body, receipt).await?;
    let call = Embedding {
        client,
        head: &asked.head.headers,
        body: &asked.body,
        seen: &seen,
        model,
        holders: holders.as_deref(),
        limits,
        limit: asked.snapshot.limits.response_body,
    };
    let Seen::OpenAi(peeked) = &seen else {
        let (answer, reservation) = attempts::run(&call, &plan, admitted, receipt).await?;
        return Ok((answer, Some(reservation)));
    };
    let about = (Dialect::OpenAiEmbeddings, peeked.as_ref(), holders.is_some());
    let (answer, reservation) = match cached::look(&asked, about, &admitted, receipt).await {
        Looked::Found(answer) => cached::paid(*answer, (asked.snapshot, model, None), admitted, receipt).await?,
        looked => {
            let (answer, reservation) = attempts::run(&call, &plan, admitted, receipt).await?;
            (looked.keep(answer), reservation)
        }
    };
    Ok((answer, Some(reservation)))
}

/// A request for embeddings, of a caller or of this gateway's own.
pub(super) struct Embedding<'a> {
    pub(super) client: Client,
    pub(super) head: &'a HeaderMap,
    pub(super) body: &'a Bytes,
    pub(super) seen: &'a Seen,
    pub(super) model: &'a str,
    pub(super) holders: Option<&'a [Holder]>,
    pub(super) limits: Limits,
    pub(super) limit: usize,
}

impl Embedding<'_> {
    fn read(&self) -> Result<Embed, RequestError> {
        Embed::read(self.client, self.body, &self.limits)
    }
}

impl Exchange for Embedding<'_> {
    /// What was translated, and into what; nothing, if the provider speaks as the client does.
    type Sent = Option<(Embed, Surface)>;

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

    fn facts(&self) -> Facts<'_> {
        Facts { tools: Some(false), ..Facts::new(self.head, self.body) }
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn copied(&self) -> Option<Copied> {
        let (head, body, seen, model) =
            (self.head.clone(), self.body.clone(), self.seen.clone(), self.model.to_owned());
        let (client, limits, limit) = (self.client, self.limits, self.limit.min(MOST_HELD));
        Some(Box::new(move |mirror| {
            async move {
                let (head, body, seen, model) = (&head, &body, &seen, &*model);
                mirror.made(&Embedding { client, head, body, seen, model, holders: None, limits, limit }).await;
            }
            .boxed()
        }))
    }

    fn text(&self) -> Option<Bytes> {
        Some(self.body.clone())
    }

    fn load(&self) -> Load {
        Load::Tokens(Tokens::read(self.body))
    }

    fn prepare(&self, provider: &Provider, model: &str, _: &Reservation) -> Result<Prepared<Self::Sent>, RequestError> {
        let batch = self.client != Client::Gemini;
        let (surface, path) = provider.embeds(model, batch).ok_or_else(super::no_endpoint)?;
        let model = provider.called(model);
        let (body, sent) = match (self.seen, surface) {
            (Seen::OpenAi(seen), Surface::OpenAi) => {
                let edits = Edits { model: Some(model), ..Edits::default() };
                (seen.splice(Dialect::OpenAiEmbeddings, self.body, &edits), None)
            }
            (Seen::OpenAi(seen), Surface::Voyage) if is_voyages(self.body, &self.limits) => {
                let edits = Edits { model: Some(model), ..Edits::default() };
                (seen.splice(Dialect::OpenAiEmbeddings, self.body, &edits), None)
            }
            (Seen::Gemini(named), Surface::Gemini) => (named.set(self.body, model), None),
            (_, surface) => {
                let embed = self.read()?;
                (embed.write(surface, model)?, Some((embed, surface)))
            }
        };
        Ok(Prepared { path, content: upstream::Content::json(Bytes::from(body), None), sent })
    }

    fn echo(&self, _: &Reservation, receipt: &mut Receipt) -> Result<Answer, Failed> {
        let now = u64::try_from(receipt.at().as_secs()).unwrap_or(0);
        let id = receipt.id();
        let complete = |body: &[u8]| llm::echo::complete(Dialect::OpenAiEmbeddings, body, id.as_str(), now);
        let answer = match self.seen {
            Seen::OpenAi(_) => complete(self.body).map_err(Failed::Request)?,
            Seen::Gemini(_) => {
                let embed = self.read().map_err(Failed::Request)?;
                let asked = embed.write(Surface::OpenAi, config::ECHO_MODEL).map_err(Failed::Request)?;
                let made = complete(&asked).map_err(Failed::Request)?;
                embed.answer(Surface::OpenAi, &made.body, self.model, None).map_err(UpstreamError::from)?
            }
        };
        receipt.usage(answer.usage);
        Ok(Answer::json(answer.body))
    }

    async fn finish(
        &self,
        response: Response<UpstreamBody>,
        sent: Self::Sent,
        leg: &mut Leg,
    ) -> Result<Answer, Failed> {
        let (head, body) = response.into_parts();
        let status = head.status;
        if status.is_success() && upstream::is_event_stream(&head.headers) {
            return Err(UpstreamError::Kind.into());
        }
        let mut headers = upstream::returned(&head.headers);
        let bytes = upstream::read(None, body, self.limit).await?;
        let Some((embed, surface)) = sent else {
            let outcome = if status.is_success() { Outcome::Ok } else { Outcome::ProviderError };
            if status.is_success() {
                let answer = peek_response(self.client.dialect(), &bytes);
                // A page of something that stands in the provider's place is no answer.
                if !answer.is_object {
                    return Err(UpstreamError::Kind.into());
                }
                // Voyage counts the whole only.
                let input_tokens = answer.usage.input_tokens.or(answer.usage.total_tokens);
                leg.usage(Usage { input_tokens, ..answer.usage });
            }
            return Ok(Answer { status, headers, content: Content::Whole(bytes, outcome) });
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if !status.is_success() {
            let error = Bytes::from(self.client.error(status.as_u16(), &bytes));
            return Ok(Answer { status, headers, content: Content::Whole(error, Outcome::ProviderError) });
        }
        // Amazon tells of some models' tokens there only.
        let told =
            head.headers.get("x-amzn-bedrock-input-token-count").and_then(|value| value.to_str().ok()?.parse().ok());
        let answer = embed.answer(surface, &bytes, self.model, told).map_err(UpstreamError::from)?;
        leg.usage(answer.usage);
        let content = Content::Whole(Bytes::from(answer.body), Outcome::Ok);
        Ok(Answer { status: StatusCode::OK, headers, content })
    }
}

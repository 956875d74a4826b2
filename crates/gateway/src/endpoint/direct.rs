//! `/v1/completions`, `/v1/moderations`, `/v1/images/...` and `/v1/audio/...`: one form each, which every provider that has
//! them takes as it is. Only the model's name is set, in JSON or in a form; everything else passes byte for byte.

pub(super) mod load;
mod pipe;

use std::collections::VecDeque;

use base::Problem;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use llm::passthrough::{CapName, Edits, Form, Peek, StreamTap, media_usage, peek, peek_completions, peek_or};
use llm::{Framing, RequestError};
use net::UpstreamBody;
use policy::{Ask, Target, Tools};

use self::pipe::Large;
use super::attempts::{self, Exchange, Failed, Prepared};
use super::within::Makes;
use super::{Answered, Asked, native, request_problem};
use crate::Reservation;
use crate::authorize;
use crate::budget::{Load, Tokens};
use crate::edge;
use crate::objects::{self, Holder};
use crate::problem::Refusal;
use crate::relay::{Answer, Content, Opaque, Watched};
use crate::route;
use crate::settle::{Leg, Outcome, Receipt};
use crate::snapshot::Provider;
use crate::upstream::{self, UpstreamError};

/// One of the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direct {
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/responses/compact`
    Compact,
    /// `POST /v1/moderations`
    Moderations,
    /// `POST /v1/images/generations`
    ImageGenerations,
    /// `POST /v1/images/edits`
    ImageEdits,
    /// `POST /v1/images/variations`
    ImageVariations,
    /// `POST /v1/audio/speech`
    Speech,
    /// `POST /v1/audio/transcriptions`
    Transcriptions,
    /// `POST /v1/audio/translations`
    Translations,
}

impl Direct {
    const ALL: [Self; 9] = [
        Self::Completions,
        Self::Compact,
        Self::Moderations,
        Self::ImageGenerations,
        Self::ImageEdits,
        Self::ImageVariations,
        Self::Speech,
        Self::Transcriptions,
        Self::Translations,
    ];

    /// The endpoint at this path.
    pub(crate) fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|direct| direct.path() == path)
    }

    /// Its path, here and (but for the version) at every provider.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Completions => "/v1/completions",
            Self::Compact => "/v1/responses/compact",
            Self::Moderations => "/v1/moderations",
            Self::ImageGenerations => "/v1/images/generations",
            Self::ImageEdits => "/v1/images/edits",
            Self::ImageVariations => "/v1/images/variations",
            Self::Speech => "/v1/audio/speech",
            Self::Transcriptions => "/v1/audio/transcriptions",
            Self::Translations => "/v1/audio/translations",
        }
    }

    /// A short stable name for metrics and records.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Compact => "responses",
            Self::Moderations => "moderations",
            Self::ImageGenerations | Self::ImageEdits | Self::ImageVariations => "images",
            Self::Speech => "speech",
            Self::Transcriptions | Self::Translations => "transcriptions",
        }
    }

    /// Whether files are sent to it.
    pub(crate) const fn takes_files(self) -> bool {
        matches!(self, Self::ImageEdits | Self::ImageVariations | Self::Transcriptions | Self::Translations)
    }

    /// The model a request means that names none, where OpenAI documents one.
    const fn default_model(self) -> Option<&'static str> {
        match self {
            Self::Moderations => Some("omni-moderation-latest"),
            Self::ImageGenerations | Self::ImageEdits | Self::ImageVariations => Some("dall-e-2"),
            Self::Completions | Self::Compact | Self::Speech | Self::Transcriptions | Self::Translations => None,
        }
    }

    /// Whether an answer may hold pictures, larger than what is held whole.
    const fn makes_pictures(self) -> bool {
        matches!(self, Self::ImageGenerations | Self::ImageEdits | Self::ImageVariations)
    }

    /// Whether an answer may be something else than JSON: sound, or a text in one of several forms.
    const fn makes_other(self) -> bool {
        matches!(self, Self::Speech | Self::Transcriptions | Self::Translations)
    }
}

/// What came in.
enum Body {
    Json(Peek),
    Form(Form, HeaderValue),
}

impl Body {
    fn read(direct: Direct, asked: &Asked<'_>) -> Result<(Self, String), RequestError> {
        let kind = asked.head.headers.get(header::CONTENT_TYPE).filter(|kind| !edge::is_json(kind));
        if let Some(kind) = kind.filter(|_| direct.takes_files()) {
            let form = Form::read(kind.as_bytes(), &asked.body)?;
            let model = form.model().or(direct.default_model()).map(str::to_owned);
            return Ok((Self::Form(form, kind.clone()), model.ok_or_else(no_model)?));
        }
        let limits = &asked.snapshot.limits.json;
        let seen = match direct.default_model() {
            Some(default) => peek_or(default, &asked.body, limits)?,
            None if direct == Direct::Compact => peek(llm::Dialect::OpenAiResponses, &asked.body, limits)?,
            None if direct == Direct::Completions => peek_completions(&asked.body, limits)?,
            None => peek(llm::Dialect::OpenAiChat, &asked.body, limits)?,
        };
        let model = seen.model.clone();
        Ok((Self::Json(seen), model))
    }

    fn streams(&self) -> bool {
        match self {
            Self::Json(seen) => seen.stream,
            Self::Form(form, _) => form.stream(),
        }
    }
}

fn no_model() -> RequestError {
    RequestError::Missing { param: "model".to_owned() }
}

/// Answer a request to `direct`.
pub(crate) async fn answer(asked: Asked<'_>, direct: Direct, receipt: &mut Receipt) -> Answered {
    let read = Body::read(direct, &asked).map_err(|error| Refusal::from(request_problem(&error)));
    let (body, model) = read?;
    if matches!(body, Body::Form(..)) && objects::form_names_object(&asked.body) {
        return Err(objects::not_found().into());
    }
    let bound = match &body {
        Body::Json(seen) => seen.max_output_tokens.map(|each| each.saturating_mul(seen.answers.max(1))),
        Body::Form(..) => None,
    };
    let tools = match &body {
        Body::Json(seen) if direct == Direct::Compact && seen.has_tools => Tools::Named(&seen.tool_names),
        _ => Tools::None,
    };
    let ask = Ask { max_output_tokens: bound, tools, ..Ask::new(Target::Model(&model), receipt.at()) };
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &ask)?;
    receipt.permitted(permit.policy());
    let admitted = receipt.admit(permit).await?;
    let plan = route::plan(asked.snapshot, admitted.permit(), &model).map_err(|unknown| unknown.problem())?;
    receipt.model(&model, plan.label());
    let holders = match &body {
        Body::Json(_) => native::check_references(&plan, &asked.body, receipt).await?,
        Body::Form(..) => None,
    };
    let call = DirectCall {
        direct,
        head: &asked.head.headers,
        sent: &asked.body,
        body,
        holders,
        limit: asked.snapshot.limits.response_body,
    };
    let (answer, reservation) = attempts::run(&call, &plan, admitted, receipt).await?;
    Ok((answer, Some(reservation)))
}

struct DirectCall<'a> {
    direct: Direct,
    head: &'a HeaderMap,
    sent: &'a Bytes,
    body: Body,
    /// The providers that hold all that the request names, if it names anything stored.
    holders: Option<Vec<Holder>>,
    limit: usize,
}

impl DirectCall<'_> {
    /// The bound on each of its answers, where it has none of its own.
    fn most(&self, reservation: &Reservation, provider: &Provider, model: &str) -> Option<u64> {
        let Body::Json(seen) = &self.body else { return None };
        // The policy's is for all of them together.
        let policy = reservation.permit().max_output_tokens().map(|most| (most / seen.answers.max(1)).max(1));
        let held = reservation.max_output_tokens(provider.name.as_str(), model);
        policy.into_iter().chain(held).min()
    }

    /// The same request for another model, each answer within `most` output tokens.
    fn edited(&self, provider: &Provider, model: &str, most: Option<u64>) -> Option<Vec<u8>> {
        match &self.body {
            Body::Form(form, _) => form.with_model(self.sent, model),
            Body::Json(seen) => {
                let generates = self.direct == Direct::Completions;
                let most = most.filter(|_| generates && seen.max_output_tokens.is_none());
                let edits = Edits {
                    model: Some(model),
                    include_usage: generates && provider.takes_stream_options(model),
                    max_output_tokens: most,
                    cap_name: CapName::MaxTokens,
                };
                let dialect = match self.direct {
                    Direct::Compact => llm::Dialect::OpenAiResponses,
                    _ => llm::Dialect::OpenAiChat,
                };
                Some(seen.splice(dialect, self.sent, &edits))
            }
        }
    }

    fn tap(&self) -> StreamTap {
        match &self.body {
            Body::Json(seen) if self.direct == Direct::Completions => {
                StreamTap::new(llm::Dialect::OpenAiChat, seen.stream && !seen.include_usage)
            }
            _ => StreamTap::media(),
        }
    }

    /// Whether a body of this type is an answer of this endpoint. A page of something that stands in the provider's place is not.
    fn is_answer(&self, kind: Option<&HeaderValue>) -> bool {
        let Some(kind) = kind else { return true };
        if edge::is_json(kind) {
            return true;
        }
        let essence =
            kind.as_bytes().split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let other = [b"audio/".as_slice(), b"text/", b"application/", b"video/"];
        let page = [b"text/html".as_slice(), b"application/xhtml+xml"];
        self.direct.makes_other() && !page.contains(&&*essence) && other.iter().any(|kind| essence.starts_with(kind))
    }
}

impl Exchange for DirectCall<'_> {
    type Sent = ();

    fn streams(&self) -> bool {
        self.body.streams()
    }

    fn makes(&self, (): &()) -> Option<Makes> {
        None
    }

    fn head(&self) -> &HeaderMap {
        self.head
    }

    fn holders(&self) -> Option<&[Holder]> {
        self.holders.as_deref()
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn text(&self) -> Option<Bytes> {
        matches!(self.body, Body::Json(_)).then(|| self.sent.clone())
    }

    fn load(&self) -> Load {
        match &self.body {
            Body::Json(seen) if self.direct == Direct::Completions => {
                Load::Tokens(Tokens::answered(self.sent, seen.max_output_tokens, seen.answers))
            }
            Body::Json(_) => load::json(self.direct, self.sent),
            Body::Form(form, _) => load::form(self.direct, (form, self.sent)),
        }
    }

    fn prepare(
        &self,
        provider: &Provider,
        model: &str,
        reservation: &Reservation,
    ) -> Result<Prepared<()>, RequestError> {
        let refused = |why| RequestError::Unsupported { param: "model".to_owned(), why };
        if self.direct == Direct::Compact && reservation.permit().max_output_tokens().is_some() {
            let why = "a compaction has no bound, and the policy asks for one";
            return Err(RequestError::Unsupported { param: "max_output_tokens".to_owned(), why });
        }
        let path = provider.direct(self.direct, model).ok_or_else(super::no_endpoint)?;
        let most = self.most(reservation, provider, model);
        let body = self.edited(provider, provider.called(model), most);
        let body = Bytes::from(body.ok_or_else(|| refused("its provider's name for it cannot stand in a form"))?);
        let mut content = upstream::Content::json(body, self.body.streams().then_some(Framing::Sse));
        if let Body::Form(_, kind) = &self.body {
            content.kind = Some(kind.clone());
        }
        if self.direct.makes_other() {
            content.accept = HeaderValue::from_static("*/*");
        }
        Ok(Prepared { path, content, sent: () })
    }

    fn echo(&self, reservation: &Reservation, receipt: &mut Receipt) -> Result<Answer, Failed> {
        match &self.body {
            Body::Json(seen) if self.direct == Direct::Completions => {
                super::echo::completion((self.sent, seen), reservation.permit().max_output_tokens(), receipt)
            }
            _ => Err(Failed::Answer(
                Problem::client(
                    StatusCode::NOT_FOUND,
                    "model_not_found",
                    "The built-in model does nothing of this kind.",
                )
                .param("model"),
            )),
        }
    }

    async fn finish(&self, response: Response<UpstreamBody>, (): (), leg: &mut Leg) -> Result<Answer, Failed> {
        let (head, mut body) = response.into_parts();
        let status = head.status;
        let mut headers = upstream::returned(&head.headers);
        if !status.is_success() {
            let bytes = upstream::read(None, body, self.limit).await?;
            return Ok(Answer { status, headers, content: Content::Whole(bytes, Outcome::ProviderError) });
        }
        let mut ready = VecDeque::new();
        let mut streamed = upstream::is_event_stream(&head.headers);
        if self.body.streams() && !streamed {
            // Some servers stream and call it JSON.
            ready = upstream::first_piece(&mut body).await?.into_iter().collect();
            streamed = ready.front().is_some_and(|first| upstream::begins_events(Framing::Sse, first));
            if streamed {
                headers.remove(header::CONTENT_TYPE);
            }
        }
        if streamed {
            let pipe = Box::new(Watched::new(self.tap()));
            return Ok(Answer::events(headers, Content::Stream(ready, body, pipe)));
        }
        let kind = head.headers.get(header::CONTENT_TYPE);
        if !self.is_answer(kind) {
            return Err(UpstreamError::Kind.into());
        }
        if self.direct.makes_pictures() {
            return Ok(Answer { status, headers, content: Content::Stream(ready, body, Box::new(Large::default())) });
        }
        if self.direct.makes_other() && kind.is_some_and(|kind| !edge::is_json(kind)) {
            let content = Content::Stream(ready, body, Box::new(Opaque::new(false)));
            return Ok(Answer { status, headers, content });
        }
        let bytes = upstream::read(ready.pop_front(), body, self.limit).await?;
        match media_usage(&bytes) {
            Some(usage) => leg.usage(usage),
            None if self.direct.makes_other() => {}
            None => return Err(UpstreamError::Kind.into()),
        }
        Ok(Answer { status, headers, content: Content::Whole(bytes, Outcome::Ok) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_is_found_by_its_path_and_by_no_other() {
        for direct in Direct::ALL {
            assert_eq!(Direct::of(direct.path()), Some(direct));
            assert_eq!(Direct::of(&format!("{}/", direct.path())), None);
        }
        assert_eq!(Direct::of("/v1/images"), None);
    }
}

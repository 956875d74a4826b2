//! `/providers/{name}/{rest}`: a provider's own API, as far as a policy lists it, with this gateway's key and for each caller
//! only what that caller stored.

mod batch;
mod created;
mod load;
mod upload;

use std::collections::VecDeque;
use std::sync::Arc;

use base::{Money, Problem};
use bytes::Bytes;
use config::ProviderDialect;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use llm::passthrough::{CapName, Edits, Models, Peek, StreamTap, is_familiar, models, peek, peek_named, peek_response};
use llm::{Dialect, Framing};
use net::UpstreamBody;
use policy::{Ask, Target, Tools};
use store::StoredObject;

pub(crate) use self::upload::{is_upload, sealed_credential};

use super::within::{self, Makes};
use super::{Answered, Asked, bedrock, gemini, request_problem};
use crate::Reservation;
use crate::authorize;
use crate::budget::{Place, Quote};
use crate::edge;
use crate::metrics::Label;
use crate::objects::{self, Holder, Resource};
use crate::problem::Refusal;
use crate::relay::{Answer, Content, Opaque, Pipe, Watched};
use crate::route::Plan;
use crate::settle::{Outcome, Receipt};
use crate::snapshot::{ModelTarget, Provider};
use crate::upstream::{self, Asking, UpstreamError};

/// Query parameters that would bring another credential.
const CREDENTIALS: [&str; 4] = ["key", "api_key", "api-key", "access_token"];

/// One native call.
struct Native<'a> {
    provider: &'a Provider,
    method: &'a Method,
    below: &'a str,
    /// The model as it is configured.
    called: String,
    resource: Resource<'a>,
    reservation: &'a Reservation,
    /// Of a request in a dialect that is understood: what was seen of it.
    seen: Option<(Dialect, Peek)>,
    limit: usize,
}

/// Answer a native call.
pub(crate) async fn answer(asked: Asked<'_>, provider: &Provider, rest: &str, receipt: &mut Receipt) -> Answered {
    let below = provider.below(rest);
    let method = &asked.head.method;
    let media = upload::is_media(&asked, provider, rest);
    if !media {
        check_form(&asked)?;
    }
    let query = asked.head.uri.query();
    if CREDENTIALS.iter().any(|name| edge::query_names(query, name)) {
        return Err(
            Problem::client(StatusCode::BAD_REQUEST, "invalid_request", "Send no credential in the query.").into()
        );
    }
    let seen = look(&asked, (provider, rest), method, below)?;
    let mut named = match &seen {
        Some((_, seen)) => Models {
            own: Some(seen.model.clone()).filter(|model| !model.is_empty()),
            others: seen.other_models.clone(),
        },
        None if media => Models::default(),
        None => models_of(&asked)?,
    };
    if let Some(model) = provider.named(rest) {
        // The path decides which model answers; what the body names besides is asked for too.
        let body = named.own.replace(model).filter(|body| Some(body) != named.own.as_ref());
        named.others.extend(body);
    }
    let judged = seen.as_ref().filter(|(dialect, _)| {
        // Of a form nobody knows it cannot be told what it asks for.
        *dialect != Dialect::BedrockInvoke || is_familiar(&asked.body, &asked.snapshot.limits.json)
    });
    let permit = permit(&asked, provider, rest, (judged.map(|(_, seen)| seen), &named), receipt)?;
    let seen = seen.filter(|_| !bedrock::only_counts(provider, below));
    receipt.permitted(permit.policy());
    let admitted = receipt.admit(permit).await?;
    if let Some(model) = &named.own {
        receipt.model(model, &Label::Fixed("direct"));
    }
    let asks = || load::of(provider, (method, rest), seen.as_ref(), &asked);
    let quotes = |policy| {
        let (model, name) = (named.own.as_deref().unwrap_or_default(), provider.name.as_str());
        let place = Place { provider: Some(name.into()), model: Some(model.into()), ..Place::default() };
        vec![Quote::remote(&asks(), provider, model, (place, policy))]
    };
    let reservation = receipt.reserve_for(admitted, (quotes, &|| Some(asked.body.clone()))).await?;
    pass_on(&asked, (provider, rest), seen, reservation, receipt).await
}

/// `/v1/responses/{id}` and what is below it, at the provider that holds it: its maker's alone.
pub(crate) async fn stored(asked: Asked<'_>, rest: &str, receipt: &mut Receipt) -> Answered {
    check_form(&asked)?;
    let Resource::Object(id) = objects::resource(rest) else { return Err(objects::not_found().into()) };
    let providers: Vec<&Arc<Provider>> =
        asked.snapshot.providers().filter(|provider| provider.has_responses()).collect();
    let all: Vec<&Provider> = providers.iter().map(AsRef::as_ref).collect();
    let held = objects::holders(receipt.shared().objects.as_ref(), &all, id, receipt.caller()).await?;
    let holder = providers.iter().find(|provider| held.iter().any(|holder| holder.provider == provider.name));
    let provider = holder.ok_or_else(objects::not_found)?;
    let method = asked.head.method.as_str();
    let target = Target::Own { name: provider.name.as_str(), method, path: rest };
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &Ask::new(target, receipt.at()))?;
    receipt.permitted(permit.policy());
    let admitted = receipt.admit(permit).await?;
    // What has been answered already is only looked at, stopped or deleted.
    let place = Place { provider: Some(provider.name.as_str().into()), ..Place::default() };
    let reservation = receipt.reserve(admitted, |_| vec![Quote::fixed(Money::ZERO, place)]).await?;
    pass_on(&asked, (provider, rest), None, reservation, receipt).await
}

/// Make a permitted call.
async fn pass_on(
    asked: &Asked<'_>,
    (provider, rest): (&Provider, &str),
    seen: Option<(Dialect, Peek)>,
    reservation: Reservation,
    receipt: &mut Receipt,
) -> Answered {
    let (below, method, query) = (provider.below(rest), &asked.head.method, asked.head.uri.query());
    // A key's rest is for one model; what names none has none.
    let named = seen.as_ref().map(|(_, seen)| seen.model.clone()).or_else(|| provider.named(rest)).unwrap_or_default();
    let native = Native {
        provider,
        method,
        below,
        called: provider.raw(rest).map_or_else(|| named.clone(), |(_, model)| model),
        resource: objects::resource_at(provider.dialect, below),
        reservation: &reservation,
        seen,
        limit: asked.snapshot.limits.response_body,
    };
    let mut held = native.check_path(receipt).await?;
    if !upload::is_media(asked, provider, rest) {
        held.extend(check(&[provider], objects::references(&asked.body), receipt).await?.unwrap_or_default());
    }
    let key = held.into_iter().find_map(|holder| holder.key);
    let most = reservation.max_output_tokens(provider.name.as_str(), &named);
    let (body, stripped) = native.body(&asked.body, most);
    let (path, key) = match upload::continued(asked, (provider, rest), receipt)? {
        Some((path, begun_with)) => (path, begun_with.or(key)),
        None => (provider.native_path(rest, query).ok_or_else(bad_path)?, key),
    };
    let kind = asked.head.headers.get(header::CONTENT_TYPE).cloned().filter(|_| !body.is_empty());
    let accept = asked.head.headers.get(header::ACCEPT).cloned().unwrap_or(HeaderValue::from_static("*/*"));
    let asking = Asking {
        provider,
        pass: provider.pass(&named, key.as_deref(), &*receipt.shared().rng)?,
        judged: false,
        deadlines: provider.deadlines,
        method: method.clone(),
        path: &path,
        caller: &asked.head.headers,
        content: upstream::Content { body, kind, accept, websocket: None },
    };
    let mut leg = receipt.leg();
    let asked_of = upstream::ask(&reservation, &mut leg, asking).await;
    let owner = leg.maker();
    receipt.takes(leg);
    let response = asked_of.map_err(|error| error.problem())?;
    upstream::check_head(&response).map_err(|error| error.problem())?;
    let told = upload::told(asked, (provider, rest), response.headers(), &owner)?;
    let mut answer = native.finish(response, (stripped, &owner), &asked.body, receipt).await?;
    answer.headers.extend(told);
    if let Content::Whole(body, _) = &answer.content
        && !answer.status.is_success()
        && upstream::repeats_key(provider, body)
    {
        return Err(UpstreamError::Key.problem().into());
    }
    Ok((answer, Some(reservation)))
}

fn bad_path() -> Problem {
    Problem::client(StatusCode::BAD_REQUEST, "path_invalid", "This path or query cannot be sent on.")
}

/// Refuse a body that cannot be searched for what it names: JSON that lenient readers read otherwise, forms that name stored
/// objects, and forms of unknown kind.
fn check_form(asked: &Asked<'_>) -> Result<(), Refusal> {
    if asked.body.is_empty() {
        return Ok(());
    }
    let Some(kind) = asked.head.headers.get(header::CONTENT_TYPE).filter(|kind| !edge::is_json(kind)) else {
        let checked = llm::check_json(&asked.body, &asked.snapshot.limits.json);
        return checked.map_err(|error| request_problem(&llm::RequestError::Json(error)).into());
    };
    let kind = kind.as_bytes().to_ascii_lowercase();
    if kind.starts_with(b"multipart/form-data") {
        return if objects::form_names_object(&asked.body) { Err(objects::not_found().into()) } else { Ok(()) };
    }
    let media = ["application/octet-stream", "audio/", "image/", "video/"];
    if media.iter().any(|media| kind.starts_with(media.as_bytes())) {
        return Ok(());
    }
    let message = "Send JSON, a multipart form, or the media itself.";
    Err(Problem::client(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type_unsupported", message).into())
}

/// See what a request in a known dialect asks.
fn look(
    asked: &Asked<'_>,
    (provider, rest): (&Provider, &str),
    method: &Method,
    below: &str,
) -> Result<Option<(Dialect, Peek)>, Refusal> {
    if let Some(path) = bedrock::path(provider, below).filter(|_| method == Method::POST) {
        return bedrock::look(asked, &path).map(Some);
    }
    if let Some((dialect, _)) = provider.raw(rest).filter(|_| method == Method::POST) {
        let seen =
            peek_named(dialect, &provider.named(rest).unwrap_or_default(), &asked.body, &asked.snapshot.limits.json);
        return Ok(Some((dialect, seen.map_err(|error| Refusal::from(request_problem(&error)))?)));
    }
    let dialect = match below {
        _ if let Some(dialect) = own_dialect(provider, rest, below) => dialect,
        "/chat/completions" => Dialect::OpenAiChat,
        "/embeddings" => Dialect::OpenAiEmbeddings,
        "/messages" => Dialect::AnthropicMessages,
        // A stored prompt may say which model it is for: then nothing can be told.
        "/responses" if models(&asked.body, &asked.snapshot.limits.json).is_ok_and(|named| named.own.is_some()) => {
            Dialect::OpenAiResponses
        }
        _ if gemini::Path::of(below).is_some_and(|path| path.method == gemini::Method::Generate) => Dialect::Gemini,
        _ => return Ok(None),
    };
    if method != Method::POST {
        return Ok(None);
    }
    let path = gemini::Path::of(below).filter(|_| dialect == Dialect::Gemini);
    if path.as_ref().is_some_and(|path| path.stream) && !gemini::wants_events(asked.head.uri.query()) {
        let message = "Ask for a stream with `alt=sse`.";
        return Err(Problem::client(StatusCode::BAD_REQUEST, "invalid_request", message).into());
    }
    let limits = super::inference::json_limits(asked.snapshot, dialect);
    let seen = peek(dialect, &asked.body, &limits).and_then(|seen| match path {
        Some(path) => seen.with_path(&path.model, path.stream),
        None => Ok(seen),
    });
    Ok(Some((dialect, seen.map_err(|error| Refusal::from(request_problem(&error)))?)))
}

/// What a path of an API that no client speaks elsewhere speaks.
fn own_dialect(provider: &Provider, rest: &str, below: &str) -> Option<Dialect> {
    match (provider.dialect, below) {
        (ProviderDialect::Cohere, "/chat") if rest.ends_with("/v1/chat") => Some(Dialect::CohereChatV1),
        (ProviderDialect::Cohere, "/chat") => Some(Dialect::CohereChat),
        (ProviderDialect::Cohere, "/embed" | "/rerank" | "/classify" | "/tokenize" | "/detokenize") => {
            Some(Dialect::CohereEmbed)
        }
        (_, "/api/chat" | "/api/generate" | "/api/embed" | "/api/embeddings") if provider.is_own(rest) => {
            Some(Dialect::OllamaChat)
        }
        _ => None,
    }
}

/// The models another request names, if it is JSON, whatever it calls itself: some servers do not ask.
fn models_of(asked: &Asked<'_>) -> Result<Models, Refusal> {
    match models(&asked.body, &asked.snapshot.limits.json) {
        Err(llm::RequestError::Json(_)) => Ok(Models::default()),
        other => other.map_err(|error| request_problem(&error).into()),
    }
}

fn permit(
    asked: &Asked<'_>,
    provider: &Provider,
    rest: &str,
    (seen, named): (Option<&Peek>, &Models),
    receipt: &Receipt,
) -> Result<policy::Permit, Refusal> {
    let method = asked.head.method.as_str();
    let at = receipt.at();
    let target = |model| Target::Provider { name: provider.name.as_str(), method, path: rest, model };
    let ask = |model| match seen {
        Some(seen) => Ask {
            max_output_tokens: seen.max_output_tokens.map(|each| each.saturating_mul(seen.answers.max(1))),
            tools: if seen.has_tools { Tools::Named(&seen.tool_names) } else { Tools::None },
            ..Ask::new(target(model), at)
        },
        None if asked.body.is_empty() => Ask::new(target(model), at),
        None => Ask { tools: Tools::Unknown, inspected: false, ..Ask::new(target(model), at) },
    };
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &ask(named.own.as_deref()))?;
    for other in &named.others {
        let _also = authorize::permit(asked.snapshot, receipt.caller(), &ask(Some(other.as_str())))?;
    }
    Ok(permit)
}

/// Refuse a request that names what the caller did not store. Where it names anything: the providers that hold it all.
pub(crate) async fn check_references(
    plan: &Plan,
    body: &[u8],
    receipt: &Receipt,
) -> Result<Option<Vec<Holder>>, Refusal> {
    let providers = plan.targets().iter().filter_map(|target| match target {
        ModelTarget::Echo => None,
        ModelTarget::Remote(provider, _) => Some(provider.as_ref()),
    });
    let named = objects::references(body);
    // Almost no request names anything.
    if named.is_empty() { Ok(None) } else { check(&providers.collect::<Vec<_>>(), named, receipt).await }
}

async fn check(providers: &[&Provider], named: Vec<String>, receipt: &Receipt) -> Result<Option<Vec<Holder>>, Refusal> {
    if providers.is_empty() {
        return Ok(None);
    }
    let mut holders: Option<Vec<Holder>> = None;
    for object in named {
        let objects = receipt.shared().objects.as_ref();
        let held = objects::holders(objects, providers, &object, receipt.caller()).await?;
        let all = match holders.take() {
            Some(before) => objects::both(before, &held),
            None => held,
        };
        if all.is_empty() {
            return Err(objects::not_found().into());
        }
        holders = Some(all);
    }
    Ok(holders)
}

impl Native<'_> {
    /// Refuse a path that leads to what somebody else stored; else with which key that is found.
    async fn check_path(&self, receipt: &Receipt) -> Result<Vec<Holder>, Refusal> {
        let Resource::Object(id) = self.resource else { return Ok(Vec::new()) };
        let objects = receipt.shared().objects.as_ref();
        let held = objects::holders(objects, &[self.provider], id, receipt.caller()).await?;
        if held.is_empty() { Err(objects::not_found().into()) } else { Ok(held) }
    }

    /// The body as it is sent on, and whether a usage chunk nobody asked for has to be taken out of the answer.
    fn body(&self, body: &Bytes, most: Option<u64>) -> (Bytes, bool) {
        let Some((dialect, seen)) = &self.seen else { return (body.clone(), false) };
        let include_usage = seen.stream && !seen.include_usage && self.provider.takes_stream_options(&self.called);
        let max_output_tokens = most.filter(|_| seen.max_output_tokens.is_none());
        if !include_usage && max_output_tokens.is_none() {
            return (body.clone(), false);
        }
        let cap_name = CapName::from(self.provider.flavour(&self.called));
        let edits = Edits { model: None, include_usage, max_output_tokens, cap_name };
        (Bytes::from(seen.splice(*dialect, body, &edits)), include_usage)
    }

    /// Some servers stream and call it JSON: the first piece of an answer to a request for a stream tells.
    async fn begins(
        &self,
        body: &mut UpstreamBody,
        framing: &mut Option<Framing>,
        headers: &mut HeaderMap,
    ) -> Result<VecDeque<Bytes>, Problem> {
        let mut ready = VecDeque::new();
        if let Some((dialect, seen)) = &self.seen
            && seen.stream
        {
            ready.extend(upstream::first_piece(body).await.map_err(|error| error.problem())?);
            if ready.front().is_some_and(|first| upstream::begins_events(dialect.framing(), first)) {
                *framing = Some(dialect.framing());
                headers.remove(header::CONTENT_TYPE);
            }
        }
        Ok(ready)
    }

    async fn finish(
        &self,
        response: Response<UpstreamBody>,
        (strip, owner): (bool, &StoredObject),
        sent: &[u8],
        receipt: &mut Receipt,
    ) -> Result<Answer, Refusal> {
        let (head, mut body) = response.into_parts();
        let status = head.status;
        let mut headers = returned(&head.headers);
        if self.provider.dialect == ProviderDialect::Bedrock {
            headers.extend(upstream::returned_by_bedrock(&head.headers));
        }
        let outcome = if status.is_success() { Outcome::Ok } else { Outcome::ProviderError };
        let encoded = upstream::is_encoded(&head.headers);
        let mut framing = upstream::framing(&head.headers)
            .filter(|framing| status.is_success() && (*framing == Framing::Sse || self.seen.is_some()));
        let makes = status.is_success()
            && created::is_made(self.provider.dialect, (self.method, self.below), self.resource, sent);
        let lists = status.is_success() && self.method == Method::GET && self.resource == Resource::Collection;
        // What is deleted speaks of itself once more.
        let tells = within::may_make_below(self.provider.dialect, self.below, self.seen.as_ref());
        let tells = tells.filter(|_| status.is_success() && self.method != Method::DELETE);
        let uncounted = self.uncounted(status, receipt).await?;
        if encoded && (makes || lists || tells.is_some() || uncounted.is_some()) {
            return Err(UpstreamError::Encoding.problem().into());
        }
        if (lists || uncounted.is_some()) && framing.is_some() {
            // Whose each item is could not be told.
            return Err(UpstreamError::Kind.problem().into());
        }
        let mut ready = VecDeque::new();
        if framing.is_none() && status.is_success() && !(encoded || makes) {
            ready = self.begins(&mut body, &mut framing, &mut headers).await?;
        }
        let streamed = framing.is_some();
        if streamed && !encoded {
            let pipe: Box<dyn Pipe> = match (&self.seen, framing) {
                (Some((dialect, _)), Some(framing)) => {
                    Box::new(Watched::new(StreamTap::framed((*dialect, framing), strip)))
                }
                // A response of the background, followed from where its maker left it.
                _ if self.is_stored_response() => {
                    Box::new(Watched::new(StreamTap::new(Dialect::OpenAiResponses, false)))
                }
                _ => Box::new(Opaque::new(true)),
            };
            let (first, body) = if makes {
                created::claim_streamed(body, (self.provider, self.below), (owner, receipt)).await?
            } else {
                (ready, body)
            };
            let answer = Answer { status, ..Answer::events(headers, Content::Stream(first, body, pipe)) };
            return self.told(answer, tells, (owner, receipt)).await;
        }
        if status.is_success()
            && self.method == Method::DELETE
            && let Resource::Object(id) = self.resource
            && objects::is_whole(self.provider.dialect, self.below, id)
        {
            created::forget(self.provider, id, receipt).await;
        }
        if !(makes || lists || tells.is_some() || uncounted.is_some() || self.seen.is_some()) || encoded {
            let content = Content::Stream(VecDeque::new(), body, Box::new(Opaque::new(streamed)));
            return Ok(Answer { status, headers, content });
        }
        let mut bytes = upstream::read(ready.pop_front(), body, self.limit).await.map_err(|error| error.problem())?;
        if makes {
            created::claim(&bytes, (self.provider, self.below), (owner, receipt)).await?;
            batch::begun(self.below, &bytes, (self.provider, owner), receipt).await?;
        }
        if let Some(tells) = uncounted {
            batch::count(tells, &bytes, (self.provider, owner), (self.reservation, receipt)).await?;
        }
        if lists {
            bytes = created::filter(&bytes, (self.provider, self.below), receipt).await?;
        }
        if let (Some((dialect, _)), true) = (&self.seen, status.is_success()) {
            let usage = peek_response(*dialect, &bytes).usage;
            receipt.usage(if *dialect == Dialect::BedrockInvoke {
                bedrock::counted(&head.headers, usage)
            } else {
                usage
            });
        }
        if status.is_success() && self.is_stored_response() {
            within::count_late(&bytes, self.provider, receipt).await?;
        }
        let answer = Answer { status, headers, content: Content::Whole(bytes, outcome) };
        self.told(answer, tells, (owner, receipt)).await
    }

    /// What the answer tells of a batch that has still to be counted.
    async fn uncounted(&self, status: StatusCode, receipt: &Receipt) -> Result<Option<batch::Tells<'_>>, Refusal> {
        let tells = batch::Tells::of(self.provider.dialect, (self.method, self.below)).filter(|_| status.is_success());
        match tells {
            Some(tells) if tells.is_uncounted(self.provider, receipt).await? => Ok(Some(tells)),
            _ => Ok(None),
        }
    }

    /// Whether what is asked about is a response that was made before.
    fn is_stored_response(&self) -> bool {
        self.seen.is_none() && self.below.starts_with("/responses/") && matches!(self.resource, Resource::Object(_))
    }

    async fn told(
        &self,
        answer: Answer,
        tells: Option<Makes>,
        (owner, receipt): (&StoredObject, &Receipt),
    ) -> Result<Answer, Refusal> {
        let Some(makes) = tells else { return Ok(answer) };
        let mut leg = receipt.leg();
        leg.with_key(owner.key.as_deref().map(Arc::from));
        Ok(within::claimed(answer, makes, self.provider, &leg).await?)
    }
}

/// The fields that reach the caller: those of inference, and what describes a file.
fn returned(headers: &HeaderMap) -> HeaderMap {
    let mut kept = upstream::returned(headers);
    for name in [header::CONTENT_DISPOSITION, header::CONTENT_ENCODING] {
        if let Some(value) = headers.get(&name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

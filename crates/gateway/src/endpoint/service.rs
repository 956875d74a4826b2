//! `[[service]]`: a prompt published as an endpoint of its own.
//!
//! The body is `{"input": .., "variables": {..}, "stream": false, "parameters": {"response_format", "max_output_tokens",
//! "temperature", "stream"}}`. A variable may also stand at the top or among the parameters. The answer is `{"output", "model",
//! "usage", "request_id"}`; streamed, events `{"type":"delta","delta":".."}` and last `{"type":"done"}` with the rest.

pub(crate) mod prompt;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Problem, RequestId};
use bytes::Bytes;
use config::ResponseFormat;
use futures_util::FutureExt;
use http::header::{HeaderMap, HeaderName};
use http::{Response, StatusCode};
use llm::bound::Brought;
use llm::model::{Json, Message, Output, Part, Role};
use llm::sameness;
use llm::{Dialect, Options, Request, RequestError, Translation, Usage};
use net::UpstreamBody;
use policy::{Ask, Target};
use serde_json::{Map, Value, json};

pub(crate) use self::prompt::Prompt;

use self::prompt::InputError;
pub(crate) use self::stream::Finished;

use self::stream::Deltas;
use super::attempts::mirror::{Copied, MOST_HELD};
use super::attempts::{self, Exchange, Failed, Prepared};
use super::cached::{self, Looked};
use super::within::Makes;
use super::{Answered, Asked};
use crate::Reservation;
use crate::authorize;
use crate::budget::{Load, Tokens};
use crate::problem::Refusal;
use crate::relay::{Answer, Content};
use crate::route;
use crate::settle::{Leg, Outcome, Receipt};
use crate::snapshot::{Provider, Service};
use crate::upstream::{self, UpstreamError};

/// Said to every model that is asked for JSON: some providers insist that the word is there.
const JSON_ONLY: &str = "Answer with one JSON value and nothing else: no explanation and no code fence.";

/// What a request asks of a service.
#[derive(Debug)]
struct Order {
    values: Map<String, Value>,
    format: ResponseFormat,
    stream: bool,
    max_output_tokens: Option<u64>,
    temperature: Option<Value>,
}

/// Answer a request to a service.
pub(crate) async fn answer(asked: Asked<'_>, service: &Service, receipt: &mut Receipt) -> Answered {
    llm::check_json(&asked.body, &asked.snapshot.limits.json)
        .map_err(|error| Refusal::from(super::request_problem(&RequestError::Json(error))))?;
    let order = Order::read(&asked.body, service).map_err(|error| bad_input(&error))?;
    let (system, prompt) = service.prompt.fill(&order.values).map_err(|error| bad_input(&error))?;
    let name = service.config.name.as_str();
    let ask = Ask { max_output_tokens: order.max_output_tokens, ..Ask::new(Target::Service(name), receipt.at()) };
    let permit = authorize::permit(asked.snapshot, receipt.caller(), &ask)?;
    receipt.permitted(permit.policy());
    let admitted = receipt.admit(permit).await?;
    let model = service.config.model.as_str();
    let plan = route::plan(asked.snapshot, admitted.permit(), model).map_err(|_| missing_model())?;
    receipt.model(model, plan.label());
    let most = [order.max_output_tokens, service.config.max_output_tokens, admitted.permit().max_output_tokens()];
    let most = most.into_iter().flatten().min();
    let question = json!([name, system, prompt, order.format, order.max_output_tokens, most, order.temperature]);
    let exchange = ServiceCall {
        request: request(&order, system, &prompt, most),
        format: order.format,
        head: HeaderMap::new(),
        service: Arc::from(name),
        limit: asked.snapshot.limits.response_body,
        now: u64::try_from(receipt.at().as_secs()).unwrap_or(0),
        declined: AtomicBool::new(false),
    };
    let about = (model, question.to_string().into_bytes(), order.stream);
    let (answer, reservation) = match cached::look_for_service(&asked, about, &admitted, receipt).await {
        Looked::Found(answer) => cached::paid(*answer, (asked.snapshot, model, Some(name)), admitted, receipt).await?,
        looked => {
            let (answer, reservation) = attempts::run(&exchange, &plan, admitted, receipt).await?;
            let declined = exchange.declined.load(Ordering::Relaxed);
            (if declined { looked.leave(answer) } else { looked.keep(answer) }, reservation)
        }
    };
    Ok((answer, Some(reservation)))
}

fn bad_input(error: &InputError) -> Refusal {
    let code = "invalid_parameter";
    Problem::client(StatusCode::BAD_REQUEST, code, error.to_string()).param(error.member.as_str()).into()
}

/// The operator's configuration names a model that is not there: `check` would have told.
fn missing_model() -> Refusal {
    Problem::us(StatusCode::BAD_GATEWAY, "service_model_missing", "The model of this service is not configured.").into()
}

impl Order {
    fn read(body: &[u8], service: &Service) -> Result<Self, InputError> {
        let top: Value = serde_json::from_slice(body).map_err(|_| InputError::new("body", "must be a JSON object"))?;
        let Value::Object(mut top) = top else { return Err(InputError::new("body", "must be a JSON object")) };
        let known = service.prompt.variables();
        let mut order = Self {
            values: Map::new(),
            format: service.config.response_format,
            stream: false,
            max_output_tokens: None,
            temperature: None,
        };
        let mut parameters = object(&mut top, "parameters")?;
        let variables = object(&mut top, "variables")?;
        // A variable of the same name wins: the operator named it.
        let take =
            |from: &mut Map<String, Value>, name: &str| from.shift_remove(name).filter(|_| !known.contains_key(name));
        for stream in [take(&mut top, "stream"), take(&mut parameters, "stream")].into_iter().flatten() {
            order.stream |= stream.as_bool().ok_or_else(|| InputError::new("stream", "must be true or false"))?;
        }
        if let Some(format) = take(&mut parameters, "response_format") {
            order.format = response_format(&format)?;
        }
        if let Some(most) = take(&mut parameters, "max_output_tokens") {
            let most = most.as_u64().filter(|most| *most > 0);
            order.max_output_tokens =
                Some(most.ok_or_else(|| InputError::new("max_output_tokens", "must be a whole number"))?);
        }
        if let Some(temperature) = take(&mut parameters, "temperature") {
            let valid = temperature.as_f64().is_some_and(|t| (0.0..=2.0).contains(&t));
            order.temperature = Some(temperature).filter(|_| valid);
            if !valid {
                return Err(InputError::new("temperature", "must be a number from 0 to 2"));
            }
        }
        for (name, value) in top.into_iter().chain(variables).chain(parameters) {
            if order.values.insert(name.clone(), value).is_some() {
                return Err(InputError::new(name, "is given twice"));
            }
        }
        Ok(order)
    }
}

/// The member that holds an object, or none.
fn object(top: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, InputError> {
    match top.shift_remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(InputError::new(name, "must be an object")),
    }
}

/// `"json"` or `"text"`; OpenAI's `{"type":"json_object"}` means the same.
fn response_format(value: &Value) -> Result<ResponseFormat, InputError> {
    match value.as_str().or_else(|| value.get("type")?.as_str()) {
        Some("json" | "json_object") => Ok(ResponseFormat::Json),
        Some("text") => Ok(ResponseFormat::Text),
        _ => Err(InputError::new("response_format", "must be \"text\" or \"json\"")),
    }
}

fn request(order: &Order, system: Option<String>, prompt: &str, most: Option<u64>) -> Request {
    let json = order.format == ResponseFormat::Json;
    let output = if json { Output::JsonObject } else { Output::Text };
    let mut request = Request::from_prompt("", prompt, output);
    let instructions: Vec<String> = system.into_iter().chain(json.then(|| JSON_ONLY.to_owned())).collect();
    if !instructions.is_empty() {
        request.messages.insert(0, Message::new(Role::System, vec![Part::text(instructions.join("\n\n"))]));
    }
    request.max_output_tokens = most;
    request.temperature = order.temperature.as_ref().map(Json::from);
    request.stream = order.stream;
    request
}

struct ServiceCall {
    service: Arc<str>,
    request: Request,
    format: ResponseFormat,
    head: HeaderMap,
    limit: usize,
    now: u64,
    /// Whether the answer is one that a model or a filter declined: it is this caller's alone.
    declined: AtomicBool,
}

impl Exchange for ServiceCall {
    type Sent = (Dialect, Translation);

    fn streams(&self) -> bool {
        self.request.stream
    }

    /// A service's answer is its text.
    fn makes(&self, _: &Self::Sent) -> Option<Makes> {
        None
    }

    /// Nothing of the caller's header means anything to the provider here.
    fn head(&self) -> &HeaderMap {
        &self.head
    }

    fn copied(&self) -> Option<Copied> {
        let (request, head, service) = (self.request.clone(), self.head.clone(), Arc::clone(&self.service));
        let declined = AtomicBool::new(false);
        let call = Self { request, head, service, limit: self.limit.min(MOST_HELD), declined, ..*self };
        Some(Box::new(move |mirror| async move { mirror.made(&call).await }.boxed()))
    }

    fn repeatable(&self) -> bool {
        true
    }

    fn text(&self) -> Option<Bytes> {
        let said: Vec<_> = self.request.messages.iter().map(llm::model::Message::text).collect();
        serde_json::to_vec(&said).ok().map(Bytes::from)
    }

    fn load(&self) -> Load {
        // What it says, and of each turn more than any template puts around it.
        let said = self.request.messages.iter().map(|message| message.text().len() as u64 + 64).sum();
        let brought = Brought { bytes: said, factor: 1, ..Brought::default() };
        Load::Tokens(Tokens {
            brought: Some(brought),
            generates: true,
            asked: self.request.max_output_tokens,
            answers: 1,
            unbounded: false,
            session: false,
        })
    }

    fn service(&self) -> Option<&str> {
        Some(&self.service)
    }

    fn prepare(
        &self,
        provider: &Provider,
        model: &str,
        reservation: &Reservation,
    ) -> Result<Prepared<Self::Sent>, RequestError> {
        let spoken = provider.speaks(Dialect::OpenAiChat, model);
        let options = Options { flavour: provider.flavour(model), now: self.now, ..Options::default() };
        let translation = Translation::new(Dialect::OpenAiChat, spoken, options)
            .ok_or_else(|| RequestError::Unsupported { param: "model".to_owned(), why: "it is not a chat model" })?
            .naming(model);
        let mut request = self.request.clone();
        provider.called(model).clone_into(&mut request.model);
        request.max_output_tokens =
            request.max_output_tokens.or(reservation.max_output_tokens(provider.name.as_str(), model));
        let body = match translation.encode(&request) {
            // The instructions ask for JSON too, so a provider without a switch for it can still answer.
            Err(RequestError::Unsupported { .. }) if request.output != Output::Text => {
                request.output = Output::Text;
                translation.encode(&request)?
            }
            other => other?,
        };
        let path = attempts::path(provider, spoken, (model, self.request.stream))?;
        let body = Bytes::from(provider.body(spoken, body)?);
        let content = upstream::Content::json(body, self.request.stream.then(|| spoken.framing()));
        Ok(Prepared { path, content, sent: (spoken, translation) })
    }

    fn echo(&self, _: &Reservation, receipt: &mut Receipt) -> Result<Answer, Failed> {
        let id = receipt.id();
        if self.request.stream {
            let events = llm::echo::events(&self.request, id.as_str(), self.now);
            return Ok(Deltas::made(&events, self.format, id));
        }
        let response = llm::echo::answer(&self.request, id.as_str(), self.now);
        receipt.usage(response.usage);
        self.whole(&response.text(), &response.model, response.usage, id)
    }

    async fn finish(
        &self,
        response: Response<UpstreamBody>,
        (spoken, translation): Self::Sent,
        leg: &mut Leg,
    ) -> Result<Answer, Failed> {
        let (head, body) = response.into_parts();
        let streamed = upstream::framing(&head.headers) == Some(spoken.framing());
        if !head.status.is_success() {
            let bytes = upstream::read(None, body, self.limit).await?;
            let mut answer = Answer::json(translation.named_error(
                head.status.as_u16(),
                upstream::error_type(&head.headers),
                &bytes,
            ));
            answer.status = head.status;
            for name in ["retry-after", "retry-after-ms", "x-should-retry"] {
                if let Some(value) = head.headers.get(name) {
                    answer.headers.insert(HeaderName::from_static(name), value.clone());
                }
            }
            if let Content::Whole(_, outcome) = &mut answer.content {
                *outcome = Outcome::ProviderError;
            }
            return Ok(answer);
        }
        if streamed != self.request.stream {
            return Err(UpstreamError::Kind.into());
        }
        if streamed {
            return Ok(Deltas::relayed(body, (spoken, translation.model()), self.format, leg.id()));
        }
        let bytes = upstream::read(None, body, self.limit).await?;
        let response = translation.decode(&bytes).map_err(UpstreamError::from)?;
        if response.choices.iter().any(|choice| !sameness::is_well(&choice.stop)) {
            self.declined.store(true, Ordering::Relaxed);
        }
        leg.usage(response.usage);
        self.whole(&response.text(), &response.model, response.usage, leg.id())
    }
}

impl ServiceCall {
    fn whole(&self, text: &str, model: &str, usage: Usage, id: RequestId) -> Result<Answer, Failed> {
        let output = output(text, self.format).map_err(|()| Failed::Answer(not_json()))?;
        Ok(Answer::json(result(&output, model, usage, id.as_str()).to_string()))
    }
}

/// JSON was asked of the model and not obtained.
fn not_json() -> Problem {
    Problem::provider(StatusCode::BAD_GATEWAY, "output_not_json", "The model did not answer with JSON.")
}

/// The model's text as the output: JSON as it stands, without the code fence models like to put around it.
fn output(text: &str, format: ResponseFormat) -> Result<Value, ()> {
    if format == ResponseFormat::Text {
        return Ok(Value::String(text.to_owned()));
    }
    let trimmed = text.trim();
    let fenced = trimmed.strip_prefix("```").and_then(|inner| inner.strip_suffix("```"));
    let inner = fenced.map_or(trimmed, |inner| inner.strip_prefix("json").unwrap_or(inner).trim());
    serde_json::from_str(inner).map_err(|_| ())
}

/// The answer of a service.
fn result(output: &Value, model: &str, usage: Usage, id: &str) -> Value {
    json!({
        "output": output,
        "model": model,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.generated(), "cached_tokens": usage.cache_read_tokens},
        "request_id": id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_taken_out_of_a_code_fence_and_nothing_else_is_taken_for_json() {
        let read = |text| output(text, ResponseFormat::Json);
        assert_eq!(read(" {\"a\": 1} "), Ok(json!({"a": 1})));
        assert_eq!(read("```json\n[1, 2]\n```"), Ok(json!([1, 2])));
        assert_eq!(read("```\n\"x\"\n```"), Ok(json!("x")));
        for text in ["", "Sure: {\"a\": 1}", "{\"a\": 1", "{'a': 1}", "```json\n{}"] {
            assert_eq!(read(text), Err(()), "{text}");
        }
        assert_eq!(output("no json", ResponseFormat::Text), Ok(json!("no json")));
    }

    fn order(body: &Value) -> Result<Order, InputError> {
        let config: config::Service = serde_json::from_value(json!({
            "name": "s", "path": "/v1/s", "model": "m", "prompt": "{{lang}} {{input}}",
        }))
        .expect("service");
        let prompt = Prompt::compile(&config).expect("prompt");
        Order::read(body.to_string().as_bytes(), &Service { config, prompt })
    }

    #[test]
    fn an_order_is_read_from_wherever_its_parts_stand() {
        let read =
            order(&json!({"input": "x", "parameters": {"response_format": "json", "lang": "fr"}, "stream": true}))
                .expect("order");
        assert_eq!((read.format, read.stream), (ResponseFormat::Json, true));
        assert_eq!(Value::Object(read.values), json!({"input": "x", "lang": "fr"}));
        let read = order(&json!({"variables": {"input": "x"}, "parameters": {"max_output_tokens": 9}})).expect("order");
        assert_eq!(read.max_output_tokens, Some(9));
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused_without_panic(text in r#"[{}\[\]":,a-z0-9 _]{0,60}"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = order(&value);
            }
            let _ = output(&text, ResponseFormat::Json);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        let member = |body| order(&body).expect_err("refused").member;
        assert_eq!(member(json!([])), "body");
        assert_eq!(member(json!({"input": "x", "variables": {"input": "y"}})), "input");
        assert_eq!(member(json!({"parameters": {"response_format": "xml"}})), "response_format");
        assert_eq!(member(json!({"stream": "yes"})), "stream");
        assert_eq!(member(json!({"parameters": {"temperature": 3}})), "temperature");
        assert_eq!(member(json!({"parameters": {"max_output_tokens": 0}})), "max_output_tokens");
        assert_eq!(member(json!({"parameters": 1})), "parameters");
    }
}

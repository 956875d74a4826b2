//! One dialect in front, another behind.

use crate::dialect::openai_responses::{self, Asked};
use crate::dialect::{Failure, anthropic, error_body, gemini, openai_chat, stream_error_event};
use crate::model::{Event, Request, Response, Usage};
use crate::passthrough::{Edits, Said};
use crate::provider::{self, Decoder, Flavour};
use crate::{Dialect, Framing, Limits, ProviderError, RequestError, ResponseError};

/// What a stream has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Still running.
    Open,
    /// The whole answer came.
    Complete,
    /// The provider broke off.
    Cut,
    /// The provider reported an error in the stream.
    Failed(ProviderError),
    /// The provider sent what is no stream of its dialect.
    Garbage,
}

/// How to translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What kind of OpenAI-compatible provider it is.
    pub flavour: Flavour,
    /// Bound on tokens generated where the caller gave none and the provider insists on one (Anthropic).
    pub default_max_tokens: u64,
    /// Whether a stream is asked for, where the request itself does not say so (Gemini's path does).
    pub stream: bool,
    /// Seconds since the epoch, for answers whose provider does not date them.
    pub now: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { flavour: Flavour::default(), default_max_tokens: 4096, stream: false, now: 0 }
    }
}

/// A translated answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The body, in the client's dialect.
    pub body: Vec<u8>,
    /// Tokens taken.
    pub usage: Usage,
    /// The model, as the provider names it.
    pub model: String,
}

/// Between a client of one chat dialect and a provider of another (or the same: then through the canonical model).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    client: Dialect,
    provider: Dialect,
    options: Options,
    model: String,
    /// What of an OpenAI client's request its answer repeats or depends on.
    asked: Asked,
}

impl Translation {
    /// Between two chat dialects; `None` where one of them is not chat.
    pub fn new(client: Dialect, provider: Dialect, options: Options) -> Option<Self> {
        let chat = |dialect| {
            matches!(
                dialect,
                Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::AnthropicMessages | Dialect::Gemini
            )
        };
        // Nobody is spoken to in these, only providers are.
        let own = matches!(provider, Dialect::BedrockConverse | Dialect::CohereChat | Dialect::OllamaChat);
        (chat(client) && (chat(provider) || own)).then(|| Self {
            client,
            provider,
            options,
            model: String::new(),
            asked: Asked::default(),
        })
    }

    /// The same, where the provider is asked for `model`: answers that do not say which model they are of (Cohere's, Bedrock's)
    /// are said to be of this one.
    #[must_use]
    pub fn naming(self, model: &str) -> Self {
        Self { model: model.to_owned(), ..self }
    }

    /// The same, for the answer to this request: a response of OpenAI's repeats what it answers, and calls of custom tools are told as
    /// such.
    #[must_use]
    pub fn answering(self, body: &[u8]) -> Self {
        match self.client {
            Dialect::OpenAiResponses => Self { asked: Asked::of(body), ..self },
            Dialect::OpenAiChat => Self { asked: Asked::of_chat(body), ..self },
            _ => self,
        }
    }

    /// What the client speaks.
    pub(crate) fn client(&self) -> Dialect {
        self.client
    }

    /// The model that was named, or empty.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The client's request as the provider's, with `edits` applied.
    pub fn request(&self, body: &[u8], edits: &Edits<'_>) -> Result<Vec<u8>, RequestError> {
        let mut request = decode_request(self.client, body, self.options.stream)?;
        if let Some(model) = edits.model {
            model.clone_into(&mut request.model);
        }
        if let Some(bound) = edits.max_output_tokens {
            request.max_output_tokens = Some(bound);
        }
        self.encode(&request)
    }

    /// A canonical request as the provider's.
    pub fn encode(&self, request: &Request) -> Result<Vec<u8>, RequestError> {
        let mut request = request.clone();
        if self.provider == Dialect::AnthropicMessages && request.max_output_tokens.is_none() {
            request.max_output_tokens = Some(self.options.default_max_tokens);
        }
        // Usage is always asked for: it is what the request will have cost.
        request.include_usage = request.stream && self.options.flavour.asks_usage();
        provider::encode(self.provider, self.options.flavour, &request)
    }

    /// The provider's complete answer as the client's.
    pub fn response(&self, body: &[u8]) -> Result<Answer, ResponseError> {
        let response = self.decode(body)?;
        Ok(Answer { body: self.render(&response)?, usage: response.usage, model: response.model })
    }

    /// The provider's complete answer in the canonical model.
    pub fn decode(&self, body: &[u8]) -> Result<Response, ResponseError> {
        let mut response = provider::decode(self.provider, body)?;
        if response.model.is_empty() {
            response.model.clone_from(&self.model);
        }
        Ok(response)
    }

    /// A canonical answer in the client's dialect.
    pub fn render(&self, response: &Response) -> Result<Vec<u8>, ResponseError> {
        match self.client {
            Dialect::AnthropicMessages => anthropic::response(response),
            Dialect::Gemini => Ok(gemini::response(response)),
            Dialect::OpenAiResponses => openai_responses::response(response, &self.asked, self.options.now),
            _ => Ok(openai_chat::response(response, &self.asked, self.options.now)),
        }
        .map(String::into_bytes)
    }

    /// The provider's error answer as the client's; the status stays.
    pub fn error(&self, status: u16, body: &[u8]) -> Vec<u8> {
        self.named_error(status, None, body)
    }

    /// The same, where a field of the answer and not its body says what kind of error it is (AWS's `x-amzn-errortype`).
    pub fn named_error(&self, status: u16, name: Option<&str>, body: &[u8]) -> Vec<u8> {
        let mut error = provider::provider_error(status, body);
        let name = name.map(|name| name.chars().filter(char::is_ascii_alphanumeric).take(100).collect());
        error.code = error.code.or(name);
        error_body(self.client, &Failure::from(&error))
    }

    /// For a streamed answer. `include_usage`: the client asked for a usage chunk (OpenAI clients only).
    pub fn stream(&self, include_usage: bool) -> StreamTranslation {
        self.framed_stream(self.provider.framing(), include_usage)
    }

    /// The same for an answer whose framing is not the dialect's usual one.
    pub fn framed_stream(&self, framing: Framing, include_usage: bool) -> StreamTranslation {
        StreamTranslation {
            decoder: Decoder::framed(self.provider, framing),
            encoder: match self.client {
                Dialect::OpenAiResponses => Encoder::responses(self.asked.clone(), self.options.now),
                Dialect::OpenAiChat => Encoder::OpenAi(
                    openai_chat::StreamWriter::new(include_usage, self.options.now).answering(self.asked.clone()),
                ),
                client => Encoder::new(client, include_usage, self.options.now),
            },
            client: self.client,
            model: self.model.clone(),
            outcome: Outcome::Open,
            said: Said::default(),
        }
    }
}

/// Read a chat request of `dialect` into the canonical model. `stream` and the model: what Gemini's path says.
pub(crate) fn decode_request(dialect: Dialect, body: &[u8], stream: bool) -> Result<Request, RequestError> {
    // The same gate as for passthrough: no steering, no duplicates, sane types.
    crate::passthrough::peek(dialect, body, &Limits::REQUEST)?;
    let text = std::str::from_utf8(body).map_err(|error| crate::JsonError::Utf8(error.valid_up_to()))?;
    let root = crate::json::node(text, &Limits::REQUEST)?;
    match dialect {
        Dialect::AnthropicMessages => anthropic::request(&root),
        Dialect::OpenAiChat => openai_chat::request(&root),
        Dialect::Gemini => gemini::request(&root, "", stream),
        Dialect::OpenAiResponses => openai_responses::request(&root),
        _ => Err(RequestError::unsupported("model", "it is not a chat request")),
    }
}

/// Writes canonical events as a client's stream.
#[derive(Debug)]
pub(crate) enum Encoder {
    OpenAi(openai_chat::StreamWriter),
    Anthropic(anthropic::StreamWriter),
    Gemini(gemini::StreamWriter),
    Responses(Box<openai_responses::StreamWriter>),
}

impl Encoder {
    pub(crate) fn new(client: Dialect, include_usage: bool, now: u64) -> Self {
        match client {
            Dialect::AnthropicMessages => Self::Anthropic(anthropic::StreamWriter::default()),
            Dialect::Gemini => Self::Gemini(gemini::StreamWriter::default()),
            Dialect::OpenAiResponses => Self::responses(Asked::default(), now),
            _ => Self::OpenAi(openai_chat::StreamWriter::new(include_usage, now)),
        }
    }

    /// For the answer to what was `asked` of the Responses API.
    pub(crate) fn responses(asked: Asked, now: u64) -> Self {
        Self::Responses(Box::new(openai_responses::StreamWriter::new(asked, now)))
    }

    /// An error event, the last.
    fn failed(&self, client: Dialect, failure: &Failure) -> Vec<u8> {
        match self {
            Self::Responses(writer) => openai_responses::error_event(failure, writer.sequence()),
            _ => stream_error_event(client, failure),
        }
    }

    /// Whether the writer had to give up; see [`anthropic::StreamWriter::overflowed`].
    fn overflowed(&self) -> bool {
        match self {
            Self::OpenAi(writer) => writer.overflowed(),
            Self::Anthropic(writer) => writer.overflowed(),
            Self::Gemini(writer) => writer.overflowed(),
            Self::Responses(writer) => writer.overflowed(),
        }
    }

    pub(crate) fn write(&mut self, event: &Event, out: &mut String) {
        match self {
            Self::OpenAi(writer) => writer.write(event, out),
            Self::Anthropic(writer) => writer.write(event, out),
            Self::Gemini(writer) => writer.write(event, out),
            Self::Responses(writer) => writer.write(event, out),
        }
    }
}

/// A stream on its way from a provider of one dialect to a client of another.
#[derive(Debug)]
pub struct StreamTranslation {
    decoder: Decoder,
    encoder: Encoder,
    client: Dialect,
    model: String,
    outcome: Outcome,
    said: Said,
}

impl StreamTranslation {
    /// Take bytes from the provider; what comes back goes to the client now.
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        if self.outcome != Outcome::Open {
            return Vec::new();
        }
        let mut events = Vec::new();
        let readable = self.decoder.feed(chunk, &mut events);
        let mut out = self.write(&events);
        if readable.is_err() && self.outcome == Outcome::Open {
            self.outcome = Outcome::Garbage;
            out.extend(self.encoder.failed(self.client, &Failure::garbage()));
        }
        out
    }

    /// The provider has closed the stream, `clean`ly or not; what comes back goes to the client last. An answer that
    /// is not complete ends in an error event.
    pub fn finish(&mut self, clean: bool) -> Vec<u8> {
        if self.outcome != Outcome::Open {
            return Vec::new();
        }
        let mut events = Vec::new();
        let complete = self.decoder.finish(clean, &mut events);
        let mut out = self.write(&events);
        if self.outcome == Outcome::Open && !complete {
            self.outcome = Outcome::Cut;
            out.extend(self.encoder.failed(self.client, &Failure::cut()));
        }
        out
    }

    /// The stream is to end here, whatever the provider would still say: with an error event, unless it is over.
    pub fn interrupt(&mut self, failure: &Failure) -> Vec<u8> {
        if self.outcome != Outcome::Open {
            return Vec::new();
        }
        self.outcome = Outcome::Cut;
        self.encoder.failed(self.client, failure)
    }

    /// What the stream has come to.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Usage seen so far.
    pub fn usage(&self) -> Usage {
        self.decoder.usage()
    }

    /// What has been said so far.
    pub fn said(&self) -> Said {
        self.said
    }

    fn write(&mut self, events: &[Event]) -> Vec<u8> {
        let mut out = String::new();
        for event in events {
            self.said.event(event);
            if self.outcome != Outcome::Open {
                break;
            }
            let several = event.choice().is_some_and(|choice| choice > 0);
            if matches!(self.client, Dialect::AnthropicMessages | Dialect::OpenAiResponses) && several {
                // There is room for one answer; the request could not have asked for more.
                self.fail(ProviderError::stream(format!("{}.", ResponseError::ManyChoices)), &mut out);
                break;
            }
            match event {
                Event::Error(error) => self.fail(error.clone(), &mut out),
                Event::End => {
                    self.encoder.write(event, &mut out);
                    self.outcome = Outcome::Complete;
                }
                Event::Start { id, model, created } if model.is_empty() => {
                    let named =
                        Event::Start { id: id.clone(), model: std::mem::take(&mut self.model), created: *created };
                    self.encoder.write(&named, &mut out);
                }
                other => self.encoder.write(other, &mut out),
            }
            if self.outcome == Outcome::Open && self.encoder.overflowed() {
                self.fail(ProviderError::stream("The provider mixed too many tool calls."), &mut out);
            }
        }
        out.into_bytes()
    }

    fn fail(&mut self, error: ProviderError, out: &mut String) {
        out.push_str(&String::from_utf8_lossy(&self.encoder.failed(self.client, &Failure::from(&error))));
        self.outcome = Outcome::Failed(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistral_is_given_the_seed_under_its_own_name() {
        let body = br#"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"seed":7}}"#;
        let sent = |kind: &str| {
            let options = Options { flavour: Flavour::of_kind(kind), stream: true, ..Options::default() };
            let translation = Translation::new(Dialect::Gemini, Dialect::OpenAiChat, options).unwrap();
            String::from_utf8(translation.request(body, &Edits { model: Some("m"), ..Edits::default() }).unwrap())
                .unwrap()
        };
        assert!(sent("mistral").contains(r#""random_seed":7"#) && !sent("mistral").contains("stream_options"));
        assert!(sent("groq").contains(r#""seed":7"#));
    }

    #[test]
    fn an_answer_that_names_no_model_is_of_the_one_that_was_asked() {
        let told = |translation: &Translation, named: &str| {
            let body = format!(r#"{{"choices":[{{"message":{{"content":"a"}},"finish_reason":"stop"}}]{named}}}"#);
            translation.response(body.as_bytes()).unwrap().model
        };
        let translation =
            Translation::new(Dialect::AnthropicMessages, Dialect::OpenAiChat, Options::default()).unwrap();
        let translation = translation.naming("asked");
        assert_eq!(told(&translation, ""), "asked");
        assert_eq!(told(&translation, r#","model":"other""#), "other");
        let chunk = br#"data: {"choices":[{"delta":{"content":"a"}}]}"#;
        let mut stream = translation.stream(true);
        let out = stream.feed(&[chunk.as_slice(), b"\n\n"].concat());
        assert!(String::from_utf8(out).unwrap().contains(r#""model":"asked""#));
    }
}

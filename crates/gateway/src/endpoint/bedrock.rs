//! Bedrock Runtime's own paths: `/model/{model}/converse` and its siblings. The path names the model.

use config::ProviderDialect;
use http::HeaderMap;
use llm::passthrough::{Peek, peek};
use llm::{Dialect, Usage};

use super::{Asked, request_problem};
use crate::problem::{Refusal, Surface};
use crate::snapshot::Provider;

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// An answer in Converse's form.
    Converse {
        /// As an event stream.
        stream: bool,
    },
    /// An answer in the form of the model's maker.
    Invoke {
        /// As an event stream.
        stream: bool,
    },
    /// How many tokens a request has. Nothing is generated.
    CountTokens,
}

/// Such a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The model, decoded: its id, an inference profile, or an ARN.
    pub(crate) model: String,
    pub(crate) call: Call,
}

impl Path {
    /// Read what follows the provider's base.
    pub(crate) fn of(below: &str) -> Option<Self> {
        let (model, call) = below.strip_prefix("/model/")?.split_once('/')?;
        let call = match call {
            "converse" => Call::Converse { stream: false },
            "converse-stream" => Call::Converse { stream: true },
            "invoke" => Call::Invoke { stream: false },
            "invoke-with-response-stream" => Call::Invoke { stream: true },
            "count-tokens" => Call::CountTokens,
            _ => return None,
        };
        let model = percent_encoding::percent_decode_str(model).decode_utf8().ok()?.into_owned();
        (!model.is_empty()).then_some(Self { model, call })
    }
}

/// The call that `below` is at `provider`, if that is Bedrock.
pub(super) fn path(provider: &Provider, below: &str) -> Option<Path> {
    if provider.dialect == ProviderDialect::Bedrock { Path::of(below) } else { None }
}

/// Whether a call generates nothing.
pub(super) fn only_counts(provider: &Provider, below: &str) -> bool {
    path(provider, below).is_some_and(|path| path.call == Call::CountTokens)
}

/// Whose error format a caller of a provider's own path expects: OpenAI's on Bedrock's own OpenAI-compatible paths, Anthropic's on
/// its own.
pub(crate) fn surface(rest: &str) -> Surface {
    if rest.starts_with("/anthropic/") {
        return Surface::Anthropic;
    }
    if rest.starts_with("/openai/") || rest.starts_with("/v1/") { Surface::OpenAi } else { Surface::Aws }
}

/// See what such a call asks.
pub(super) fn look(asked: &Asked<'_>, path: &Path) -> Result<(Dialect, Peek), Refusal> {
    let (dialect, stream, body) = match path.call {
        Call::Converse { stream } => (Dialect::BedrockConverse, stream, &asked.body[..]),
        Call::Invoke { stream } => (Dialect::BedrockInvoke, stream, &asked.body[..]),
        // Whatever is counted is not asked for.
        Call::CountTokens => (Dialect::BedrockConverse, false, b"{}".as_slice()),
    };
    let seen = peek(dialect, body, &asked.snapshot.limits.json).and_then(|seen| seen.with_path(&path.model, stream));
    Ok((dialect, seen.map_err(|error| Refusal::from(request_problem(&error)))?))
}

/// What Bedrock counted, which its answer's fields tell whoever made the model; else what was `seen` in the body.
pub(crate) fn counted(headers: &HeaderMap, seen: Usage) -> Usage {
    let field = |name: &str| {
        let name = format!("x-amzn-bedrock-{name}-token-count");
        headers
            .get(name.as_str())
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    let Some(fresh) = field("input") else { return seen };
    let (cache_read_tokens, cache_write_tokens) = (field("cache-read-input"), field("cache-write-input"));
    let cached = cache_read_tokens.unwrap_or(0).saturating_add(cache_write_tokens.unwrap_or(0));
    let input_tokens = fresh.saturating_add(cached);
    let output_tokens = field("output").or(seen.output_tokens);
    Usage {
        input_tokens: Some(input_tokens),
        output_tokens,
        total_tokens: Some(input_tokens.saturating_add(output_tokens.unwrap_or(0))),
        cache_read_tokens,
        cache_write_tokens,
        ..seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_path_says_the_model_and_what_is_asked_of_it() {
        let path = |model: &str, call| Some(Path { model: model.to_owned(), call });
        let stream = Call::Converse { stream: true };
        assert_eq!(Path::of("/model/amazon.nova-lite-v1:0/converse-stream"), path("amazon.nova-lite-v1:0", stream));
        assert_eq!(Path::of("/model/amazon.nova-lite-v1%3A0/converse-stream"), path("amazon.nova-lite-v1:0", stream));
        let arn = "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.x";
        let written = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A000000000000%3Ainference-profile%2Fus.x/invoke";
        assert_eq!(Path::of(written), path(arn, Call::Invoke { stream: false }));
        assert_eq!(Path::of("/model/x/count-tokens"), path("x", Call::CountTokens));
        for other in [
            "/model//converse",
            "/model/x",
            "/model/x/y/converse",
            "/model/x/Converse",
            "/model/%ff/converse",
            "/async-invoke",
        ] {
            assert_eq!(Path::of(other), None, "{other}");
        }
    }

    #[test]
    fn what_bedrock_counted_goes_before_what_the_model_says() {
        let seen = Usage { input_tokens: Some(1), output_tokens: Some(2), ..Usage::default() };
        assert_eq!(counted(&HeaderMap::new(), seen), seen);
        let mut headers = HeaderMap::new();
        for (name, value) in [("input", "4"), ("output", "50"), ("cache-read-input", "18131")] {
            let name = http::HeaderName::try_from(format!("x-amzn-bedrock-{name}-token-count")).expect("name");
            headers.insert(name, HeaderValue::from_static(value));
        }
        let usage = counted(&headers, seen);
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(18135), Some(50)));
        assert_eq!((usage.cache_read_tokens, usage.total_tokens), (Some(18131), Some(18185)));
    }
}

//! How many tokens a request has: asked of a provider without having it answered.

use crate::json::{Limits, members, node, object};
use crate::passthrough::Edits;
use crate::{Dialect, Flavour, JsonError, Options, RequestError, ResponseError, Translation};

/// How a provider counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// OpenAI's `/v1/responses/input_tokens` (platform.openai.com/docs/api-reference/responses/input-tokens).
    OpenAi,
    /// Anthropic's `/v1/messages/count_tokens` (docs.claude.com/en/api/messages-count-tokens).
    Anthropic,
    /// Google's `:countTokens` (ai.google.dev/api/tokens): the whole request stands in `generateContentRequest`.
    Gemini,
    /// Vertex AI's `:countTokens`
    /// (cloud.google.com/vertex-ai/generative-ai/docs/model-reference/count-tokens): the request stands by itself.
    Vertex,
    /// Amazon Bedrock's `/model/{model}/count-tokens`
    /// (`docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html`).
    Bedrock,
}

impl Surface {
    /// In which dialect the request stands that is counted.
    const fn dialect(self) -> Dialect {
        match self {
            Self::OpenAi => Dialect::OpenAiResponses,
            Self::Anthropic => Dialect::AnthropicMessages,
            Self::Gemini | Self::Vertex => Dialect::Gemini,
            Self::Bedrock => Dialect::BedrockConverse,
        }
    }

    /// The members that are counted; the others only say how to answer, and are refused.
    const fn counted(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic => &[
                "model",
                "messages",
                "system",
                "tools",
                "tool_choice",
                "thinking",
                "output_config",
                "output_format",
                "mcp_servers",
                "cache_control",
                "context_management",
            ],
            Self::OpenAi => &[
                "model",
                "input",
                "instructions",
                "tools",
                "tool_choice",
                "parallel_tool_calls",
                "text",
                "reasoning",
                "truncation",
                "previous_response_id",
                "conversation",
            ],
            // All of them.
            Self::Gemini => &[],
            Self::Vertex => &["contents", "systemInstruction", "system_instruction", "tools"],
            Self::Bedrock => &["messages", "system", "toolConfig", "additionalModelRequestFields"],
        }
    }

    /// The member of an answer that says how many.
    const fn total(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Anthropic => "input_tokens",
            Self::Gemini | Self::Vertex => "totalTokens",
            Self::Bedrock => "inputTokens",
        }
    }
}

/// The request that a client would have counted: `body`, or what Google's form has in `generateContentRequest`.
pub fn inner(client: Dialect, body: &[u8], limits: &Limits) -> Result<Option<Vec<u8>>, RequestError> {
    if client != Dialect::Gemini {
        return Ok(None);
    }
    let all = members(body, limits)?;
    let wrapped = |name: &str| matches!(name, "generateContentRequest" | "generate_content_request");
    let mut found = all.iter().filter(|member| wrapped(&member.name));
    let Some(inner) = found.next() else { return Ok(None) };
    if found.next().is_some() || all.iter().any(|member| member.name == "contents") {
        let why = "it stands beside another request";
        return Err(RequestError::Forbidden { param: "generateContentRequest".to_owned(), why });
    }
    if !inner.raw.starts_with('{') {
        return Err(RequestError::wrong("generateContentRequest", "an object"));
    }
    Ok(Some(inner.raw.as_bytes().to_vec()))
}

/// A client's request as `surface` counts it for its `model`.
pub fn request(client: Dialect, body: &[u8], surface: Surface, model: &str) -> Result<Vec<u8>, RequestError> {
    let options = Options { flavour: Flavour::default(), ..Options::default() };
    let translation = Translation::new(client, surface.dialect(), options)
        .ok_or_else(|| RequestError::unsupported("model", "its provider counts no tokens"))?;
    let written = if client == surface.dialect() {
        body.to_vec()
    } else {
        translation.request(body, &Edits { model: Some(model), ..Edits::default() })?
    };
    wrap(&written, surface, model).map_err(Into::into)
}

/// What of a provider's request is counted, in the form that it is counted in.
fn wrap(request: &[u8], surface: Surface, model: &str) -> Result<Vec<u8>, JsonError> {
    let all = members(request, &Limits::REQUEST)?;
    let counted = surface.counted();
    let kept = || all.iter().filter(|member| counted.is_empty() || counted.contains(&member.name.as_ref()));
    let body = match surface {
        Surface::OpenAi | Surface::Anthropic | Surface::Vertex => {
            object(|o| kept().for_each(|member| o.raw(&member.name, member.raw)))
        }
        Surface::Gemini => {
            let name = if model.starts_with("models/") { model.to_owned() } else { format!("models/{model}") };
            object(|o| {
                o.object("generateContentRequest", |o| {
                    o.text("model", &name);
                    kept().filter(|member| member.name != "model").for_each(|member| o.raw(&member.name, member.raw));
                });
            })
        }
        Surface::Bedrock => object(|o| {
            o.object("input", |o| {
                o.object("converse", |o| kept().for_each(|member| o.raw(&member.name, member.raw)));
            });
        }),
    };
    Ok(body.into_bytes())
}

/// The id by which Amazon Bedrock counts for `model`: that of the model itself, of which an inference profile for several regions has
/// it behind the name of the area (docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html).
pub fn bedrock_model(model: &str) -> &str {
    const AREAS: [&str; 10] = ["us", "us-gov", "eu", "apac", "global", "jp", "au", "ca", "sa", "amer"];
    match model.split_once('.') {
        Some((area, rest)) if AREAS.contains(&area) && rest.contains('.') => rest,
        _ => model,
    }
}

/// How many tokens a provider's answer says.
pub fn read(surface: Surface, body: &[u8]) -> Result<u64, ResponseError> {
    let text = std::str::from_utf8(body).map_err(|_| ResponseError::Shape("text"))?;
    let root = node(text, &Limits::RESPONSE)?;
    root.get(surface.total()).and_then(crate::json::Node::whole).ok_or(ResponseError::Shape("number of tokens"))
}

/// The number as the client is told.
pub fn answer(client: Dialect, tokens: u64) -> Vec<u8> {
    let name = if client == Dialect::Gemini { "totalTokens" } else { "input_tokens" };
    let told = object(|o| {
        if client == Dialect::OpenAiResponses {
            o.text("object", "response.input_tokens");
        }
        o.number(name, tokens);
    });
    told.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(client: Dialect, body: &Value, surface: Surface) -> Value {
        let written = request(client, body.to_string().as_bytes(), surface, "m").unwrap();
        serde_json::from_slice(&written).unwrap()
    }

    #[test]
    fn a_request_is_counted_by_every_provider_in_its_own_form() {
        let ask = json!({"model": "x", "system": "Be brief.", "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}]});
        let google = written(Dialect::AnthropicMessages, &ask, Surface::Gemini);
        let inner = &google["generateContentRequest"];
        assert_eq!(inner["model"], "models/m");
        assert_eq!(inner["contents"][0]["parts"][0]["text"], "hi");
        assert_eq!(inner["tools"][0]["functionDeclarations"][0]["name"], "f");
        let vertex = written(Dialect::AnthropicMessages, &ask, Surface::Vertex);
        let mut names: Vec<&str> = vertex.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["contents", "systemInstruction", "tools"]);
        let openai = written(Dialect::AnthropicMessages, &ask, Surface::OpenAi);
        assert_eq!((&openai["model"], &openai["instructions"]), (&json!("m"), &json!("Be brief.")));
        assert!(openai.get("store").is_none() && openai["tools"][0]["name"] == "f", "{openai}");
        let bedrock = written(Dialect::AnthropicMessages, &ask, Surface::Bedrock);
        let converse = &bedrock["input"]["converse"];
        assert_eq!(converse["messages"][0]["content"][0]["text"], "hi");
        assert!(converse.get("inferenceConfig").is_none() && converse["toolConfig"].is_object(), "{converse}");
    }

    #[test]
    fn googles_request_is_counted_without_what_says_how_to_answer() {
        let ask = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "systemInstruction": {"parts": [{"text": "Be brief."}]}, "generationConfig": {"temperature": 0.5, "maxOutputTokens": 7}});
        let anthropic = written(Dialect::Gemini, &ask, Surface::Anthropic);
        let mut names: Vec<&str> = anthropic.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["messages", "model", "system"]);
        assert_eq!(anthropic["model"], "m");
        let vertex = written(Dialect::Gemini, &ask, Surface::Vertex);
        assert_eq!(vertex.as_object().unwrap().len(), 2, "{vertex}");
    }

    #[test]
    fn a_request_within_a_request_is_found_and_two_are_refused() {
        let inside = |body: &str| inner(Dialect::Gemini, body.as_bytes(), &Limits::REQUEST);
        assert_eq!(inside(r#"{"contents":[]}"#), Ok(None));
        let wrapped = inside(r#"{"generate_content_request": {"contents":[]} }"#).unwrap();
        assert_eq!(wrapped.as_deref(), Some(r#"{"contents":[]}"#.as_bytes()));
        for two in [
            r#"{"contents":[],"generateContentRequest":{"contents":[]}}"#,
            r#"{"generateContentRequest":{},"generate_content_request":{}}"#,
            r#"{"generateContentRequest":[]}"#,
        ] {
            assert!(inside(two).is_err(), "{two}");
        }
    }

    #[test]
    fn a_profile_for_several_regions_is_counted_as_the_model_behind_it() {
        for (named, counted) in [
            ("us.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic.claude-sonnet-4-20250514-v1:0"),
            ("global.anthropic.claude-x", "anthropic.claude-x"),
            ("anthropic.claude-3.5", "anthropic.claude-3.5"),
            ("us.x", "us.x"),
            (
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.a.b",
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.a.b",
            ),
        ] {
            assert_eq!(bedrock_model(named), counted);
        }
    }

    #[test]
    fn a_number_is_read_from_each_and_told_to_each() {
        for (surface, body) in [
            (Surface::OpenAi, r#"{"object":"response.input_tokens","input_tokens":14}"#),
            (Surface::Anthropic, r#"{"input_tokens":14}"#),
            (Surface::Gemini, r#"{"totalTokens":14,"promptTokensDetails":[]}"#),
            (Surface::Vertex, r#"{"totalBillableCharacters":123,"totalTokens":14}"#),
            (Surface::Bedrock, r#"{"inputTokens":14}"#),
        ] {
            assert_eq!(read(surface, body.as_bytes()), Ok(14), "{surface:?}");
            assert!(read(surface, b"{}").is_err() && read(surface, b"<html>").is_err());
        }
        assert_eq!(answer(Dialect::Gemini, 14), br#"{"totalTokens":14}"#);
        assert_eq!(answer(Dialect::AnthropicMessages, 14), br#"{"input_tokens":14}"#);
        let openai = answer(Dialect::OpenAiResponses, 14);
        assert_eq!(openai, br#"{"object":"response.input_tokens","input_tokens":14}"#);
    }
}

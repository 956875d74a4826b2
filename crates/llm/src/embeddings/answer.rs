//! Answers: vectors cut out of what a provider sent, and written as the client takes them.

use super::vector::Vector;
use super::{Client, Embed, Surface};
use crate::json::{Limits, elements, members, node, object};
use crate::model::Usage;
use crate::provider::usage::openai;
use crate::translate::Answer;
use crate::{ResponseError, provider};

/// Vectors are walked, not built.
const LIMITS: Limits = Limits { nodes: usize::MAX, ..Limits::RESPONSE };

/// What an answer holds.
#[derive(Debug, Default)]
struct Read<'a> {
    vectors: Vec<Vector<'a>>,
    model: Option<String>,
    usage: Usage,
}

impl Embed {
    /// The provider's answer as the client's. `model`: what was asked for, where the provider does not say.
    /// `counted`: its tokens, where something beside the answer tells them.
    pub fn answer(
        &self,
        surface: Surface,
        body: &[u8],
        model: &str,
        counted: Option<u64>,
    ) -> Result<Answer, ResponseError> {
        let mut read = match surface {
            Surface::OpenAi | Surface::Voyage => openai_data(body)?,
            Surface::Gemini => gemini(body)?,
            Surface::Vertex => vertex(body)?,
            Surface::Cohere | Surface::BedrockCohere => cohere(body)?,
            Surface::BedrockTitan => titan(body)?,
            Surface::Ollama => ollama(body)?,
        };
        read.usage.input_tokens = read.usage.input_tokens.or(counted);
        if read.vectors.len() != self.inputs.len() {
            return Err(ResponseError::Shape("vector for each input"));
        }
        let model = read.model.unwrap_or_else(|| model.to_owned());
        let body = match self.client {
            Client::OpenAi => self.to_openai(&read.vectors, &model, &read.usage)?,
            Client::Gemini | Client::GeminiBatch => self.to_gemini(&read.vectors, &read.usage)?,
        };
        Ok(Answer { body: body.into_bytes(), usage: read.usage, model })
    }

    fn to_openai(&self, vectors: &[Vector<'_>], model: &str, usage: &Usage) -> Result<String, ResponseError> {
        let written: Result<Vec<String>, _> =
            vectors.iter().map(|vector| if self.base64 { vector.base64() } else { vector.numbers() }).collect();
        let written = written?;
        Ok(object(|o| {
            o.text("object", "list");
            o.array("data", |a| {
                for (index, vector) in (0..).zip(&written) {
                    a.object(|o| {
                        o.text("object", "embedding");
                        o.number("index", index);
                        o.raw("embedding", vector);
                    });
                }
            });
            o.text("model", model);
            o.object("usage", |o| {
                let input = usage.input_tokens.unwrap_or(0);
                o.number("prompt_tokens", input);
                o.number("total_tokens", usage.total_tokens.unwrap_or(input));
            });
        }))
    }

    fn to_gemini(&self, vectors: &[Vector<'_>], usage: &Usage) -> Result<String, ResponseError> {
        let written: Vec<String> = vectors.iter().map(Vector::numbers).collect::<Result<_, _>>()?;
        Ok(object(|o| {
            match (self.client, written.as_slice()) {
                (Client::Gemini, [one]) => o.object("embedding", |o| o.raw("values", one)),
                (_, several) => o.array("embeddings", |a| {
                    for vector in several {
                        a.object(|o| o.raw("values", vector));
                    }
                }),
            }
            if let Some(input) = usage.input_tokens {
                o.object("usageMetadata", |o| {
                    o.number("promptTokenCount", input);
                    o.number("totalTokenCount", usage.total_tokens.unwrap_or(input));
                });
            }
        }))
    }
}

const SHAPE: ResponseError = ResponseError::Shape("list of embeddings");

fn tokens(count: Option<u64>) -> Usage {
    Usage { input_tokens: count, total_tokens: count, ..Usage::default() }
}

/// The value of a member, as it is written.
fn raw<'a>(body: &'a [u8], name: &str) -> Result<Option<&'a str>, ResponseError> {
    let found = members(body, &LIMITS)?.into_iter().rev().find(|member| member.name == name && member.raw != "null");
    Ok(found.map(|member| member.raw))
}

fn whole(raw: Option<&str>) -> Option<u64> {
    raw.and_then(|raw| raw.parse().ok())
}

/// Each of a list of objects' member `name`.
fn each<'a>(list: &'a str, name: &str) -> Result<Vec<Vector<'a>>, ResponseError> {
    let one = |item: &'a str| Vector::read(raw(item.as_bytes(), name)?.ok_or(SHAPE)?);
    elements(list, &LIMITS)?.into_iter().map(one).collect()
}

/// `{"data":[{"index","embedding"}],"model","usage"}`
fn openai_data(body: &[u8]) -> Result<Read<'_>, ResponseError> {
    let Some(data) = raw(body, "data")? else {
        // Some tell of a failure with status 200.
        let told = raw(body, "error")?.and_then(|error| node(error, &Limits::RESPONSE).ok());
        return Err(told.map_or(SHAPE, |error| ResponseError::Failed(provider::error_of(&error))));
    };
    let mut found = Vec::new();
    for (at, item) in elements(data, &LIMITS)?.into_iter().enumerate() {
        let index = whole(raw(item.as_bytes(), "index")?).and_then(|index| usize::try_from(index).ok()).unwrap_or(at);
        found.push((index, Vector::read(raw(item.as_bytes(), "embedding")?.ok_or(SHAPE)?)?));
    }
    found.sort_by_key(|(index, _)| *index);
    let usage = raw(body, "usage")?.and_then(|usage| node(usage, &Limits::RESPONSE).ok());
    let mut usage = usage.map(|usage| openai(&usage)).unwrap_or_default();
    // Voyage counts the whole only.
    usage.input_tokens = usage.input_tokens.or(usage.total_tokens);
    let model = raw(body, "model")?.and_then(|raw| Some(node(raw, &Limits::RESPONSE).ok()?.text()?.into_owned()));
    Ok(Read { vectors: found.into_iter().map(|(_, vector)| vector).collect(), model, usage })
}

/// `{"embeddings":[{"values"}],"usageMetadata"}`; one alone as `{"embedding":{"values"}}`.
fn gemini(body: &[u8]) -> Result<Read<'_>, ResponseError> {
    let usage = raw(body, "usageMetadata")?.map(|usage| raw(usage.as_bytes(), "promptTokenCount")).transpose()?;
    let usage = tokens(whole(usage.flatten()));
    if let Some(list) = raw(body, "embeddings")? {
        return Ok(Read { vectors: each(list, "values")?, usage, ..Read::default() });
    }
    let one = raw(body, "embedding")?.ok_or(SHAPE)?;
    let vector = Vector::read(raw(one.as_bytes(), "values")?.ok_or(SHAPE)?)?;
    Ok(Read { vectors: vec![vector], usage, ..Read::default() })
}

/// `{"predictions":[{"embeddings":{"values","statistics":{"token_count"}}}]}`
fn vertex(body: &[u8]) -> Result<Read<'_>, ResponseError> {
    let mut read = Read::default();
    let mut count = Some(0_u64);
    for item in elements(raw(body, "predictions")?.ok_or(SHAPE)?, &LIMITS)? {
        let embedding = raw(item.as_bytes(), "embeddings")?.ok_or(SHAPE)?.as_bytes();
        read.vectors.push(Vector::read(raw(embedding, "values")?.ok_or(SHAPE)?)?);
        let told = raw(embedding, "statistics")?.and_then(|raw| node(raw, &Limits::RESPONSE).ok());
        // Written with or without a fraction.
        let told = told.and_then(|statistics| statistics.get("token_count")?.number());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked: no text is as long
        let told = told.filter(|count| (0.0..1e12).contains(count)).map(|count| count as u64);
        count = count.zip(told).map(|(sum, told)| sum.saturating_add(told));
    }
    Ok(Read { usage: tokens(count), ..read })
}

/// `{"embeddings":{"float":[[..]]},"meta":{"billed_units":{"input_tokens"}}}`, or the bare list of earlier versions.
fn cohere(body: &[u8]) -> Result<Read<'_>, ResponseError> {
    let embeddings = raw(body, "embeddings")?.ok_or(SHAPE)?;
    let list =
        if embeddings.starts_with('{') { raw(embeddings.as_bytes(), "float")?.ok_or(SHAPE)? } else { embeddings };
    let vectors = elements(list, &LIMITS)?.into_iter().map(Vector::read).collect::<Result<_, _>>()?;
    let meta = raw(body, "meta")?.and_then(|meta| node(meta, &Limits::RESPONSE).ok());
    let billed = meta.as_ref().and_then(|meta| meta.get("billed_units")?.get("input_tokens")?.whole());
    Ok(Read { vectors, usage: tokens(billed), ..Read::default() })
}

/// `{"embedding":[..],"inputTextTokenCount"}`
fn titan(body: &[u8]) -> Result<Read<'_>, ResponseError> {
    let vector = Vector::read(raw(body, "embedding")?.ok_or(SHAPE)?)?;
    Ok(Read { vectors: vec![vector], usage: tokens(whole(raw(body, "inputTextTokenCount")?)), ..Read::default() })
}

/// `{"embeddings":[[..]],"prompt_eval_count"}`
fn ollama(body: &[u8]) -> Result<Read<'_>, ResponseError> {
    let list = elements(raw(body, "embeddings")?.ok_or(SHAPE)?, &LIMITS)?;
    let vectors = list.into_iter().map(Vector::read).collect::<Result<_, _>>()?;
    Ok(Read { vectors, usage: tokens(whole(raw(body, "prompt_eval_count")?)), ..Read::default() })
}

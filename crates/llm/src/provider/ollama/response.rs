//! A complete answer of Ollama's.

use super::{id_of, logprobs, parts, stop};
use crate::ResponseError;
use crate::json::Node;
use crate::model::{Body, Choice, Response};
use crate::provider::usage;

/// `root` as a canonical answer.
pub(crate) fn response(root: &Node<'_>) -> Result<Response, ResponseError> {
    let message = root.get("message").filter(|message| message.is_object()).ok_or(ResponseError::Shape("message"))?;
    let id = id_of(root);
    let parts = parts(message, id.as_deref(), 0);
    let calls = parts.iter().any(|part| matches!(part.body, Body::ToolCall(_)));
    let choice = Choice { index: 0, stop: stop(root, calls), parts, logprobs: logprobs(root) };
    Ok(Response {
        dialect: crate::Dialect::OllamaChat,
        id,
        model: root.text_of("model").unwrap_or_default().into_owned(),
        created: None,
        choices: vec![choice],
        usage: usage::ollama(root),
    })
}

//! The items an answer consists of, and the object around them.

use super::{ASKED, Asked, free_text, seal, sign};
use crate::json::{Array, Object};
use crate::model::{Citation, TokenLogprob, Usage};

/// One of `output`.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) body: Content,
    /// `in_progress`, `completed` or `incomplete`.
    pub(super) status: &'static str,
}

/// What an item holds.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Reasoning {
        summary: String,
        sealed: Option<String>,
    },
    Message(Vec<Said>),
    Call {
        call_id: String,
        name: String,
        arguments: String,
        custom: bool,
    },
    /// Of OpenAI's own kind, as it came.
    Raw(String),
}

/// A part of a message.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) refusal: bool,
    pub(super) citations: Vec<Citation>,
    pub(super) logprobs: Vec<TokenLogprob>,
}

impl Content {
    /// Reasoning that its maker signed. What OpenAI signed has an id.
    pub(super) fn signed(summary: String, signature: &str) -> (Option<String>, Self) {
        let (id, sealed) = sign(signature);
        (id.map(str::to_owned), Self::Reasoning { summary, sealed: Some(sealed) })
    }

    /// Reasoning only its maker can read.
    pub(super) fn sealed(data: &str) -> Self {
        Self::Reasoning { summary: String::new(), sealed: Some(seal(data)) }
    }

    /// What an id of such an item begins with.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Reasoning { .. } => "rs",
            Self::Message(_) => "msg",
            Self::Call { custom: false, .. } => "fc",
            Self::Call { custom: true, .. } => "ctc",
            Self::Raw(_) => "item",
        }
    }
}

/// The id of the `number`-th item of an answer.
pub(super) fn item_id(answer: &str, number: usize, content: &Content) -> String {
    let own = answer.strip_prefix("resp_").unwrap_or(answer);
    format!("{}_{own}_{number}", content.prefix())
}

impl Item {
    pub(super) fn write(&self, a: &mut Array<'_>) {
        if let Content::Raw(raw) = &self.body {
            return a.raw(raw);
        }
        a.object(|o| self.members(o));
    }

    pub(super) fn members(&self, o: &mut Object<'_>) {
        o.text("id", &self.id);
        match &self.body {
            Content::Reasoning { summary, sealed } => {
                o.text("type", "reasoning");
                o.array("summary", |a| {
                    if !summary.is_empty() {
                        a.object(|o| summary_part(o, summary));
                    }
                });
                o.maybe_text("encrypted_content", sealed.as_deref());
            }
            Content::Message(parts) => {
                o.text("type", "message");
                o.text("status", self.status);
                o.array("content", |a| parts.iter().for_each(|said| a.object(|o| said.members(o))));
                o.text("role", "assistant");
            }
            Content::Call { call_id, name, arguments, custom } => {
                o.text("type", if *custom { "custom_tool_call" } else { "function_call" });
                o.text("status", self.status);
                if *custom {
                    o.text("input", &free_text(arguments));
                } else {
                    o.text("arguments", arguments);
                }
                o.text("call_id", call_id);
                o.text("name", name);
            }
            Content::Raw(_) => {}
        }
    }
}

pub(super) fn summary_part(o: &mut Object<'_>, text: &str) {
    o.text("type", "summary_text");
    o.text("text", text);
}

impl Said {
    pub(super) fn members(&self, o: &mut Object<'_>) {
        if self.refusal {
            o.text("type", "refusal");
            o.text("refusal", &self.text);
            return;
        }
        o.text("type", "output_text");
        let end = self.text.chars().count();
        o.array("annotations", |a| self.citations.iter().for_each(|citation| annotation(a, citation, end)));
        logprobs(o, &self.logprobs);
        o.text("text", &self.text);
    }
}

fn annotation(a: &mut Array<'_>, citation: &Citation, end: usize) {
    a.object(|o| annotated(o, citation, end));
}

/// A `url_citation` for the text so far: where in it the others' citations belong is not told.
pub(super) fn annotated(o: &mut Object<'_>, citation: &Citation, end: usize) {
    o.text("type", "url_citation");
    o.number("start_index", 0);
    o.number("end_index", end as u64);
    o.text("url", &citation.url);
    o.text("title", citation.title.as_deref().unwrap_or_default());
}

/// `logprobs` of a text: always there.
pub(super) fn logprobs(o: &mut Object<'_>, tokens: &[TokenLogprob]) {
    let told = |o: &mut Object<'_>, token: &str, logprob: &str| {
        o.text("token", token);
        o.array("bytes", |a| token.bytes().for_each(|byte| a.raw(&byte.to_string())));
        o.raw("logprob", logprob);
    };
    o.array("logprobs", |a| {
        for token in tokens {
            a.object(|o| {
                told(o, &token.token, token.logprob.as_str());
                o.array("top_logprobs", |a| {
                    token.top.iter().for_each(|(text, logprob)| a.object(|o| told(o, text, logprob.as_str())));
                });
            });
        }
    });
}

/// What an answer is, beside its items.
pub(super) struct Whole<'a> {
    pub(super) id: &'a str,
    pub(super) created: u64,
    /// When it was complete; null before.
    pub(super) completed: Option<u64>,
    pub(super) model: &'a str,
    /// `status`, and why it is incomplete.
    pub(super) status: (&'static str, Option<&'static str>),
    pub(super) usage: Option<&'a Usage>,
    pub(super) asked: &'a Asked,
}

impl Whole<'_> {
    /// The members of a response object.
    pub(super) fn members(&self, o: &mut Object<'_>, items: &[Item]) {
        o.text("id", self.id);
        o.text("object", "response");
        o.number("created_at", self.created);
        let (status, why) = self.status;
        o.text("status", status);
        o.boolean("background", false);
        match self.completed {
            Some(at) => o.number("completed_at", at),
            None => o.raw("completed_at", "null"),
        }
        o.raw("error", "null");
        match why {
            Some(why) => o.object("incomplete_details", |o| o.text("reason", why)),
            None => o.raw("incomplete_details", "null"),
        }
        o.text("model", self.model);
        o.array("output", |a| items.iter().for_each(|item| item.write(a)));
        o.raw("previous_response_id", "null");
        for (name, without) in ASKED {
            o.raw(name, self.asked.member(name, without));
        }
        o.boolean("store", false);
        o.text("truncation", "disabled");
        match self.usage.filter(|usage| usage.is_known()) {
            Some(told) => o.object("usage", |o| usage(o, told)),
            None => o.raw("usage", "null"),
        }
    }
}

fn usage(o: &mut Object<'_>, usage: &Usage) {
    let (input, output) = (usage.input_tokens.unwrap_or(0), usage.output_tokens.unwrap_or(0));
    o.number("input_tokens", input);
    o.object("input_tokens_details", |o| {
        o.number("cached_tokens", usage.cache_read_tokens.unwrap_or(0));
        o.number("cache_write_tokens", usage.cache_write_tokens.unwrap_or(0));
    });
    o.number("output_tokens", output);
    o.object("output_tokens_details", |o| o.number("reasoning_tokens", usage.reasoning_tokens.unwrap_or(0)));
    o.number("total_tokens", usage.total_tokens.unwrap_or_else(|| input.saturating_add(output)));
}

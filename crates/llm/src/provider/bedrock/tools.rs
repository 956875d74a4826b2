//! Tools, and whether they may be called.

use super::family::Family;
use super::request::{cache_point, member};
use crate::RequestError;
use crate::json::{Array, Object, array};
use crate::model::{Body, Request, Tool, ToolChoice};
use crate::provider::anthropic;

/// What is to be said about calling tools.
#[allow(clippy::struct_excessive_bools)] // independent of each other, but for the last
pub(super) struct Calls<'a> {
    choice: Option<&'a ToolChoice>,
    /// None may be called although there are some.
    none: bool,
    /// Nothing was called, and nothing may be: the model does without.
    dropped: bool,
    /// The choice goes into Claude's own fields: Converse's has no word for it, and both at once are refused.
    in_fields: bool,
    /// There is no word for it at all.
    pub(super) in_words: bool,
    /// Tools that the conversation calls, of which the request says no more.
    undeclared: Vec<&'a str>,
}

impl<'a> Calls<'a> {
    /// What `request` says of it, for a model of `family`.
    pub(super) fn of(request: &'a Request, family: Family) -> Result<Self, RequestError> {
        let called = called(request);
        let choice = request.tool_choice.as_ref().filter(|_| !request.tools.is_empty());
        let forbidden = choice == Some(&ToolChoice::None);
        let dropped = called.is_empty() && (forbidden || request.tools.is_empty());
        // Without tools to choose from nothing may be called either, whatever was called before.
        let none = !dropped && (forbidden || request.tools.is_empty());
        let single = !dropped && !none && request.parallel_tool_calls == Some(false);
        if single && !family.is_claude() {
            let name = match request.dialect {
                crate::Dialect::AnthropicMessages => "tool_choice.disable_parallel_tool_use",
                _ => "parallel_tool_calls",
            };
            return Err(RequestError::unsupported(name, "this model may always call several functions at once"));
        }
        let in_fields = single || (none && family.is_surely_claude());
        let undeclared = if request.tools.is_empty() { called } else { Vec::new() };
        Ok(Self { choice, none, dropped, in_fields, in_words: none && !in_fields, undeclared })
    }

    /// `toolChoice`.
    pub(super) fn choice(&self, o: &mut Object<'_>) {
        if self.in_fields {
            return;
        }
        match self.choice {
            Some(ToolChoice::Auto) => o.raw("toolChoice", r#"{"auto":{}}"#),
            Some(ToolChoice::Required) => o.raw("toolChoice", r#"{"any":{}}"#),
            Some(ToolChoice::Tool(name)) => {
                o.object("toolChoice", |o| o.object("tool", |o| o.text("name", name)));
            }
            Some(ToolChoice::None | ToolChoice::Other(_)) | None => {}
        }
    }

    /// Claude's own `tool_choice`.
    pub(super) fn field(&self, o: &mut Object<'_>) {
        if !self.in_fields {
            return;
        }
        o.object("tool_choice", |o| {
            if self.none {
                return o.text("type", "none");
            }
            match self.choice {
                Some(ToolChoice::Required) => o.text("type", "any"),
                Some(ToolChoice::Tool(name)) => {
                    o.text("type", "tool");
                    o.text("name", name);
                }
                _ => o.text("type", "auto"),
            }
            o.boolean("disable_parallel_tool_use", true);
        });
    }
}

/// The functions the conversation calls, each once.
fn called(request: &Request) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for part in request.messages.iter().flat_map(|message| &message.parts) {
        let name = match &part.body {
            Body::ToolCall(call) => call.name.as_str(),
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// `tools`.
pub(super) fn tools(request: &Request, family: Family, calls: &Calls<'_>) -> Result<Option<String>, RequestError> {
    for (i, tool) in request.tools.iter().enumerate() {
        if let Some((kind, _)) = &tool.native {
            let kind = request.kind_of(kind);
            return Err(RequestError::unsupported(format!("tools[{i}]{kind}"), "only functions can be translated"));
        }
        tool.extra
            .iter()
            .filter(|extra| extra.name != "defer_loading")
            .try_for_each(|extra| member(extra, &format!("tools[{i}].")))?;
    }
    if calls.dropped {
        return Ok(None);
    }
    Ok(Some(array(|a| {
        for tool in &request.tools {
            specification(a, tool, family);
            if let Some(point) = cache_point(tool.cache_control.as_ref(), family) {
                a.raw(&point);
            }
        }
        for name in &calls.undeclared {
            a.object(|o| {
                o.object("toolSpec", |o| {
                    o.text("name", name);
                    o.raw("inputSchema", r#"{"json":{"type":"object","properties":{}}}"#);
                });
            });
        }
    })))
}

fn specification(a: &mut Array<'_>, tool: &Tool, family: Family) {
    a.object(|o| {
        o.object("toolSpec", |o| {
            o.text("name", &tool.name);
            o.maybe_text("description", tool.description.as_deref().filter(|text| !text.is_empty()));
            o.object("inputSchema", |o| o.raw("json", &anthropic::schema(tool.schema.as_ref())));
            if tool.strict == Some(true) && family.is_structured() {
                o.boolean("strict", true);
            }
        });
    });
}

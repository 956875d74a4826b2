//! Google's requests for Google: only the model's name is set in them, wherever it stands.

use crate::RequestError;
use crate::dialect::gemini::snake;
use crate::json::{Limits, Member, elements, members, node, quoted};
use crate::passthrough::{apply, refuse_steering};

/// Where a request in Google's form names its model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    at: Vec<(usize, usize)>,
}

/// Where `body` names its model: itself, in each of `requests`, and in `generateContentRequest`. Each has to be the one the
/// path names.
pub fn named(body: &[u8], model: &str, limits: &Limits) -> Result<Named, RequestError> {
    let mut named = Named::default();
    let outer = members(body, limits)?;
    named.take(&outer, 0, model, limits)?;
    for member in &outer {
        let start = member.at;
        if member.name == "requests" {
            for item in elements(member.raw, limits)? {
                let at = start + offset(member.raw, item);
                named.take(&members(item.as_bytes(), limits)?, at, model, limits)?;
            }
        }
        if member.name == "generateContentRequest" || member.name == snake("generateContentRequest") {
            named.take(&members(member.raw.as_bytes(), limits)?, start, model, limits)?;
        }
    }
    Ok(named)
}

/// Where `part` begins in `whole`, of which it is a piece.
fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr())
}

impl Named {
    fn take(&mut self, all: &[Member<'_>], start: usize, model: &str, limits: &Limits) -> Result<(), RequestError> {
        for member in all {
            refuse_steering(&member.name)?;
            if member.name != "model" {
                continue;
            }
            let named = node(member.raw, limits)?.text().map(std::borrow::Cow::into_owned);
            let named = named.ok_or_else(|| RequestError::wrong("model", "a string"))?;
            if named.strip_prefix("models/").unwrap_or(&named) != model {
                return Err(RequestError::Forbidden { param: "model".to_owned(), why: "the path names another one" });
            }
            self.at.push((start + member.at, member.raw.len()));
        }
        Ok(())
    }

    /// The very body that was read, with this model named.
    pub fn set(&self, body: &[u8], model: &str) -> Vec<u8> {
        let name = if model.starts_with("models/") { model.to_owned() } else { format!("models/{model}") };
        apply(body, self.at.iter().map(|(at, length)| (*at, *length, quoted(&name))).collect())
    }
}

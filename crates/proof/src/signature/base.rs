//! What a signature covers, in the one form both sides compute (RFC 9421 section 2.5).

use std::borrow::Cow;

use super::SignatureProofError;
use super::field::{Bare, InnerList};

/// A request as far as its components go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'m> {
    pub(crate) method: &'m str,
    /// The target without its query: origin and path in normal form.
    pub(crate) target: &'m str,
    pub(crate) query: Option<&'m str>,
    /// Covered fields and their values.
    pub(crate) fields: &'m [(String, String)],
}

/// The names of the covered components in order. Each at most once, without parameters, in lower case: `;sf`, `;bs`,
/// `;key` and `;tr` would only give one request several bases, `;req` belongs to answers.
pub(crate) fn names(covered: &InnerList) -> Result<Vec<&str>, SignatureProofError> {
    let mut names: Vec<&str> = Vec::with_capacity(covered.items.len());
    for item in &covered.items {
        let Bare::String(name) = &item.value else { return Err(SignatureProofError::BadComponent) };
        let known = if name.starts_with('@') { is_derived(name) } else { is_field_name(name) };
        if !known || !item.parameters.is_empty() || names.contains(&name.as_str()) {
            return Err(SignatureProofError::BadComponent);
        }
        names.push(name);
    }
    Ok(names)
}

/// A field name (RFC 9110 section 5.6.2) in lower case.
fn is_field_name(name: &str) -> bool {
    let in_token = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(in_token)
}

fn is_derived(name: &str) -> bool {
    ["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"].contains(&name)
}

/// The signature base.
pub(crate) fn signature_base(covered: &InnerList, message: &Message<'_>) -> Result<String, SignatureProofError> {
    let mut base = String::new();
    for name in names(covered)? {
        let value = message.component(name).ok_or(SignatureProofError::BadComponent)?;
        for part in ["\"", name, "\": ", &value, "\n"] {
            base.push_str(part);
        }
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(&covered.canonical());
    Ok(base)
}

impl Message<'_> {
    fn component(&self, name: &str) -> Option<Cow<'_, str>> {
        let (scheme, rest) = self.target.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let with_query = |text: &str| match self.query {
            Some(query) => Cow::Owned(format!("{text}?{query}")),
            None => Cow::Owned(text.to_owned()),
        };
        Some(match name {
            "@method" => Cow::Borrowed(self.method),
            "@target-uri" => with_query(self.target),
            "@authority" => Cow::Borrowed(authority),
            "@scheme" => Cow::Borrowed(scheme),
            "@request-target" => with_query(path),
            "@path" => Cow::Borrowed(path),
            // An empty query and none are the same component (RFC 9421 section 2.2.7).
            "@query" => Cow::Owned(format!("?{}", self.query.unwrap_or_default())),
            field => Cow::Borrowed(self.fields.iter().find(|(known, _)| known == field)?.1.as_str()),
        })
    }
}

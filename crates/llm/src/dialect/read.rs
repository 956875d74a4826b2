//! Reading members of a request, with the path for errors.

use std::borrow::Cow;

use crate::RequestError;
use crate::json::Node;
use crate::model::{Extra, Json};

/// A text member; absent or null is none.
pub(crate) fn text(node: &Node<'_>, name: &str, path: &str) -> Result<Option<String>, RequestError> {
    let Some(value) = node.get(name) else { return Ok(None) };
    let text = value.text().ok_or_else(|| RequestError::wrong(format!("{path}{name}"), "a string"))?;
    Ok(Some(text.into_owned()))
}

/// A text member that must be there.
pub(crate) fn needed(node: &Node<'_>, name: &str, path: &str) -> Result<String, RequestError> {
    text(node, name, path)?.ok_or_else(|| RequestError::missing(format!("{path}{name}")))
}

/// A boolean member.
pub(crate) fn boolean(node: &Node<'_>, name: &str, path: &str) -> Result<Option<bool>, RequestError> {
    let Some(value) = node.get(name) else { return Ok(None) };
    value.boolean().map(Some).ok_or_else(|| RequestError::wrong(format!("{path}{name}"), "true or false"))
}

/// A whole number.
pub(crate) fn whole(node: &Node<'_>, name: &str, path: &str) -> Result<Option<u64>, RequestError> {
    let Some(value) = node.get(name) else { return Ok(None) };
    value.whole().map(Some).ok_or_else(|| RequestError::wrong(format!("{path}{name}"), "a whole number"))
}

/// Any number, kept as written.
pub(crate) fn number(node: &Node<'_>, name: &str, path: &str) -> Result<Option<Json>, RequestError> {
    let Some(value) = node.get(name) else { return Ok(None) };
    let wrong = || RequestError::wrong(format!("{path}{name}"), "a number");
    value.number().filter(|number| number.is_finite()).map(|_| Some(Json::trusted(value.raw))).ok_or_else(wrong)
}

/// An array member; absent or null is none.
pub(crate) fn list<'n, 'a>(node: &'n Node<'a>, name: &str, path: &str) -> Result<&'n [Node<'a>], RequestError> {
    match node.get(name) {
        None => Ok(&[]),
        Some(value) if value.is_array() => Ok(value.items()),
        Some(_) => Err(RequestError::wrong(format!("{path}{name}"), "an array")),
    }
}

/// `node` if it is an object.
pub(crate) fn an_object<'n, 'a>(node: &'n Node<'a>, path: &str) -> Result<&'n Node<'a>, RequestError> {
    if node.is_object() { Ok(node) } else { Err(RequestError::wrong(path.trim_end_matches('.'), "an object")) }
}

/// The members not in `known`, nulls left out.
pub(crate) fn extras(members: &[(Cow<'_, str>, Node<'_>)], known: &[&str]) -> Vec<Extra> {
    let unknown = members.iter().filter(|(name, value)| !known.contains(&name.as_ref()) && !value.is_null());
    unknown.map(|(name, value)| Extra { name: name.to_string(), value: Json::trusted(value.raw) }).collect()
}

/// A member kept as JSON.
pub(crate) fn json(node: &Node<'_>, name: &str) -> Option<Json> {
    node.get(name).map(|value| Json::trusted(value.raw))
}

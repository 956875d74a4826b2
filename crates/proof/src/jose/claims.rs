//! Reading single claims of objects other than access tokens.

use serde_json::Value;

use super::json::JsonObject;

/// The most audiences one object is for.
const MAX_AUDIENCES: usize = 16;

/// A claim is missing, or of the wrong type, form or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Missing,
    Malformed,
}

/// A string of 1 to `longest` bytes without control characters.
pub(crate) fn text<'c>(claims: &'c JsonObject, name: &str, longest: usize) -> Result<Option<&'c str>, Fault> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let text = value.as_str().ok_or(Fault::Malformed)?;
    let fits = !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control);
    if fits { Ok(Some(text)) } else { Err(Fault::Malformed) }
}

/// Such a string that must be there.
pub(crate) fn required<'c>(claims: &'c JsonObject, name: &str, longest: usize) -> Result<&'c str, Fault> {
    text(claims, name, longest)?.ok_or(Fault::Missing)
}

/// `aud`: a string, or an array of one to sixteen.
pub(crate) fn audiences(claims: &JsonObject) -> Result<Vec<&str>, Fault> {
    let list = match claims.get("aud").ok_or(Fault::Missing)? {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if list.is_empty() || list.len() > MAX_AUDIENCES {
        return Err(Fault::Malformed);
    }
    list.iter().map(|name| name.as_str().ok_or(Fault::Malformed)).collect()
}

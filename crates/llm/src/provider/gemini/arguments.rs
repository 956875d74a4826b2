//! Arguments that come in pieces (`partialArgs`): each names its place by a JSON path.

use serde_json::{Map, Value};

use crate::json::{Kind, Node};

/// Deepest place, and longest list, that is filled.
const DEPTH: usize = 64;
const ITEMS: usize = 10_000;

/// The arguments of one call so far.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    value: Map<String, Value>,
    bytes: usize,
}

/// A step into a value.
enum Step {
    Name(String),
    Item(usize),
}

impl Arguments {
    /// Put one of `partialArgs` in its place. `None`: it cannot be read, or there is too much.
    pub(super) fn take(&mut self, piece: &Node<'_>) -> Option<()> {
        let steps = steps(&piece.text_of("jsonPath")?)?;
        self.bytes = self.bytes.checked_add(piece.raw.len()).filter(|bytes| *bytes <= super::stream::HELD)?;
        let (first, rest) = steps.split_first()?;
        let Step::Name(name) = first else { return None };
        let mut place = self.value.entry(name.clone()).or_insert(Value::Null);
        for step in rest {
            place = into(place, step)?;
        }
        match (value(piece)?, &mut *place) {
            (Value::String(more), Value::String(text)) => text.push_str(&more),
            (value, place) => *place = value,
        }
        Some(())
    }

    /// All of it, as JSON text.
    pub(super) fn json(&self) -> String {
        Value::Object(self.value.clone()).to_string()
    }
}

fn value(piece: &Node<'_>) -> Option<Value> {
    if let Some(text) = piece.text_of("stringValue") {
        return Some(Value::String(text.into_owned()));
    }
    if let Some(number) = piece.get("numberValue") {
        return serde_json::from_str(number.raw).ok();
    }
    if let Some(value) = piece.get("boolValue") {
        return value.boolean().map(Value::Bool);
    }
    // Null is told by a member whose value is null, or by its enum's name.
    let null =
        piece.members().iter().any(|(name, value)| name == "nullValue" && !matches!(value.kind, Kind::Object(_)));
    null.then_some(Value::Null)
}

fn into<'v>(place: &'v mut Value, step: &Step) -> Option<&'v mut Value> {
    match step {
        Step::Name(name) => {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            Some(place.as_object_mut()?.entry(name.clone()).or_insert(Value::Null))
        }
        Step::Item(at) => {
            if place.is_null() {
                *place = Value::Array(Vec::new());
            }
            let list = place.as_array_mut()?;
            if list.len() <= *at {
                list.resize(at.checked_add(1).filter(|length| *length <= ITEMS)?, Value::Null);
            }
            list.get_mut(*at)
        }
    }
}

/// `$.a.b[0]['c']` (RFC 9535), names and indices only.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() && steps.len() < DEPTH {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, more) = after.split_at_checked(end)?;
            steps.push(Step::Name(name.to_owned()));
            rest = more;
            continue;
        }
        let (inside, more) = rest.strip_prefix('[')?.split_once(']')?;
        let quoted = ['\'', '"'].iter().find_map(|quote| inside.strip_prefix(*quote)?.strip_suffix(*quote));
        steps.push(match quoted {
            Some(name) => Step::Name(name.to_owned()),
            None => Step::Item(inside.parse().ok()?),
        });
        rest = more;
    }
    (rest.is_empty() && !steps.is_empty()).then_some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, node};

    fn built(pieces: &[&str]) -> Option<String> {
        let mut arguments = Arguments::default();
        for piece in pieces {
            arguments.take(&node(piece, &Limits::RESPONSE).unwrap())?;
        }
        Some(arguments.json())
    }

    #[test]
    fn pieces_come_together_at_their_places() {
        let pieces = [
            r#"{"jsonPath":"$.city","stringValue":"San ","willContinue":true}"#,
            r#"{"jsonPath":"$.city","stringValue":"Francisco"}"#,
            r#"{"jsonPath":"$.at[1].x","numberValue":1.5}"#,
            r#"{"jsonPath":"$['a b']","boolValue":true}"#,
            r#"{"jsonPath":"$.none","nullValue":"NULL_VALUE"}"#,
        ];
        let told: serde_json::Value = serde_json::from_str(&built(&pieces).unwrap()).unwrap();
        let expected =
            serde_json::json!({"city": "San Francisco", "at": [null, {"x": 1.5}], "a b": true, "none": null});
        assert_eq!(told, expected);
        assert_eq!(built(&[]).as_deref(), Some("{}"));
    }

    #[test]
    fn a_place_that_cannot_be_is_not_filled() {
        for path in ["", "$", "city", "$[0]", "$.a[99999999]", "$.a[-1]", "$.a[", "$..*x["] {
            let piece = format!(r#"{{"jsonPath":"{path}","stringValue":"x"}}"#);
            assert!(built(&[&piece]).is_none(), "{path}");
        }
        let clash = [r#"{"jsonPath":"$.a","stringValue":"x"}"#, r#"{"jsonPath":"$.a.b","stringValue":"x"}"#];
        assert!(built(&clash).is_none());
    }
}

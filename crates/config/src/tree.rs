//! A document with the place of each value: what TOML and JSON have in common.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// A value and where it stands (in bytes; empty where there is no text).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number with a fraction, or a whole one that does not fit.
    Number(f64),
    Text(String),
    /// TOML's dates, which no key takes.
    Date,
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

impl Node {
    /// From TOML.
    pub(crate) fn from_toml(span: Range<usize>, table: &DeTable<'_>) -> Self {
        let entries = table.iter().map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: key.span(),
            node: Self::from_toml_value(value.span(), value.get_ref()),
        });
        Self { span, value: Value::Table(entries.collect()) }
    }

    fn from_toml_value(span: Range<usize>, value: &DeValue<'_>) -> Self {
        let value = match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => Value::Number(f64::INFINITY),
            },
            DeValue::Float(number) => Value::Number(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(yes) => Value::Bool(*yes),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => {
                Value::Array(items.iter().map(|item| Self::from_toml_value(item.span(), item.get_ref())).collect())
            }
            DeValue::Table(table) => return Self::from_toml(span, table),
        };
        Self { span, value }
    }

    /// From JSON.
    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(yes) => Value::Bool(*yes),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Value::Integer(number),
                None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(items) => Value::Array(items.iter().map(Self::from_json).collect()),
            Json::Object(members) => {
                let entry = |(key, json): (&String, &Json)| Entry {
                    key: key.clone(),
                    key_span: 0..0,
                    node: Self::from_json(json),
                };
                Value::Table(members.iter().map(entry).collect())
            }
        };
        Self { span: 0..0, value }
    }

    /// As JSON, for serde. Dates and numbers JSON does not have become null: no key takes them.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null | Value::Date => Json::Null,
            Value::Bool(yes) => Json::Bool(*yes),
            Value::Integer(number) => Json::from(*number),
            Value::Number(number) => Json::from(*number),
            Value::Text(text) => Json::String(text.clone()),
            Value::Array(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Table(entries) => {
                Json::Object(entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect())
            }
        }
    }

    /// What is left without the parts for which `is_bad` holds, by their paths below `path`; nothing if it holds for
    /// the whole. A list with a bad item is bad: the others would have other indices.
    pub(crate) fn without(&self, path: &str, is_bad: &impl Fn(&str) -> bool) -> Option<Self> {
        if is_bad(path) {
            return None;
        }
        let value = match &self.value {
            Value::Array(items) => {
                let item = |(index, item): (usize, &Self)| item.without(&format!("{path}[{index}]"), is_bad);
                Value::Array(items.iter().enumerate().map(item).collect::<Option<_>>()?)
            }
            Value::Table(entries) => {
                let entry = |entry: &Entry| {
                    let node = entry.node.without(&join(path, &entry.key), is_bad)?;
                    Some(Entry { key: entry.key.clone(), key_span: entry.key_span.clone(), node })
                };
                Value::Table(entries.iter().filter_map(entry).collect())
            }
            plain => plain.clone(),
        };
        Some(Self { span: self.span.clone(), value })
    }

    /// The entry called `key`, if this is a table that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The entries of a table; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where the value at `path` stands, or the nearest one around it; with `key`, where its key does.
    pub(crate) fn locate(&self, path: &str, key: bool) -> usize {
        let (mut node, mut place) = (self, self.span.start);
        for step in steps(path) {
            match step {
                Step::Key(name) => {
                    let Some(entry) = node.entry(&name) else { break };
                    node = &entry.node;
                    place = if key || node.span.is_empty() { entry.key_span.start } else { node.span.start };
                }
                Step::Index(index) => {
                    let Some(item) = node.items().get(index) else { break };
                    node = item;
                    place = node.span.start;
                }
            }
        }
        place
    }
}

enum Step {
    Key(String),
    Index(usize),
}

/// Take `provider[0].kind` apart. Keys with other characters stand in quotes: see [`join`].
fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            steps.push(Step::Index(index.parse().unwrap_or(usize::MAX)));
            rest = after;
        } else if let Some((key, after)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at_checked(end.max(1)).unwrap_or((rest, ""));
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        }
    }
    steps
}

/// The path of `key` below `path`.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("\"{}\"", key.replace('"', "'")) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Line and column of a byte offset, both from 1; columns count characters.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = text.get(..end).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_leads_to_its_value_or_the_nearest_around_it() {
        let text = "a = 1\n[[p]]\nname = \"x\"\n[p.t]\nk = [5, 66]\n";
        let table = DeTable::parse(text).unwrap();
        let root = Node::from_toml(0..0, table.get_ref());
        let at = |path: &str| line_and_column(text, root.locate(path, false));
        assert_eq!(at("a"), (1, 5));
        assert_eq!(at("p[0].name"), (3, 8));
        assert_eq!(at("p[0].t.k[1]"), (5, 9));
        assert_eq!(at("p[0].t.missing"), at("p[0].t"));
        assert_eq!(line_and_column(text, root.locate("p[0].name", true)), (3, 1));
        assert_eq!(at("p[0]").0, 2);
        assert_eq!(at("p[0].t").0, 4);
    }

    #[test]
    fn a_column_counts_characters() {
        assert_eq!(line_and_column("é = 1", 3), (1, 3));
        assert_eq!(line_and_column("a\r\nb", 3), (2, 1));
        assert_eq!(line_and_column("", 10), (1, 1));
    }

    proptest! {
        #[test]
        fn no_path_and_no_offset_is_too_odd(text in ".{0,40}", path in "[a-c\\[\\].\"0-9]{0,20}", offset in 0usize..60) {
            let (line, column) = line_and_column(&text, offset);
            prop_assert!(line >= 1 && column >= 1);
            let node = Node::from_json(&serde_json::json!({"a": [{"b": 1}], "c": {"a": {}}}));
            node.locate(&path, true);
        }
    }
}

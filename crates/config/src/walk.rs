//! Checks a document against the schema and reports everything that does not fit.
//!
//! The schema is made from the types, so it is the one description of the file: what passes here can be read
//! by serde. Serde itself would stop at the first fault and could not say where it is.

use serde_json::Value as Json;

use crate::fault::{Code, Faults};
use crate::text::{self, ValueError};
use crate::tree::{Node, Value, join};
use crate::{not_built, suggest};

/// Check `node` against `schema`, whose references lead into `root`.
pub(crate) fn check(root: &Json, schema: &Json, node: &Node, path: &str, faults: &mut Faults) {
    Walk { root, faults }.value(schema, node, path);
}

struct Walk<'a> {
    root: &'a Json,
    faults: &'a mut Faults,
}

impl<'a> Walk<'a> {
    fn value(&mut self, schema: &'a Json, node: &Node, path: &str) {
        let schema = self.resolve(schema);
        if kind(schema) == Some("secret") {
            return self.secret(schema, node, path);
        }
        if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
            let branches = branches.iter().map(|branch| self.resolve(branch));
            let branches: Vec<&Json> = branches.filter(|branch| !types(branch).eq(["null"])).collect();
            return match branches.as_slice() {
                [one] => self.value(one, node, path),
                several => self.one_of(several, node, path),
            };
        }
        if !types(schema).any(|wanted| fits(wanted, &node.value)) {
            return self.wrong_type(&[schema], node, path);
        }
        match &node.value {
            Value::Text(text) => self.text(schema, text, path),
            Value::Integer(number) => self.number(schema, *number, path),
            Value::Number(number) if !number.is_finite() => {
                self.faults.add(path, Code::BadValue, "a number that is too large or not a number");
            }
            Value::Array(items) => self.array(schema, items, path),
            Value::Table(_) => self.table(schema, node, path),
            Value::Bool(_) | Value::Number(_) | Value::Null | Value::Date => {}
        }
    }

    /// Follow `$ref`, which is always `#/$defs/Name`.
    fn resolve(&self, mut schema: &'a Json) -> &'a Json {
        // Bounded: definitions never refer to themselves alone.
        for _ in 0..8 {
            let Some(target) = schema.get("$ref").and_then(Json::as_str) else { break };
            let Some(found) = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) else { break };
            schema = found;
        }
        schema
    }

    /// A secret reference: the one place where a text is never to be repeated.
    fn secret(&mut self, schema: &'a Json, node: &Node, path: &str) {
        const HINT: &str = "write { env = \"NAME\" }, { file = \"path\" } or { secret = \"name\" }";
        match &node.value {
            Value::Text(_) => {
                self.faults.add(path, Code::SecretLiteral, "a secret is not written here, only where it is").hint(HINT);
            }
            Value::Table(entries) if entries.len() == 1 => {
                let branches: Vec<&Json> = schema.get("oneOf").and_then(Json::as_array).into_iter().flatten().collect();
                let known = |branch: &&Json| entries.iter().all(|e| property(branch, &e.key).is_some());
                match branches.into_iter().find(known) {
                    Some(branch) => self.table(branch, node, path),
                    None => {
                        self.faults.add(path, Code::UnknownKey, "not a reference to a secret").hint(HINT);
                    }
                }
            }
            Value::Table(_) => {
                self.faults.add(path, Code::BadValue, "a reference to a secret has exactly one key").hint(HINT);
            }
            _ => {
                self.faults.add(path, Code::WrongType, "expected a reference to a secret").hint(HINT);
            }
        }
    }

    /// One of several forms: find the one that is meant, then say what is wrong with it.
    fn one_of(&mut self, branches: &[&'a Json], node: &Node, path: &str) {
        if branches.iter().all(|branch| branch.get("const").is_some()) {
            let words: Vec<&str> = branches.iter().filter_map(|b| b.get("const").and_then(Json::as_str)).collect();
            return match node.text() {
                Some(text) => self.word(&words, text, path),
                None => self.wrong_type(branches, node, path),
            };
        }
        let fitting: Vec<&'a Json> =
            branches.iter().copied().filter(|branch| types(branch).any(|t| fits(t, &node.value))).collect();
        match fitting.as_slice() {
            [] => self.wrong_type(branches, node, path),
            [one] => self.value(one, node, path),
            several => {
                if let Some(tag) = tag(several) {
                    return self.tagged(tag, several, node, path);
                }
                let overlap = |branch: &&&Json| {
                    node.entries().iter().filter(|entry| property(branch, &entry.key).is_some()).count()
                };
                // The first of those that share most keys.
                if let Some(branch) = several.iter().rev().max_by_key(overlap) {
                    self.value(branch, node, path);
                }
            }
        }
    }

    /// Tables told apart by one key, such as `method`.
    fn tagged(&mut self, tag: &str, branches: &[&'a Json], node: &Node, path: &str) {
        let at = join(path, tag);
        let word = |branch: &&'a Json| property(branch, tag).and_then(|p| p.get("const")).and_then(Json::as_str);
        match node.entry(tag).map(|entry| entry.node.text()) {
            None => {
                self.faults.add(path, Code::MissingKey, format!("the key {tag} is missing"));
            }
            Some(None) => {
                self.faults.add(at, Code::WrongType, "expected a text");
            }
            Some(Some(text)) => match branches.iter().find(|branch| word(branch) == Some(text)) {
                Some(branch) => self.table(branch, node, path),
                None => self.word(&branches.iter().filter_map(word).collect::<Vec<_>>(), text, &at),
            },
        }
    }

    /// One of a few words.
    fn word(&mut self, words: &[&str], text: &str, path: &str) {
        if words.contains(&text) {
            return;
        }
        if not_built::value(path, text) {
            let message = format!("{text:?} is not built in this version");
            self.faults.add(path, Code::NotBuilt, message).hint(format!("there is {}", list(words)));
            return;
        }
        let shown = if text.len() <= 40 { format!("{text:?} is") } else { "this is".to_owned() };
        let fault = self.faults.add(path, Code::BadValue, format!("{shown} not one of {}", list(words)));
        if let Some(near) = suggest::nearest(text, words.iter().copied()) {
            fault.hint(format!("did you mean {near:?}?"));
        }
    }

    fn text(&mut self, schema: &'a Json, text: &str, path: &str) {
        if let Some(word) = schema.get("const").and_then(Json::as_str) {
            return self.word(&[word], text, path);
        }
        if let Some(words) = schema.get("enum").and_then(Json::as_array) {
            let words: Vec<&str> = words.iter().filter_map(Json::as_str).collect();
            return self.word(&words, text, path);
        }
        let length = text.chars().count() as u64;
        if let Some(least) = number(schema, "minLength").filter(|least| length < *least) {
            let message = if least == 1 { "empty".to_owned() } else { format!("shorter than {least} characters") };
            self.faults.add(path, Code::BadValue, message);
        } else if let Some(most) = number(schema, "maxLength").filter(|most| length > *most) {
            self.faults.add(path, Code::BadValue, format!("longer than {most} characters"));
        } else if let Some(Err(ValueError { code, message, hint })) = kind(schema).map(|kind| text::check(kind, text)) {
            let fault = self.faults.add(path, code, message);
            if let Some(hint) = hint {
                fault.hint(hint);
            }
        }
    }

    fn number(&mut self, schema: &Json, value: i64, path: &str) {
        let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
        #[allow(clippy::cast_precision_loss)] // bounds are small
        let beyond = bound("minimum").is_some_and(|least| (value as f64) < least)
            || bound("maximum").is_some_and(|most| (value as f64) > most);
        if beyond {
            let message = match (bound("minimum"), bound("maximum")) {
                (Some(least), Some(most)) => format!("a number from {least} to {most} belongs here"),
                (Some(least), None) => format!("a number from {least} on belongs here"),
                _ => "the number is too large".to_owned(),
            };
            self.faults.add(path, Code::BadValue, message);
        }
    }

    fn array(&mut self, schema: &'a Json, items: &[Node], path: &str) {
        let count = items.len() as u64;
        if number(schema, "minItems").is_some_and(|least| count < least) {
            self.faults.add(path, Code::BadValue, "an empty list").hint("leave the key out, or list at least one");
        }
        if let Some(most) = number(schema, "maxItems").filter(|most| count > *most) {
            self.faults.add(path, Code::BadValue, format!("a list of more than {most}"));
        }
        if let Some(each) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                self.value(each, item, &format!("{path}[{index}]"));
            }
        }
    }

    fn table(&mut self, schema: &'a Json, node: &Node, path: &str) {
        if let Some(tag) = tag(&[schema]) {
            // The only form there is: what another one lacks is not missing here.
            let word = property(schema, tag).and_then(|p| p.get("const")).and_then(Json::as_str);
            let given = node.entry(tag).and_then(|entry| entry.node.text());
            if let (Some(word), Some(text)) = (word, given.filter(|given| word != Some(given))) {
                return self.word(&[word], text, &join(path, tag));
            }
        }
        if let Some(most) = number(schema, "maxProperties").filter(|most| node.entries().len() as u64 > *most) {
            self.faults.add(path, Code::BadValue, format!("a table of more than {most} keys"));
        }
        for entry in node.entries() {
            let at = join(path, &entry.key);
            match (property(schema, &entry.key), schema.get("additionalProperties")) {
                (Some(schema), _) => self.value(schema, &entry.node, &at),
                (None, Some(schema)) if schema.is_object() => self.value(schema, &entry.node, &at),
                (None, _) => self.unknown_key(schema, &entry.key, &at),
            }
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        for key in required.filter(|key| node.entry(key).is_none()) {
            let example = property(schema, key).map(|schema| self.resolve(schema)).and_then(example);
            let fault = self.faults.add(path, Code::MissingKey, format!("the key {key} is missing"));
            if let Some(example) = example {
                fault.hint(format!("for example {key} = {example}"));
            }
        }
    }

    fn unknown_key(&mut self, schema: &Json, key: &str, path: &str) {
        if let Some(what) = not_built::key(path) {
            self.faults.add(path, Code::NotBuilt, format!("{what}: not built in this version")).at_key();
            return;
        }
        let known = schema.get("properties").and_then(Json::as_object);
        let known: Vec<&str> = known.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let shown = if key.chars().count() <= 40 { key } else { "with a very long name" };
        let fault = self.faults.add(path, Code::UnknownKey, format!("there is no key {shown:?} here")).at_key();
        match suggest::nearest(key, known.iter().copied()) {
            Some(near) => fault.hint(format!("did you mean {near}?")),
            None => fault.hint(format!("there is {}", list(&known))),
        };
    }

    fn wrong_type(&mut self, wanted: &[&'a Json], node: &Node, path: &str) {
        let mut words: Vec<String> = wanted.iter().map(|schema| describe(schema)).collect();
        words.dedup();
        let message = format!("expected {}, found {}", words.join(" or "), found(&node.value));
        let schema = wanted.first().copied().unwrap_or(&Json::Null);
        let top = !path.is_empty() && !path.contains(['.', '[']);
        let hint = match (types(schema).next(), &node.value) {
            (Some("array"), Value::Table(_)) if top => Some(format!("write [[{path}]], with two brackets")),
            (Some("object"), Value::Array(_)) if top => Some(format!("write [{path}], with one bracket")),
            _ => example(schema).map(|example| format!("for example {example}")),
        };
        let fault = self.faults.add(path, Code::WrongType, message);
        if let Some(hint) = hint {
            fault.hint(hint);
        }
    }
}

/// The types a schema names. Words that are described one by one have that of the first.
fn types(schema: &Json) -> impl Iterator<Item = &str> {
    let word = schema.get("oneOf").and_then(|words| words.get(0)).filter(|_| schema.get("type").is_none());
    let wanted = word.unwrap_or(schema).get("type");
    let one = wanted.and_then(Json::as_str);
    let many = wanted.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
    one.into_iter().chain(many)
}

/// Whether a value is of a schema's type. `null` is a way to leave a key out in JSON.
fn fits(wanted: &str, value: &Value) -> bool {
    match value {
        Value::Null => wanted == "null",
        Value::Bool(_) => wanted == "boolean",
        Value::Integer(_) => wanted == "integer" || wanted == "number",
        Value::Number(_) => wanted == "number",
        Value::Text(_) => wanted == "string",
        Value::Date => false,
        Value::Array(_) => wanted == "array",
        Value::Table(_) => wanted == "object",
    }
}

fn kind(schema: &Json) -> Option<&str> {
    schema.get("x-kind").and_then(Json::as_str)
}

fn property<'a>(schema: &'a Json, key: &str) -> Option<&'a Json> {
    schema.get("properties")?.get(key)
}

fn number(schema: &Json, key: &str) -> Option<u64> {
    schema.get(key).and_then(Json::as_u64)
}

/// The key that tells the branches apart: one whose value is fixed in each.
fn tag<'a>(branches: &[&'a Json]) -> Option<&'a str> {
    let properties = branches.first()?.get("properties")?.as_object()?;
    let fixed = |branch: &&Json, key: &str| property(branch, key).is_some_and(|p| p.get("const").is_some());
    properties.keys().map(String::as_str).find(|key| branches.iter().all(|branch| fixed(branch, key)))
}

/// A good value, as TOML writes it.
fn example(schema: &Json) -> Option<String> {
    let example = schema.get("examples").and_then(Json::as_array)?.first()?;
    Some(example.to_string())
}

/// A type in words.
fn describe(schema: &Json) -> String {
    if let Some(kind) = kind(schema) {
        return match kind {
            "secret" => "a reference to a secret".to_owned(),
            "name" | "duration" | "size" | "pattern" | "path" | "method" | "scope" | "header" => format!("a {kind}"),
            _ => "a text".to_owned(),
        };
    }
    let word = |wanted| match wanted {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        _ => "nothing",
    };
    let words: Vec<&str> = types(schema).filter(|t| *t != "null").map(word).collect();
    words.join(" or ")
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Integer(_) | Value::Number(_) => "a number",
        Value::Text(_) => "a text",
        Value::Date => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// `a, b or c`, cut when it gets long.
fn list(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [many @ .., last] => format!("{} or {last}", many.join(", ")),
    }
}

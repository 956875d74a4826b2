//! A prompt with variables: compiled once, filled once per request. What a caller sends is text, never template.

use std::collections::BTreeMap;

use config::{Piece, Scalar, Template, Variable, VariableKind};
use serde_json::{Map, Value};

/// The variable the request's `input` fills.
const INPUT: &str = "input";

/// A compiled prompt.
#[derive(Debug)]
pub(crate) struct Prompt {
    system: Option<Template>,
    user: Template,
    variables: BTreeMap<String, Variable>,
}

/// What is wrong with a request for a prompt: a member's name and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{member}: {why}")]
pub(crate) struct InputError {
    pub(crate) member: String,
    pub(crate) why: String,
}

impl InputError {
    pub(crate) fn new(member: impl Into<String>, why: impl Into<String>) -> Self {
        Self { member: member.into(), why: why.into() }
    }
}

impl Prompt {
    /// Compile a service's texts. Variables they use without declaring them are required texts.
    pub(crate) fn compile(service: &config::Service) -> Result<Self, String> {
        let user = parse(&service.prompt)?;
        let system = service.system.as_deref().map(parse).transpose()?;
        let mut variables = service.variables.clone();
        for template in system.iter().chain([&user]) {
            for name in variables_of(template) {
                variables.entry(name.to_owned()).or_default();
            }
        }
        Ok(Self { system, user, variables })
    }

    /// What the prompt can be given.
    pub(crate) fn variables(&self) -> &BTreeMap<String, Variable> {
        &self.variables
    }

    /// Fill the variables from what a request gives. Returns the system's instructions and the prompt.
    pub(crate) fn fill(&self, given: &Map<String, Value>) -> Result<(Option<String>, String), InputError> {
        if let Some(unknown) = given.keys().find(|name| !self.variables.contains_key(*name)) {
            let known: Vec<&str> = self.variables.keys().map(String::as_str).collect();
            let name: String = unknown.chars().take(64).collect();
            return Err(InputError::new(
                name,
                format!("is not a variable of this service; there are: {}", known.join(", ")),
            ));
        }
        let mut values = BTreeMap::new();
        for (name, variable) in &self.variables {
            let text = match given.get(name).filter(|value| !value.is_null()) {
                Some(value) => Some(text_of(name, variable, value)?),
                None => variable.default.as_ref().map(Scalar::to_string),
            };
            match text {
                Some(text) => values.insert(name.as_str(), text),
                None if variable.is_required() => return Err(InputError::new(name.as_str(), "is required")),
                None => values.insert(name.as_str(), String::new()),
            };
        }
        Ok((self.system.as_ref().map(|system| filled(system, &values)), filled(&self.user, &values)))
    }
}

/// A value as the text it stands for, if it is of the variable's type.
fn text_of(name: &str, variable: &Variable, value: &Value) -> Result<String, InputError> {
    let wrong = |expected: &str| Err(InputError::new(name, format!("must be {expected}")));
    match (variable.kind, value) {
        (VariableKind::String, Value::String(text)) => {
            if text.chars().count() > usize::try_from(variable.max_length).unwrap_or(usize::MAX) {
                return wrong(&format!("at most {} characters long", variable.max_length));
            }
            Ok(text.clone())
        }
        // `input` may be any JSON: a document to be analysed is often not just text.
        (VariableKind::String, Value::Object(_) | Value::Array(_)) if name == INPUT => {
            let text = value.to_string();
            if text.chars().count() > usize::try_from(variable.max_length).unwrap_or(usize::MAX) {
                return wrong(&format!("at most {} characters long", variable.max_length));
            }
            Ok(text)
        }
        (VariableKind::Number, Value::Number(number)) => Ok(number.to_string()),
        (VariableKind::Boolean, Value::Bool(boolean)) => Ok(boolean.to_string()),
        (VariableKind::String, _) => wrong("a text"),
        (VariableKind::Number, _) => wrong("a number"),
        (VariableKind::Boolean, _) => wrong("true or false"),
    }
}

fn parse(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|error| error.to_string())
}

fn variables_of(template: &Template) -> impl Iterator<Item = &str> {
    template.pieces().iter().filter_map(|piece| match piece {
        Piece::Variable(name) => Some(name.as_str()),
        Piece::Text(_) => None,
    })
}

fn filled(template: &Template, values: &BTreeMap<&str, String>) -> String {
    template.pieces().iter().fold(String::new(), |mut out, piece| {
        out.push_str(match piece {
            Piece::Text(text) => text,
            Piece::Variable(name) => values.get(name.as_str()).map_or("", String::as_str),
        });
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn service(prompt: &str, variables: &Value) -> config::Service {
        serde_json::from_value(json!({
            "name": "s", "path": "/v1/s", "model": "m", "prompt": prompt, "variables": variables,
        }))
        .expect("service")
    }

    fn fill(prompt: &str, variables: &Value, given: &Value) -> Result<String, InputError> {
        let prompt = Prompt::compile(&service(prompt, variables)).expect("compiles");
        prompt.fill(given.as_object().expect("object")).map(|(_, text)| text)
    }

    #[test]
    fn variables_are_filled_once_and_values_are_never_templates() {
        let given = json!({"input": "{{lang}} }} \\{{x", "lang": "fr"});
        assert_eq!(fill("In {{ lang }}: {{input}}", &json!({}), &given).as_deref(), Ok("In fr: {{lang}} }} \\{{x"));
        assert_eq!(fill("a \\{{b}} {{input}}", &json!({}), &json!({"input": "x"})).as_deref(), Ok("a {{b}} x"));
    }

    #[test]
    fn types_defaults_and_lengths_hold() {
        let variables = json!({"n": {"type": "number", "default": 3}, "short": {"max_length": 2}});
        assert_eq!(fill("{{n}} {{short}}", &variables, &json!({"short": "éé"})).as_deref(), Ok("3 éé"));
        let member = |given| fill("{{n}} {{short}}", &variables, &given).expect_err("refused").member;
        assert_eq!(member(json!({"short": "abc"})), "short");
        assert_eq!(member(json!({"short": "a", "n": "4"})), "n");
        assert_eq!(member(json!({"n": 4})), "short");
        assert_eq!(member(json!({"short": "a", "other": 1})), "other");
    }

    #[test]
    fn a_broken_template_is_refused_with_the_reason() {
        for broken in ["{{input", "{{}}", "{{a b}}", "{{a{{b}}"] {
            assert!(Prompt::compile(&service(broken, &json!({}))).is_err(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn any_text_compiles_or_is_refused_and_any_value_stands_as_it_is(text in "[a{}\\\\ ]{0,20}", value in ".{0,20}") {
            if let Ok(prompt) = Prompt::compile(&service(&format!("{text}|{{{{input}}}}"), &json!({})))
                && prompt.variables().len() == 1
            {
                let (_, filled) = prompt.fill(json!({"input": value}).as_object().expect("object")).expect("filled");
                let end = format!("|{value}");
                prop_assert!(filled.ends_with(&end));
            }
        }
    }
}

//! Prompts with `{{variables}}`.

use std::collections::BTreeSet;

use crate::text::ValueError;

/// A prompt taken apart: texts and the variables between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

/// A part of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Text(String),
    /// The value of the variable called so.
    Variable(String),
}

impl Template {
    /// Take a prompt apart. `{{name}}` (spaces inside the braces are fine) is a variable: a letter or `_`, then
    /// letters, digits, `_` and `-`, at most 64. `\{{` is two braces. A value is put in as it is and never read again
    /// for variables.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if let Some(before) = before.strip_suffix('\\') {
                literal.push_str(before);
                literal.push_str("{{");
                rest = after;
                continue;
            }
            literal.push_str(before);
            let Some((name, after)) = after.split_once("}}") else {
                return Err(ValueError::new("{{ without }}").hint("write \\{{ for two braces"));
            };
            let name = name.trim_matches(' ');
            if !is_variable(name) {
                return Err(ValueError::new("{{ }} around something that is not the name of a variable")
                    .hint("a name is letters, digits, _ and -, beginning with a letter; write \\{{ for two braces"));
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Variable(name.to_owned()));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The names of its variables.
    pub fn variables(&self) -> BTreeSet<&str> {
        self.0
            .iter()
            .filter_map(|piece| match piece {
                Piece::Variable(name) => Some(name.as_str()),
                Piece::Text(_) => None,
            })
            .collect()
    }

    /// The text with `value_of` each variable in its place.
    pub fn fill<'v>(&self, value_of: impl Fn(&str) -> &'v str) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            text.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Variable(name) => value_of(name),
            });
        }
        text
    }
}

/// Whether `name` can be the name of a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn variables_are_found_and_filled_once() {
        let template = Template::parse("Answer.\n\n{{input}} in {{ tone }}, {{input}} \\{{x}} }}").unwrap();
        assert_eq!(template.variables().into_iter().collect::<Vec<_>>(), ["input", "tone"]);
        let filled = template.fill(|name| if name == "input" { "{{tone}}" } else { "rage" });
        assert_eq!(filled, "Answer.\n\n{{tone}} in rage, {{tone}} {{x}} }}");
    }

    #[test]
    fn braces_that_are_no_variable_are_refused() {
        for wrong in ["{{", "a {{b", "{{}}", "{{a b}}", "{{1}}", "{{-a}}", "{{a.b}}", "{{é}}", "{{{a}}}", "{{\n}}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_braces_stays_itself(text in "[^{]{0,80}") {
            prop_assert_eq!(Template::parse(&text).unwrap().fill(|_| "x"), text);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[a-z{}\\\\ ]{0,40}") {
            if let Ok(template) = Template::parse(&text) {
                let mark = template.fill(|_| "\u{1}");
                prop_assert_eq!(mark.matches('\u{1}').count(), template.pieces().iter().filter(|p| matches!(p, Piece::Variable(_))).count());
            }
        }
    }
}

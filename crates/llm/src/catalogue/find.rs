//! From a name to a row: the exact one, or a spelling that means exactly one by a rule of its provider's.

use super::{Catalogue, Entry};

impl Catalogue {
    /// The model called `model` at a provider of this `kind`.
    ///
    /// A row of exactly that name wins. Else these spellings, each a rule its provider documents, lead to one:
    ///
    /// - OpenAI, Azure: `NAME-YYYY-MM-DD` is the snapshot behind `NAME`.
    /// - Anthropic: `NAME-YYYYMMDD` likewise.
    /// - Vertex AI: `NAME@default` is `NAME`, either way round, and so is `NAME@YYYYMMDD`; `publishers/P/models/NAME` is `NAME`.
    /// - Gemini, Vertex AI: `models/NAME` is `NAME`.
    /// - Bedrock: the ARN of a foundation model or of a system-defined inference profile ends in its name.
    ///
    /// Everything else is unknown.
    pub fn find(&self, kind: &str, model: &str) -> Option<&Entry> {
        if let Some(entry) = self.exact(kind, model) {
            return Some(entry);
        }
        match kind {
            "openai" | "azure" => self.exact(kind, without_date(model, '-', true)?),
            "anthropic" => self.exact(kind, without_date(model, '-', false)?),
            "gemini" => self.exact(kind, model.strip_prefix("models/")?),
            "vertex" => self.vertex(model),
            "bedrock" => self.exact(kind, of_arn(model)?),
            _ => None,
        }
    }

    fn vertex(&self, model: &str) -> Option<&Entry> {
        let known = |name: &str| self.exact("vertex", name);
        let name = match model.strip_prefix("publishers/") {
            Some(rest) => rest.split_once("/models/")?.1,
            None => model.strip_prefix("models/").unwrap_or(model),
        };
        let plain = name.strip_suffix("@default").or_else(|| without_date(name, '@', false));
        known(name).or_else(|| known(plain?)).or_else(|| known(&format!("{}@default", plain.unwrap_or(name))))
    }
}

/// `NAME` of `NAME-2025-08-07` or, without `dashes`, of `NAME-20250807`. The day has to be one.
fn without_date(model: &str, before: char, dashes: bool) -> Option<&str> {
    let length = if dashes { 10 } else { 8 };
    let (name, date) = model.split_at_checked(model.len().checked_sub(length)?)?;
    let digits: String = if dashes {
        let mut parts = date.split('-');
        let parts = (parts.next()?, parts.next()?, parts.next()?, parts.next());
        let (year, month, day, None) = parts else { return None };
        if (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return None;
        }
        format!("{year}{month}{day}")
    } else {
        date.to_owned()
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u32 = digits.parse().ok()?;
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    let is_day = (2020..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    name.strip_suffix(before).filter(|name| is_day && !name.is_empty())
}

/// The name in `arn:aws:bedrock:us-east-1::foundation-model/NAME` or `...:inference-profile/NAME`. (What an
/// `application-inference-profile` stands for only its owner knows.)
fn of_arn(model: &str) -> Option<&str> {
    let (arn, name) = model.split_once('/')?;
    let mut parts = arn.splitn(6, ':');
    let bedrock = parts.next() == Some("arn") && parts.next()?.starts_with("aws") && parts.next() == Some("bedrock");
    let kind = parts.nth(2)?;
    (bedrock && matches!(kind, "foundation-model" | "inference-profile")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(kind: &str, model: &str) -> Option<&'static str> {
        Catalogue::builtin().find(kind, model).map(|entry| entry.name)
    }

    #[test]
    fn a_snapshot_is_the_model_it_is_a_snapshot_of_unless_it_has_a_row_of_its_own() {
        assert_eq!(name("openai", "gpt-5-mini"), Some("gpt-5-mini"));
        assert_eq!(name("openai", "gpt-5-mini-2025-08-07"), Some("gpt-5-mini"));
        assert_eq!(name("openai", "gpt-4o-2024-05-13"), Some("gpt-4o-2024-05-13"));
        assert_eq!(name("azure", "gpt-4o-mini-2024-07-18"), Some("gpt-4o-mini"));
        assert_eq!(name("anthropic", "claude-haiku-4-5-20251001"), Some("claude-haiku-4-5-20251001"));
        assert_eq!(name("anthropic", "claude-opus-4-6-20260205"), Some("claude-opus-4-6"));
    }

    #[test]
    fn each_providers_own_spellings_lead_to_its_models() {
        assert_eq!(name("gemini", "models/gemini-2.5-flash"), Some("gemini-2.5-flash"));
        assert_eq!(name("vertex", "claude-opus-4-6"), Some("claude-opus-4-6@default"));
        assert_eq!(
            name("vertex", "publishers/anthropic/models/claude-opus-4-6@20260205"),
            Some("claude-opus-4-6@default")
        );
        assert_eq!(name("vertex", "publishers/google/models/gemini-2.5-pro@default"), Some("gemini-2.5-pro"));
        assert_eq!(name("bedrock", "us.amazon.nova-lite-v1:0"), None);
        assert_eq!(name("bedrock", "eu.anthropic.claude-sonnet-4-6"), Some("eu.anthropic.claude-sonnet-4-6"));
        for arn in [
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/amazon.nova-lite-v1:0",
        ] {
            assert_eq!(name("bedrock", arn), Some("amazon.nova-lite-v1:0"), "{arn}");
        }
        assert_eq!(name("openrouter", "anthropic/claude-sonnet-4.5"), Some("anthropic/claude-sonnet-4.5"));
    }

    #[test]
    fn a_name_that_is_merely_alike_is_unknown() {
        for (kind, model) in [
            ("openai", "gpt-5-minimal"),
            ("openai", "gpt-5-mini-2025-13-07"),
            ("openai", "gpt-5-mini-2025-08-07-preview"),
            ("openai", "gpt-5-mini-20250807"),
            ("openai", "GPT-5-mini"),
            ("openai", "ft:gpt-4o-mini-2024-07-18:acme::id"),
            ("openai", "-2025-08-07"),
            ("openai", "gpt-5-mini-\u{661}025-08-07"),
            ("anthropic", "claude-haiku-4-5-2025"),
            ("anthropic", "gpt-5-mini"),
            ("gemini", "gemini-2.5-flash-001"),
            ("bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/amazon.nova-lite-v1:0"),
            ("bedrock", "arn:aws:s3:::foundation-model/amazon.nova-lite-v1:0"),
            ("openrouter", "anthropic/claude-sonnet-4.5:floor"),
            ("ollama", "gpt-5-mini"),
        ] {
            assert_eq!(name(kind, model), None, "{kind} {model}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_looked_up_without_panic(kind in "openai|anthropic|vertex|bedrock|gemini", model in "\\PC{0,40}") {
            let _found = Catalogue::builtin().find(&kind, &model);
        }
    }
}

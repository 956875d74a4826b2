//! What the models behind Converse differ in, as far as a request has to know.

/// Whose model it is, by its id, its inference profile or its ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Anthropic's Claude. Also what no name tells: an application inference profile, provisioned throughput.
    Claude {
        /// Major and minor version, where the name tells them.
        version: Option<(u32, u32)>,
        /// Whether the name says that it is Claude.
        known: bool,
    },
    /// Amazon Nova, of this generation.
    Nova(u32),
    /// `OpenAI`'s open models.
    GptOss,
    /// Others, with structured output.
    Structured,
    /// Others, without.
    Plain,
}

/// Makers whose models take a schema for their output (docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html).
const STRUCTURED: [&str; 8] = ["qwen.", "deepseek.v", "google.", "nvidia.", "minimax.", "moonshot", "zai.", "mistral."];
/// Models and makers that do not.
const PLAIN: [&str; 14] = [
    "mistral.mistral-7b",
    "mistral.mixtral",
    "mistral.mistral-large-24",
    "mistral.mistral-small-24",
    "mistral.pixtral",
    "writer.",
    "meta.",
    "cohere.",
    "ai21.",
    "amazon.titan",
    "deepseek.r1",
    "stability.",
    "luma.",
    "twelvelabs.",
];

impl Family {
    /// The family of `model`.
    pub(super) fn of(model: &str) -> Self {
        let model = model.to_ascii_lowercase();
        let has = |name: &str| model.contains(name);
        if has("anthropic.") || has("claude") {
            return Self::Claude { version: version(&model), known: true };
        }
        if has("amazon.nova") {
            return Self::Nova(if has("nova-2") { 2 } else { 1 });
        }
        if has("gpt-oss") {
            return Self::GptOss;
        }
        if PLAIN.into_iter().any(has) {
            return Self::Plain;
        }
        if STRUCTURED.into_iter().any(has) {
            return Self::Structured;
        }
        Self::Claude { version: None, known: false }
    }

    /// Whether it is Claude, or may be.
    pub(super) const fn is_claude(self) -> bool {
        matches!(self, Self::Claude { .. })
    }

    /// Whether it is Claude for certain.
    pub(super) const fn is_surely_claude(self) -> bool {
        matches!(self, Self::Claude { known: true, .. })
    }

    /// Whether it takes cache points, or may.
    pub(super) const fn caches(self) -> bool {
        matches!(self, Self::Claude { .. } | Self::Nova(_))
    }

    /// Whether it can be held to a schema: of its answer, or of a tool's arguments.
    pub(super) fn is_structured(self) -> bool {
        match self {
            // Claude 4.5 and later.
            Self::Claude { version, .. } => version.is_none_or(|version| version >= (4, 5)),
            Self::GptOss | Self::Structured => true,
            Self::Nova(_) | Self::Plain => false,
        }
    }
}

/// `claude-3-7-sonnet-20250219-v1:0`, `claude-sonnet-4-5-20250929-v1:0`: the first two small numbers. Claude 2 and older say
/// `claude-v2`.
fn version(model: &str) -> Option<(u32, u32)> {
    let name = model.split_once("claude-").map_or(model, |(_, rest)| rest);
    if name.starts_with('v') || name.starts_with("instant") {
        return Some((2, 0));
    }
    let pieces = name.split(['-', '.', ':']);
    let mut small = pieces.map(str::parse).filter_map(Result::ok).filter(|number: &u32| *number < 100);
    Some((small.next()?, small.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_name_tells_its_family() {
        let claude = |version| Family::Claude { version: Some(version), known: true };
        for (model, family) in [
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", claude((3, 7))),
            ("anthropic.claude-sonnet-4-20250514-v1:0", claude((4, 0))),
            ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", claude((4, 5))),
            ("us.anthropic.claude-opus-4-6-v1", claude((4, 6))),
            ("anthropic.claude-v2:1", claude((2, 0))),
            ("anthropic.claude-instant-v1", claude((2, 0))),
            (
                "arn:aws:bedrock:us-east-1:000000000000:inference-profile/us.anthropic.claude-3-7-sonnet-20250219-v1:0",
                claude((3, 7)),
            ),
            ("us.amazon.nova-2-lite-v1:0", Family::Nova(2)),
            ("amazon.nova-micro-v1:0", Family::Nova(1)),
            ("openai.gpt-oss-120b-1:0", Family::GptOss),
            ("minimax.minimax-m2", Family::Structured),
            ("moonshot.kimi-k2-thinking", Family::Structured),
            ("us.deepseek.r1-v1:0", Family::Plain),
            ("deepseek.v3-v1:0", Family::Structured),
            ("mistral.mistral-large-2402-v1:0", Family::Plain),
            ("mistral.ministral-3-8b-instruct", Family::Structured),
            ("meta.llama3-1-70b-instruct-v1:0", Family::Plain),
            (
                "arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/abc",
                Family::Claude { version: None, known: false },
            ),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
        assert!(!claude((4, 0)).is_structured() && claude((4, 5)).is_structured());
    }
}

//! Usage in the providers' words.

use crate::json::Node;
use crate::model::Usage;

/// A count. Anything present that is no whole number marks the usage as suspect.
fn count(node: &Node<'_>, name: &str, suspect: &mut bool) -> Option<u64> {
    let value = node.get(name)?;
    let whole = value.whole().or_else(|| {
        // `12.0`: some servers count in floating point.
        let number = value.number()?;
        let exact = number.fract() == 0.0 && (0.0..9.0e15).contains(&number);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked just above
        exact.then_some(number as u64)
    });
    *suspect |= whole.is_none();
    whole
}

/// OpenAI's `usage`, with the names other OpenAI-compatible providers use for what it lacks: `DeepSeek`'s
/// `prompt_cache_hit_tokens`, `OpenRouter`'s `cache_write_tokens`, Anthropic's names behind Vercel's gateway.
pub(crate) fn openai(node: &Node<'_>) -> Usage {
    let mut bad = false;
    let suspect = &mut bad;
    let details = |names: [&str; 3]| names.into_iter().find_map(|name| node.get(name));
    // Chat completions, responses and images, realtime and transcriptions.
    let prompt = details(["prompt_tokens_details", "input_tokens_details", "input_token_details"]);
    let completion = details(["completion_tokens_details", "output_tokens_details", "output_token_details"]);
    let inside = |of: Option<&Node<'_>>, name: &str, suspect: &mut bool| of.and_then(|n| count(n, name, suspect));
    let usage = Usage {
        input_tokens: count(node, "prompt_tokens", suspect).or_else(|| count(node, "input_tokens", suspect)),
        output_tokens: count(node, "completion_tokens", suspect).or_else(|| count(node, "output_tokens", suspect)),
        total_tokens: count(node, "total_tokens", suspect),
        cache_read_tokens: inside(prompt, "cached_tokens", suspect)
            .or_else(|| count(node, "prompt_cache_hit_tokens", suspect))
            .or_else(|| count(node, "cache_read_input_tokens", suspect))
            .or_else(|| count(node, "cached_tokens", suspect))
            .or_else(|| count(node, "num_cached_tokens", suspect)),
        cache_write_tokens: inside(prompt, "cache_write_tokens", suspect)
            .or_else(|| count(node, "cache_creation_input_tokens", suspect)),
        reasoning_tokens: inside(completion, "reasoning_tokens", suspect)
            .or_else(|| count(node, "reasoning_tokens", suspect)),
        audio_input_tokens: inside(prompt, "audio_tokens", suspect),
        audio_output_tokens: inside(completion, "audio_tokens", suspect),
        ..Usage::default()
    };
    Usage { suspect: bad, ..usage }
}

/// Cohere's `usage`, or the `meta` of what is no chat: tokens as they are rather than as they are billed (the instructions Cohere
/// adds are not billed), what pictures took beside the rest.
pub(crate) fn cohere(node: &Node<'_>) -> Usage {
    let mut bad = false;
    let suspect = &mut bad;
    let Some(tokens) = node.get("tokens").or_else(|| node.get("billed_units")) else { return Usage::default() };
    let (text, pictures) = (count(tokens, "input_tokens", suspect), count(tokens, "image_tokens", suspect));
    let usage = Usage {
        input_tokens: if text.is_none() && pictures.is_none() {
            None
        } else {
            Some(text.unwrap_or(0).saturating_add(pictures.unwrap_or(0)))
        },
        output_tokens: count(tokens, "output_tokens", suspect),
        cache_read_tokens: count(node, "cached_tokens", suspect),
        reasoning_tokens: count(tokens, "reasoning_tokens", suspect),
        ..Usage::default()
    };
    Usage { suspect: bad, ..usage }
}

/// Ollama's counts, which stand in the answer itself.
pub(crate) fn ollama(node: &Node<'_>) -> Usage {
    let mut bad = false;
    let suspect = &mut bad;
    let usage = Usage {
        input_tokens: count(node, "prompt_eval_count", suspect),
        output_tokens: count(node, "eval_count", suspect),
        ..Usage::default()
    };
    Usage { suspect: bad, ..usage }
}

/// Google's `usageMetadata`: what was thought stands beside what was said, and what its own tools read beside the prompt.
pub(crate) fn gemini(node: &Node<'_>) -> Usage {
    let mut bad = false;
    let suspect = &mut bad;
    let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    };
    let (prompt, tools) = (count(node, "promptTokenCount", suspect), count(node, "toolUsePromptTokenCount", suspect));
    let (said, thought) = (count(node, "candidatesTokenCount", suspect), count(node, "thoughtsTokenCount", suspect));
    let mut audio = |details: &str| {
        let found = node.get(details)?.items().iter().find(|one| one.text_of("modality").as_deref() == Some("AUDIO"));
        count(found?, "tokenCount", suspect)
    };
    let (heard, spoken) = (audio("promptTokensDetails"), audio("candidatesTokensDetails"));
    let usage = Usage {
        input_tokens: sum(prompt, tools),
        output_tokens: sum(said, thought),
        total_tokens: count(node, "totalTokenCount", suspect),
        cache_read_tokens: count(node, "cachedContentTokenCount", suspect),
        cache_write_tokens: None,
        reasoning_tokens: thought,
        audio_input_tokens: heard,
        audio_output_tokens: spoken,
        ..Usage::default()
    };
    Usage { suspect: bad, ..usage }
}

/// Bedrock's `usage`: the input leaves out what was read from and written into the cache. Nova's own form has other names.
pub(crate) fn bedrock(node: &Node<'_>) -> Usage {
    let mut bad = false;
    let suspect = &mut bad;
    let mut named = |names: &[&str]| names.iter().find_map(|name| count(node, name, suspect));
    let fresh = named(&["inputTokens", "inputTokenCount"]);
    let output_tokens = named(&["outputTokens", "outputTokenCount"]);
    let total = named(&["totalTokens"]);
    let cache_read_tokens = named(&["cacheReadInputTokens", "cacheReadInputTokenCount"]);
    let cache_write_tokens = named(&["cacheWriteInputTokens", "cacheWriteInputTokenCount"]);
    let cached = cache_read_tokens.unwrap_or(0).saturating_add(cache_write_tokens.unwrap_or(0));
    let input_tokens = fresh.map(|fresh| fresh.saturating_add(cached));
    let sum = || input_tokens.zip(output_tokens).map(|(input, output)| input.saturating_add(output));
    Usage {
        input_tokens,
        output_tokens,
        total_tokens: total.or_else(sum),
        cache_read_tokens,
        cache_write_tokens,
        suspect: bad,
        ..Usage::default()
    }
}

/// The `usage` of a model's own form, whichever maker's it is.
pub(crate) fn by_shape(node: &Node<'_>) -> Usage {
    if node.get("prompt_tokens").is_some() {
        openai(node)
    } else if node.get("input_tokens").is_some() {
        let mut usage = AnthropicUsage::default();
        usage.take(node);
        usage.usage()
    } else {
        bedrock(node)
    }
}

/// Anthropic's counts: `input_tokens` leaves out what was read from and written into the cache, and a stream
/// tells them in two events, so they are kept apart until asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AnthropicUsage {
    raw: Usage,
}

impl AnthropicUsage {
    /// Take over what a `usage` object says.
    pub(crate) fn take(&mut self, node: &Node<'_>) {
        let mut bad = false;
        let suspect = &mut bad;
        let later = Usage {
            input_tokens: count(node, "input_tokens", suspect),
            output_tokens: count(node, "output_tokens", suspect),
            cache_read_tokens: count(node, "cache_read_input_tokens", suspect),
            cache_write_tokens: count(node, "cache_creation_input_tokens", suspect),
            reasoning_tokens: node
                .get("output_tokens_details")
                .and_then(|details| count(details, "thinking_tokens", suspect)),
            ..Usage::default()
        };
        self.raw.merge(&Usage { suspect: bad, ..later });
    }

    /// All of it, the input with its cached share.
    pub(crate) fn usage(&self) -> Usage {
        let cached = self.raw.cache_read_tokens.unwrap_or(0).saturating_add(self.raw.cache_write_tokens.unwrap_or(0));
        let input_tokens = self.raw.input_tokens.map(|input| input.saturating_add(cached));
        let total_tokens = input_tokens.zip(self.raw.output_tokens).map(|(i, o)| i.saturating_add(o));
        Usage { input_tokens, total_tokens, ..self.raw }
    }
}

//! What an answer took, in tokens.

/// Tokens taken. `None`: the provider did not say. A value that is no whole number sets `suspect` and is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens read, those from and into a cache included.
    pub input_tokens: Option<u64>,
    /// Tokens generated, as the provider counts them (xAI and Google leave reasoning out: see [`Usage::generated`]).
    pub output_tokens: Option<u64>,
    /// The provider's own sum.
    pub total_tokens: Option<u64>,
    /// Of the input: read from a cache.
    pub cache_read_tokens: Option<u64>,
    /// Of the input: written into a cache.
    pub cache_write_tokens: Option<u64>,
    /// Reasoning tokens.
    pub reasoning_tokens: Option<u64>,
    /// Of the input: audio.
    pub audio_input_tokens: Option<u64>,
    /// Of the output: audio.
    pub audio_output_tokens: Option<u64>,
    /// Audio heard, in milliseconds, where the provider counts it so.
    pub audio_ms: Option<u64>,
    /// Pictures made.
    pub images: Option<u64>,
    /// The provider sent a count that cannot be one.
    pub suspect: bool,
}

impl Usage {
    /// Whether the provider said anything.
    pub fn is_known(&self) -> bool {
        self.input_tokens.is_some() || self.output_tokens.is_some() || self.total_tokens.is_some()
    }

    /// All tokens generated: the output, or the rest of the provider's sum where that is more.
    pub fn generated(&self) -> Option<u64> {
        let rest = self.total_tokens.map(|total| total.saturating_sub(self.input_tokens.unwrap_or(0)));
        self.output_tokens.max(rest)
    }

    /// Add what another answer took.
    pub fn add(&mut self, other: &Self) {
        let sum = |now: &mut Option<u64>, more: Option<u64>| {
            *now = if now.is_none() { more } else { Some(now.unwrap_or(0).saturating_add(more.unwrap_or(0))) };
        };
        sum(&mut self.input_tokens, other.input_tokens);
        sum(&mut self.output_tokens, other.output_tokens);
        sum(&mut self.total_tokens, other.total_tokens);
        sum(&mut self.cache_read_tokens, other.cache_read_tokens);
        sum(&mut self.cache_write_tokens, other.cache_write_tokens);
        sum(&mut self.reasoning_tokens, other.reasoning_tokens);
        sum(&mut self.audio_input_tokens, other.audio_input_tokens);
        sum(&mut self.audio_output_tokens, other.audio_output_tokens);
        self.suspect |= other.suspect;
    }

    /// Take over what `later` says. A later zero does not undo a count: some servers repeat the block with zeros.
    pub fn merge(&mut self, later: &Self) {
        let take = |now: &mut Option<u64>, then: Option<u64>| match (*now, then) {
            (None, _) => *now = then,
            (Some(_), Some(more)) if more > 0 => *now = then,
            _ => {}
        };
        take(&mut self.input_tokens, later.input_tokens);
        take(&mut self.output_tokens, later.output_tokens);
        take(&mut self.total_tokens, later.total_tokens);
        take(&mut self.cache_read_tokens, later.cache_read_tokens);
        take(&mut self.cache_write_tokens, later.cache_write_tokens);
        take(&mut self.reasoning_tokens, later.reasoning_tokens);
        take(&mut self.audio_input_tokens, later.audio_input_tokens);
        take(&mut self.audio_output_tokens, later.audio_output_tokens);
        take(&mut self.audio_ms, later.audio_ms);
        take(&mut self.images, later.images);
        self.suspect |= later.suspect;
    }
}

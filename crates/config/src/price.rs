//! `[[price]]`: what a model costs and how much fits in it, where the table of this version does not say it or says it wrongly.

use base::{Money, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::{Code, Faults};
use crate::resource::Alone;
use crate::text::{MoneyText, NameText};

/// What one model of one provider costs here, by the million tokens, and how much fits in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// The provider's name here.
    #[schemars(with = "NameText")]
    pub provider: Name,
    /// The model as the provider calls it, exactly; `*` for every model of the provider that has no entry of its own.
    #[schemars(length(min = 1, max = 256))]
    pub model: String,
    /// A million tokens of input. Given together with `output`; without both, the price stays as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub input: Option<Money>,
    /// A million tokens of output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub output: Option<Money>,
    /// A million tokens of input read from the provider's cache. Absent: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub cache_read: Option<Money>,
    /// A million tokens of input written into it. Absent: as `input`; less than `input`: on top of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub cache_write: Option<Money>,
    /// A million tokens of reasoning. Absent: as `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub reasoning: Option<Money>,
    /// A million tokens of audio in the input. Absent: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub audio_input: Option<Money>,
    /// A million tokens of audio in the output. Absent: as `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub audio_output: Option<Money>,
    /// A request, whatever it is, besides everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub request: Option<Money>,
    /// A picture made, of any size and quality that `images` does not name. Without a price of their own, pictures cost their tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub image: Option<Money>,
    /// Pictures of one size or quality.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub images: Vec<ImagePrice>,
    /// A minute of audio heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub minute: Option<Money>,
    /// A million characters to be spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub characters: Option<Money>,
    /// What requests with long inputs cost instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub tiers: Vec<PriceTier>,
    /// How many tokens fit, input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub context: Option<u64>,
    /// How many tokens of input fit, where that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_input: Option<u64>,
    /// How many tokens of output fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_output: Option<u64>,
}

/// What a picture of one size or quality costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePrice {
    /// As the request says it: `1024x1024`. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub size: Option<String>,
    /// As the request says it: `high`. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub quality: Option<String>,
    /// Each.
    #[schemars(with = "MoneyText")]
    pub price: Money,
}

/// What a request costs whose input is long: all of it, not only what is above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceTier {
    /// More tokens of input than this.
    #[schemars(range(min = 1))]
    pub above: u64,
    /// A million tokens of input.
    #[schemars(with = "MoneyText")]
    pub input: Money,
    /// A million tokens of output.
    #[schemars(with = "MoneyText")]
    pub output: Money,
    /// A million tokens of input read from the provider's cache. Absent: as `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub cache_read: Option<Money>,
    /// A million tokens of input written into it. Absent: as `input`; less than `input`: on top of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub cache_write: Option<Money>,
}

impl Price {
    /// The table in the file.
    pub(crate) const KIND: &'static str = "price";
}

impl Alone for Price {
    fn alone(&self, faults: &mut Faults) {
        let parts = [
            ("cache_read", self.cache_read),
            ("cache_write", self.cache_write),
            ("reasoning", self.reasoning),
            ("audio_input", self.audio_input),
            ("audio_output", self.audio_output),
        ];
        let part = parts.iter().find(|(_, price)| price.is_some()).map(|(key, _)| *key);
        let part = part.or_else(|| (!self.tiers.is_empty()).then_some("tiers"));
        let other =
            self.request.or(self.image).or(self.minute).or(self.characters).is_some() || !self.images.is_empty();
        match (self.input, self.output, part) {
            (None, None, None) if !other && self.context.or(self.max_input).or(self.max_output).is_none() => {
                faults
                    .add("", Code::MissingKey, "it says nothing about the model")
                    .hint("give input and output, another price, or context, max_input or max_output");
            }
            (Some(_), Some(_), _) | (None, None, None) => {}
            (None, _, _) => {
                faults.add("", Code::MissingKey, "the key input is missing").hint("a price has input and output");
            }
            (_, None, _) => {
                faults.add("", Code::MissingKey, "the key output is missing").hint("a price has input and output");
            }
        }
        for (index, pair) in self.tiers.windows(2).enumerate() {
            if let [before, after] = pair
                && after.above <= before.above
            {
                faults.add(format!("tiers[{}].above", index + 1), Code::BadValue, "the tier before begins later");
            }
        }
        for (index, image) in self.images.iter().enumerate() {
            let same = |other: &ImagePrice| (&other.size, &other.quality) == (&image.size, &image.quality);
            if self.images.iter().take(index).any(same) {
                faults.add(format!("images[{index}]"), Code::BadValue, "named twice");
            }
        }
        if let (Some(input), Some(context)) = (self.max_input, self.context)
            && input > context
        {
            faults.add("max_input", Code::Conflict, "more than context, of which it is a part");
        }
    }
}

//! What the configuration says of a provider's models, as the catalogue takes it.

use llm::catalogue::{Charges, ImageCharge, Own, Price, Tier, Tiers, TokenLimits};

/// What `[[price]]` says of the models of the provider called `provider`.
pub fn own_figures(prices: &[config::Price], provider: &str) -> Vec<Own> {
    prices.iter().filter(|price| price.provider.as_str() == provider).map(own).collect()
}

fn own(said: &config::Price) -> Own {
    let tier = |tier: &config::PriceTier| Tier {
        above: tier.above,
        input: tier.input,
        output: tier.output,
        cache_read: tier.cache_read,
        cache_write: tier.cache_write,
    };
    let price = said.input.zip(said.output).map(|(input, output)| Price {
        input,
        output,
        cache_read: said.cache_read,
        cache_write: said.cache_write,
        reasoning: said.reasoning,
        audio_input: said.audio_input,
        audio_output: said.audio_output,
        tiers: if said.tiers.is_empty() { Tiers::None } else { Tiers::Stated(said.tiers.iter().map(tier).collect()) },
    });
    let limits = TokenLimits { context: said.context, max_input: said.max_input, max_output: said.max_output };
    let image = |image: &config::ImagePrice| ImageCharge {
        size: image.size.clone(),
        quality: image.quality.clone(),
        price: image.price,
    };
    let charges = Charges {
        request: said.request,
        image: said.image,
        images: said.images.iter().map(image).collect(),
        minute: said.minute,
        characters: said.characters,
    };
    Own { model: said.model.clone(), price, limits, charges }
}

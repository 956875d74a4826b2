//! The catalogue beside the figures it was made from, read here without its parser.

use std::collections::HashMap;

use llm::catalogue::{Catalogue, Tiers};

/// The kind of provider that a name in the source stands for.
const KINDS: [(&str, &str); 16] = [
    ("openai", "openai"),
    ("azure", "azure"),
    ("anthropic", "anthropic"),
    ("amazon-bedrock", "bedrock"),
    ("google", "gemini"),
    ("google-vertex", "vertex"),
    ("mistral", "mistral"),
    ("cohere", "cohere"),
    ("groq", "groq"),
    ("deepseek", "deepseek"),
    ("xai", "xai"),
    ("togetherai", "together"),
    ("fireworks-ai", "fireworks"),
    ("openrouter", "openrouter"),
    ("perplexity", "perplexity"),
    ("cerebras", "cerebras"),
];

/// USD as text in nano-USD. Some figures have more digits than that, from somebody's floats.
fn nano(text: &str) -> Option<i128> {
    if text.is_empty() {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("0000000000".chars()).take(10).collect();
    let tenths: i128 = format!("{whole}{digits}").parse().ok()?;
    Some((tenths + 5) / 10)
}

#[test]
fn every_published_figure_is_in_the_table_exactly() {
    let Some(shared) = vectors::shared() else {
        return vectors::skipped("every_published_figure_is_in_the_table_exactly");
    };
    let text = std::fs::read_to_string(shared.join("data/prices/models.csv")).expect("prices");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("header").split(',').collect();
    let mut rows = 0;
    for line in lines {
        let row: HashMap<&str, &str> = header.iter().copied().zip(line.split(',')).collect();
        let kind = KINDS.iter().find(|(source, _)| *source == row["provider"]).expect("a known provider").1;
        let entry = Catalogue::builtin().entries().iter().find(|e| (e.kind, e.name) == (kind, row["model"]));
        let entry = entry.unwrap_or_else(|| panic!("{line}"));
        let price = entry.price.as_ref();
        let amount = |column: &str| nano(row[column]);
        assert_eq!(price.map(|p| p.input.nano_usd()), amount("input_usd_per_m"), "{line}");
        assert_eq!(price.map(|p| p.output.nano_usd()), amount("output_usd_per_m"), "{line}");
        // A cache that costs nothing beside an input that does is a blank somebody filled in.
        let free = |column: &str| amount(column).filter(|cache| *cache > 0 || amount("input_usd_per_m") == Some(0));
        let part = |of: Option<base::Money>| of.map(base::Money::nano_usd);
        assert_eq!(price.and_then(|p| part(p.cache_read)), free("cache_read_usd_per_m"), "{line}");
        assert_eq!(price.and_then(|p| part(p.cache_write)), free("cache_write_usd_per_m"), "{line}");
        assert_eq!(price.and_then(|p| part(p.reasoning)), amount("reasoning_usd_per_m"), "{line}");
        assert_eq!(price.and_then(|p| part(p.audio_input)), amount("input_audio_usd_per_m"), "{line}");
        assert_eq!(price.and_then(|p| part(p.audio_output)), amount("output_audio_usd_per_m"), "{line}");
        assert_eq!(price.is_some_and(|p| p.tiers == Tiers::Unstated), row["has_tiers"] == "yes", "{line}");
        let count = |column: &str| row[column].parse::<u64>().ok().filter(|count| *count > 0);
        assert_eq!(entry.limits.context, count("context"), "{line}");
        assert_eq!(entry.limits.max_input, count("max_input"), "{line}");
        // What the source calls the output of an embedding model is the length of its vectors.
        let output = count("max_output").filter(|_| !row["model"].contains("embed"));
        assert_eq!(entry.limits.max_output, output, "{line}");
        assert_eq!(entry.released.unwrap_or_default(), row["released"], "{line}");
        assert_eq!(entry.status.unwrap_or_default(), row["status"], "{line}");
        rows += 1;
    }
    assert_eq!(rows, Catalogue::builtin().entries().len());
}

//! The table's text: one model a line, `name key=value ...`, below the `[kind]` of provider that runs it.

use base::Money;

use super::{Entry, Price, Tiers, TokenLimits};

/// What came of reading a table.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
    /// Lines that cannot be read, by their number from 1. The table is ours: a test sees that there are none.
    pub(super) wrong: Vec<usize>,
}

/// Read a table.
pub(super) fn read(text: &'static str) -> Table {
    let mut table = Table::default();
    let mut section = None;
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = if line.starts_with('[') {
            section = header(line);
            section.is_some()
        } else {
            let entry = section.and_then(|section| model(section, line));
            entry.map(|entry| table.entries.push(entry)).is_some()
        };
        if !read {
            table.wrong.push(index + 1);
        }
    }
    table
}

/// What holds for all models below it.
#[derive(Clone, Copy)]
struct Section {
    kind: &'static str,
    source: &'static str,
    as_of: &'static str,
}

/// `[kind] source=... as_of=...`
fn header(line: &'static str) -> Option<Section> {
    let (kind, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let value = |key| fields(rest).find(|(name, _)| *name == key).map(|(_, value)| value);
    Some(Section { kind, source: value("source")?, as_of: value("as_of")? })
}

fn fields(text: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    text.split(' ').map(|field| field.split_once('=').unwrap_or((field, "")))
}

fn model(section: Section, line: &'static str) -> Option<Entry> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let Section { kind, source, as_of } = section;
    let mut entry = Entry {
        kind,
        name,
        price: None,
        limits: TokenLimits::default(),
        takes: Vec::new(),
        gives: Vec::new(),
        tools: None,
        reasoning: None,
        released: None,
        status: None,
        source,
        as_of,
    };
    let (mut input, mut output) = (None, None);
    let mut price = Price::flat(Money::ZERO, Money::ZERO);
    for (key, value) in fields(rest).filter(|(key, _)| !key.is_empty()) {
        match key {
            "in" => input = Some(usd(value)?),
            "out" => output = Some(usd(value)?),
            "cache_read" => price.cache_read = Some(usd(value)?),
            "cache_write" => price.cache_write = Some(usd(value)?),
            "reasoning" => price.reasoning = Some(usd(value)?),
            "audio_in" => price.audio_input = Some(usd(value)?),
            "audio_out" => price.audio_output = Some(usd(value)?),
            "tiers" if value == "unstated" => price.tiers = Tiers::Unstated,
            "context" => entry.limits.context = Some(value.parse().ok()?),
            "max_input" => entry.limits.max_input = Some(value.parse().ok()?),
            "max_output" => entry.limits.max_output = Some(value.parse().ok()?),
            "takes" => entry.takes = value.split(',').collect(),
            "gives" => entry.gives = value.split(',').collect(),
            "can" => {
                entry.tools = Some(value.split(',').any(|can| can == "tools"));
                entry.reasoning = Some(value.split(',').any(|can| can == "reasoning"));
            }
            "released" => entry.released = Some(value),
            "status" => entry.status = Some(value),
            _ => return None,
        }
    }
    entry.price = match (input, output) {
        (Some(input), Some(output)) => Some(Price { input, output, ..price }),
        (None, None) => None,
        _ => return None,
    };
    Some(entry)
}

/// An amount without its unit, exactly.
fn usd(text: &str) -> Option<Money> {
    Money::parse(&format!("{text} USD")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Catalogue;

    #[test]
    fn every_line_of_the_table_is_read_and_names_one_model() {
        let table = read(include_str!("models.txt"));
        assert_eq!(table.wrong, [0; 0]);
        assert!(table.entries.len() > 800, "{}", table.entries.len());
        let entries = Catalogue::builtin().entries();
        let twice = entries.iter().zip(entries.iter().skip(1)).find(|(a, b)| (a.kind, a.name) == (b.kind, b.name));
        assert_eq!(twice, None);
    }

    #[test]
    fn a_line_that_is_not_understood_is_told_and_not_half_read() {
        let table = read(
            "lost in=1\n[x] source=s as_of=d\nfine in=1 out=2\nhalf in=1\nodd in=1 out=2 sideways=3\nnegative in=-1 out=2\n",
        );
        assert_eq!(table.wrong, [1, 4, 5, 6]);
        assert_eq!(table.entries.iter().map(|entry| entry.name).collect::<Vec<_>>(), ["fine"]);
    }
}

//! "Did you mean ...?"

/// Words other programs use for the same thing.
const SYNONYMS: &[(&str, &str)] = &[
    ("aud", "audience"),
    ("credentials", "api_key"),
    ("endpoint", "base_url"),
    ("iss", "issuer"),
    ("jwks_uri", "jwks_url"),
    ("key", "api_key"),
    ("max_tokens", "max_output_tokens"),
    ("providers", "targets"),
    ("secret", "api_key"),
    ("secret", "hs256_secret"),
    ("sub", "subject"),
    ("template", "prompt"),
    ("token", "api_key"),
    ("type", "kind"),
    ("uri", "url"),
    ("url", "base_url"),
];

/// The candidate that `word` most likely was meant to be, if one is near enough.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let meant = |(other, meant): &(&str, &str)| candidates.iter().find(|c| *other == word && *meant == **c).copied();
    let close_enough = (word.chars().count() / 3).clamp(1, 3);
    let near = candidates
        .iter()
        .copied()
        .map(|candidate| (distance(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, _)| *distance <= close_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    near.or_else(|| SYNONYMS.iter().find_map(meant))
}

/// How many letters have to be added, dropped, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Row by row; two rows back for the swaps.
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let change = at(&above, j) + usize::from(x != y);
            let mut best = change.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keys_is_recognised_and_another_word_is_not() {
        let keys = ["api_key", "base_url", "kind", "name"];
        assert_eq!(nearest("apikey", keys), Some("api_key"));
        assert_eq!(nearest("base_ulr", keys), Some("base_url"));
        assert_eq!(nearest("knid", keys), Some("kind"));
        assert_eq!(nearest("Name", keys), Some("name"));
        assert_eq!(nearest("timeout", keys), None);
        assert_eq!(nearest("url", keys), Some("base_url"));
        assert_eq!(nearest("url", ["kind"]), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

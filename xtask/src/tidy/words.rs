//! Words that have no place in the repository: marks of unfinished work, paths of somebody's machine, addresses of
//! package registries (a lock file that names one breaks where packages come from elsewhere).

use super::{Findings, Source};

/// Each word is split here so that this file does not hold it.
const WORDS: [(&str, &str, &str); 13] = [
    ("TO", "DO", "unfinished work belongs in an issue"),
    ("FIX", "ME", "unfinished work belongs in an issue"),
    ("XX", "X:", "unfinished work belongs in an issue"),
    ("/wo", "rk/", "a path of one machine"),
    ("/ro", "ot/", "a path of one machine"),
    ("/ho", "me/", "a path of one machine"),
    ("/tmp", "/brief", "a path of one machine"),
    ("/tmp", "/target-", "a path of one machine"),
    ("registry.", "npmjs", "a registry's address"),
    ("pypi", ".org", "a registry's address"),
    ("static.", "crates.io", "a registry's address"),
    ("deb.", "debian.org", "a registry's address"),
    ("\"reso", "lved\":", "a registry's address in a lock file; set omit-lockfile-registry-resolved"),
];

pub(super) fn check(sources: &[Source]) -> Findings {
    let mut found = Findings::default();
    for source in sources.iter().filter(|source| source.path != "LICENSE") {
        for (number, line) in source.text.lines().enumerate() {
            for (head, tail, why) in WORDS {
                let word = format!("{head}{tail}");
                if has_word(line, &word) {
                    found.breach(format!("{}:{}: `{word}`: {why}", source.path, number + 1));
                }
            }
        }
    }
    found
}

/// Whether `line` holds `word`, not as the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '.' || c == '-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_word_is_named_with_its_line() {
        let text = format!("fine\n// TO{}: later\n", "DO");
        let found = check(&[Source { path: "a.rs".to_owned(), text }]);
        assert_eq!(found.breaches.len(), 1);
        assert!(found.breaches.iter().all(|breach| breach.starts_with("a.rs:2: ")));
    }

    #[test]
    fn a_part_of_a_longer_path_is_no_breach() {
        let home = format!("/ho{}x", "me/");
        let word = home.trim_end_matches('x');
        assert!(has_word(&home, word));
        assert!(!has_word(&format!("vouchgate{home}"), word));
    }
}

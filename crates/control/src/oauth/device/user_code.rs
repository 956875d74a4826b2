//! The code a person types in: eight letters that are hard to misread and spell no word (RFC 8628 section 6.1).

use base::{Rng, Secret};

/// No vowels, and nothing that looks like a digit.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

/// A new code, without its hyphen: one of 20^8, some 34 bits.
pub(super) fn generate(rng: &dyn Rng) -> Secret<String> {
    let mut code = String::with_capacity(LENGTH);
    while code.len() < LENGTH {
        let mut random = [0u8; 16];
        rng.fill(&mut random);
        // A remainder of all 256 values would favour some letters: those past 240 are drawn again.
        let letters = random.iter().filter(|byte| **byte < 240).filter_map(|byte| LETTERS.get(usize::from(byte % 20)));
        code.extend(letters.take(LENGTH - code.len()).map(|letter| char::from(*letter)));
    }
    Secret::new(code)
}

/// A code as it is shown: `WDJB-MJHT`.
pub(super) fn shown(code: &str) -> String {
    match code.split_at_checked(LENGTH / 2) {
        Some((first, second)) => format!("{first}-{second}"),
        None => code.to_owned(),
    }
}

/// What a person typed, without what does not matter: case, hyphens, spaces. `None`: not a code.
pub(super) fn typed(text: &str) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let mut code = String::with_capacity(LENGTH);
    for c in text.chars() {
        let upper = c.to_ascii_uppercase();
        if u8::try_from(upper).is_ok_and(|byte| LETTERS.contains(&byte)) {
            code.push(upper);
        } else if !matches!(c, '-' | '\u{2010}'..='\u{2015}' | ' ' | '\t' | '.' | '_') {
            return None;
        }
    }
    (code.len() == LENGTH).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemRng;
    use proptest::prelude::*;

    #[test]
    fn a_code_is_eight_letters_and_is_read_however_it_is_typed() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let code = generate(&SystemRng);
            let code = code.expose();
            assert_eq!(code.len(), 8);
            let shown = shown(code);
            assert_eq!((shown.len(), typed(&shown).as_ref()), (9, Some(code)));
            assert_eq!(typed(&format!(" {} ", shown.to_lowercase())).as_ref(), Some(code));
            assert!(seen.insert(code.clone()));
        }
        for wrong in ["", "WDJB", "WDJB-MJHTX", "WDJB-MJHA", "WDJB-MJH1", "WDJB/MJHT", "ẄDJBMJHT", &"B".repeat(80)] {
            assert_eq!(typed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_letter_is_drawn() {
        let drawn: String = (0..200).map(|_| generate(&SystemRng).expose().clone()).collect();
        for letter in LETTERS {
            assert!(drawn.contains(char::from(*letter)));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_fault(text in "\\PC{0,80}") {
            if let Some(code) = typed(&text) {
                prop_assert_eq!(code.len(), 8);
            }
        }
    }
}

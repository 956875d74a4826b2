//! Whether a shared secret is fit to sign tokens with (RFC 7518 section 3.2, RFC 8725 section 3.5).
//!
//! Anybody who sees one token can try secrets against it, offline and for ever. So a secret must be as long as the
//! hash, must not be one that tutorials print, and must not look like something a person made up.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::Alg;

/// Below this estimate a secret counts as guessable. Sixteen random bytes in hex pass with much room; the estimate takes
/// one in a million random texts for words.
const MIN_BITS: f64 = 72.0;

/// Why a shared secret is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Known from tutorials and examples.
    #[error("it is known from tutorials or examples; make one with `openssl rand -base64 48`")]
    WellKnown,
    /// Shorter than the algorithm's hash.
    #[error("it has {have} bytes, the algorithm needs {need}; make one with `openssl rand -base64 48`")]
    TooShort {
        /// Its length in bytes.
        have: usize,
        /// The length it needs in bytes.
        need: usize,
    },
    /// Words, repetitions and sequences instead of random characters.
    #[error("it can be guessed (words, repetitions or sequences); make one with `openssl rand -base64 48`")]
    Guessable,
}

impl SecretError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::WellKnown => "well_known_secret",
            Self::TooShort { .. } => "short_secret",
            Self::Guessable => "weak_secret",
        }
    }
}

/// Check a shared secret for an HMAC algorithm.
pub fn check_secret(secret: &[u8], alg: Alg) -> Result<(), SecretError> {
    if is_well_known(secret) {
        return Err(SecretError::WellKnown);
    }
    let need = alg.hmac().map_or(32, |mac| mac.tag_len());
    if secret.len() < need {
        return Err(SecretError::TooShort { have: secret.len(), need });
    }
    if estimated_bits(secret) < MIN_BITS {
        return Err(SecretError::Guessable);
    }
    // An encoding does not make a password longer.
    match decoded(secret) {
        Some(inner) if is_well_known(&inner) => Err(SecretError::WellKnown),
        Some(inner) if is_text(&inner) && estimated_bits(&inner) < MIN_BITS => Err(SecretError::Guessable),
        _ => Ok(()),
    }
}

/// Secrets that are printed in tutorials, templates and library examples, in lower case.
const WELL_KNOWN: &[&str] = &[
    "secret",
    "secretkey",
    "secret_key",
    "secret-key",
    "secret key",
    "my secret",
    "mysecret",
    "my_secret",
    "my-secret",
    "mysecretkey",
    "my_secret_key",
    "my-secret-key",
    "mysupersecretkey",
    "my_super_secret_key",
    "my-super-secret-key",
    "supersecret",
    "super_secret",
    "super-secret",
    "supersecretkey",
    "super_secret_key",
    "super-secret-key",
    "topsecret",
    "top_secret",
    "verysecret",
    "very-secret",
    "shhhhh",
    "shhhhhared-secret",
    "shhh",
    "changeme",
    "change_me",
    "change-me",
    "changeit",
    "changethis",
    "changemeinproduction",
    "change_me_in_production",
    "change-me-in-production",
    "please-change-me",
    "password",
    "passw0rd",
    "password123",
    "admin",
    "test",
    "testing",
    "test-secret",
    "test_secret",
    "testsecret",
    "example",
    "default",
    "demo",
    "dev",
    "development",
    "dev-secret",
    "key",
    "private",
    "privatekey",
    "private_key",
    "jwt",
    "jwtsecret",
    "jwt_secret",
    "jwt-secret",
    "jwtsecretkey",
    "jwt_secret_key",
    "jwt-secret-key",
    "jwtkey",
    "myjwtsecret",
    "my_jwt_secret",
    "your_jwt_secret",
    "your-jwt-secret",
    "your_jwt_secret_key",
    "yourjwtsecret",
    "token",
    "tokensecret",
    "token-secret",
    "access_token_secret",
    "refresh_token_secret",
    "yoursecret",
    "your-secret",
    "your_secret",
    "yoursecretkey",
    "your-secret-key",
    "your_secret_key",
    "your_secret_key_here",
    "your-secret-key-here",
    "your-super-secret-key",
    "your-256-bit-secret",
    "your-384-bit-secret",
    "your-512-bit-secret",
    "your-256-bit-secret-key",
    "your-256-bit-secret-your-256-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
    "a-very-long-secret-key-that-is-at-least-256-bits-long",
    "keyboard cat",
    "keyboardcat",
    "hello",
    "helloworld",
    "hello world",
    "foobar",
    "foo",
    "bar",
    "abc",
    "abc123",
    "abcdef",
    "qwerty",
    "qwertyuiopasdfghjklzxcvbnm123456",
    "123",
    "1234",
    "12345",
    "123456",
    "12345678",
    "123456789",
    "1234567890",
    "0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "12345678901234567890123456789012",
    "00000000000000000000000000000000",
    "abcdefghijklmnopqrstuvwxyz123456",
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "thisismysecret",
    "thisisasecret",
    "thisisasecretkey",
    "this is a secret",
    "this-is-a-secret-key",
    "thisismysupersecretkey",
    "this_is_my_secret_key_for_jwt_tokens",
    "thisisaverylongsecretkeythatshouldbeatleast256bits",
    "insecure",
    "insecure-jwt-secret",
    "notasecret",
    "not-a-secret",
    "gutscheinprogramm",
    "some-secret",
    "somesecret",
    "some_secret_key",
    "sharedsecret",
    "shared-secret",
    "hmacsecret",
    "sign-secret",
    "signingkey",
    "signing-key",
    "app_secret",
    "appsecret",
    "node-secret",
    "express-secret",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "404e635266556a586e3272357538782f413f4428472b4b6250645367566b5970",
    "4c31f7efd6857d91e729165510520424",
    "5367566b59703373367639792f423f4528482b4d6251655468576d5a71347437",
    "af60addca9ea3e3c099551e1b6576c9966dce0a33de879dd7e160f86dbd872ca23d6e9ee66fb77039bd33c5a4dd9ac9f3c4ac5e1a6d6c6ce4f0be9ef3d5e1c3d",
    "aym1sysppbydfgzld3umj1qzkobwvmkoqq-estjqlr_t-1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow",
];

/// Whether it is on the list, as it is, in another case, with white space around it or a newline at its end.
fn is_well_known(secret: &[u8]) -> bool {
    let lower = Zeroizing::new(secret.trim_ascii().to_ascii_lowercase());
    WELL_KNOWN.iter().any(|known| known.as_bytes() == lower.as_slice())
}

/// What a base64 or hex text stands for.
fn decoded(secret: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(secret.trim_ascii()).ok()?;
    if text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        return text.as_bytes().chunks(2).map(digits).collect::<Option<Vec<_>>>().map(Zeroizing::new);
    }
    let bare = text.trim_end_matches('=');
    let bytes = STANDARD_NO_PAD.decode(bare).or_else(|_| URL_SAFE_NO_PAD.decode(bare));
    bytes.ok().map(Zeroizing::new)
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| (b' '..=b'~').contains(b))
}

/// A rough, cautious guess at how many bits of surprise a secret holds: the least of three estimates.
fn estimated_bits(secret: &[u8]) -> f64 {
    let unit = period(secret);
    let once = secret.get(..unit).unwrap_or(secret);
    let repeats = if unit < secret.len() { 5.0 } else { 0.0 };
    repeats + pattern_bits(once).min(frequency_bits(once))
}

/// The length of the shortest piece the secret is a repetition of (the last one may be cut).
fn period(secret: &[u8]) -> usize {
    let repeats = |unit: &usize| secret.iter().zip(secret.iter().skip(*unit)).all(|(a, b)| a == b);
    (1..=secret.len() / 2).find(repeats).unwrap_or(secret.len())
}

/// Shannon's entropy of the bytes' frequencies, times their number: low when few characters make up the secret.
fn frequency_bits(bytes: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    for &b in bytes {
        if let Some(count) = counts.get_mut(usize::from(b)) {
            *count += 1;
        }
    }
    let total = bytes.iter().fold(0.0, |n, _| n + 1.0);
    counts.iter().filter(|&&count| count > 0).map(|&count| f64::from(count) * (total / f64::from(count)).log2()).sum()
}

/// What guessing costs someone who tries words, runs and sequences first.
fn pattern_bits(bytes: &[u8]) -> f64 {
    let per_char = class_bits(bytes);
    let hex = bytes.iter().all(u8::is_ascii_hexdigit);
    let per_letter = if !hex && mostly_words(bytes) { 1.5 } else { per_char };
    let mut bits = 0.0;
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let (usual, word, run) = (usual_word_len(rest), word_len(rest), run_len(rest));
        let number = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if usual > 0 && usual >= run {
            bits += 5.0;
            rest = rest.get(usual..).unwrap_or_default();
        } else if word >= 3 && word >= run {
            bits += rest.iter().take(word).fold(0.0, |sum, _| sum + per_letter);
            rest = rest.get(word..).unwrap_or_default();
        } else if run >= 3 {
            bits += per_char + 4.0;
            rest = rest.get(run..).unwrap_or_default();
        } else if number >= 3 {
            // Years, dates and the like: a digit is worth a digit.
            bits += rest.iter().take(number).fold(0.0, |sum, _| sum + 3.3);
            rest = rest.get(number..).unwrap_or_default();
        } else {
            bits += if b"-_. ".contains(&first) { 1.0 } else { per_char };
            rest = after;
        }
    }
    bits
}

/// Words that made-up secrets are made of.
const USUAL_WORDS: [&str; 40] = [
    "access",
    "and",
    "application",
    "auth",
    "bits",
    "change",
    "characters",
    "default",
    "example",
    "for",
    "gateway",
    "json",
    "jwt",
    "key",
    "least",
    "long",
    "must",
    "node",
    "only",
    "password",
    "please",
    "private",
    "production",
    "random",
    "refresh",
    "secret",
    "secure",
    "server",
    "service",
    "session",
    "should",
    "sign",
    "string",
    "super",
    "test",
    "the",
    "this",
    "token",
    "very",
    "your",
];

/// How many bytes at the start are one of those words, in any case.
fn usual_word_len(bytes: &[u8]) -> usize {
    let starts = |word: &&str| bytes.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()));
    USUAL_WORDS.iter().filter(|word| starts(word)).map(|word| word.len()).max().unwrap_or(0)
}

/// Whether two thirds of the bytes are words or between words, and the words of a usual length and in one style. Random text has some
/// short ones too, by chance; English holds about a bit and a half per letter.
fn mostly_words(bytes: &[u8]) -> bool {
    let (mut words, mut letters, mut between, mut shouted) = (0, 0, 0, 0);
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word_len(rest);
        if word >= 3 {
            words += 1;
            letters += word;
            shouted += usize::from(rest.get(1).is_some_and(u8::is_ascii_uppercase));
        } else if rest.first().is_some_and(|b| b"-_. ".contains(b)) {
            between += 1;
        }
        rest = rest.get(word.max(1)..).unwrap_or_default();
    }
    let one_style = shouted == 0 || shouted == words;
    (letters + between) * 3 >= bytes.len() * 2 && letters >= 4 * words && one_style
}

/// Bits per character if it were drawn evenly from the classes of characters that occur.
fn class_bits(bytes: &[u8]) -> f64 {
    let has = |class: fn(&u8) -> bool| bytes.iter().any(class);
    if bytes.iter().all(u8::is_ascii_hexdigit) {
        return 4.0;
    }
    let mut size = 0.0;
    for (present, count) in [
        (has(u8::is_ascii_lowercase), 26.0),
        (has(u8::is_ascii_uppercase), 26.0),
        (has(u8::is_ascii_digit), 10.0),
        (has(|b| b.is_ascii_graphic() && !b.is_ascii_alphanumeric()), 16.0),
        (has(|b| !b.is_ascii_graphic() && *b != b' '), 128.0),
    ] {
        if present {
            size += count;
        }
    }
    f64::max(size, 2.0).log2()
}

/// How many bytes at the start read as a word: letters of one case (or capitalised) that can be pronounced.
fn word_len(bytes: &[u8]) -> usize {
    let Some((first, tail)) = bytes.split_first() else { return 0 };
    let same_case = |b: &u8| {
        if first.is_ascii_uppercase() && tail.first().is_some_and(u8::is_ascii_uppercase) {
            b.is_ascii_uppercase()
        } else {
            b.is_ascii_lowercase()
        }
    };
    if !first.is_ascii_alphabetic() {
        return 0;
    }
    let len = 1 + tail.iter().take_while(|b| same_case(b)).count();
    let (mut vowels, mut cluster, mut longest, mut was_vowel) = (0, 0, 0, None);
    for b in bytes.iter().take(len) {
        let vowel = b"aeiouy".contains(&b.to_ascii_lowercase());
        vowels += usize::from(vowel);
        cluster = if was_vowel == Some(vowel) { cluster + 1 } else { 1 };
        longest = longest.max(cluster);
        was_vowel = Some(vowel);
    }
    let pronounceable = vowels * 5 >= len && vowels * 5 <= len * 4 && longest <= 3;
    if pronounceable { len } else { 0 }
}

/// How many bytes at the start repeat one character or step up or down by one.
fn run_len(bytes: &[u8]) -> usize {
    let step = |a: &u8, b: &u8| i16::from(*b) - i16::from(*a);
    let mut pairs = bytes.iter().zip(bytes.iter().skip(1)).map(|(a, b)| step(a, b));
    match pairs.next() {
        Some(first @ -1..=1) => 2 + pairs.take_while(|next| *next == first).count(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Rng, SeededRng};
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn check(secret: &str) -> Result<(), SecretError> {
        check_secret(secret.as_bytes(), Alg::Hs256)
    }

    #[test]
    fn secrets_from_tutorials_are_refused_however_they_are_written() {
        for known in WELL_KNOWN {
            assert_eq!(check(known), Err(SecretError::WellKnown), "{known}");
            assert_eq!(check(&known.to_uppercase()), Err(SecretError::WellKnown), "{known}");
            assert_eq!(check(&format!("{known}\n")), Err(SecretError::WellKnown), "{known}");
            assert!(check(&STANDARD.encode(known)).is_err(), "{known} in base64");
            assert!(check(&URL_SAFE_NO_PAD.encode(known)).is_err(), "{known} in base64url");
        }
    }

    #[test]
    fn short_secrets_are_refused_with_the_length_they_need() {
        assert_eq!(check(""), Err(SecretError::TooShort { have: 0, need: 32 }));
        assert_eq!(check("kX9$wQ2!mZ7&pL4@vN8*bT3^hG6(jF"), Err(SecretError::TooShort { have: 30, need: 32 }));
        let random = [0x5a; 40];
        assert_eq!(check_secret(&random, Alg::Hs384), Err(SecretError::TooShort { have: 40, need: 48 }));
        assert_eq!(check_secret(&random, Alg::Hs512), Err(SecretError::TooShort { have: 40, need: 64 }));
    }

    #[test]
    fn long_but_made_up_secrets_are_refused() {
        for weak in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "secretsecretsecretsecretsecretsecret",
            "abcabcabcabcabcabcabcabcabcabcabcabc",
            "12341234123412341234123412341234",
            "abcdefghijklmnopqrstuvwxyzabcdefghijkl",
            "this is a very long secret key!!",
            "MyVeryLongAndVerySecretKeyForTokens2024",
            "super-secret-production-key-change-me-please",
            "please_change_this_secret_in_production_123",
            "0000000000000000000000000000000000000001",
            "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "01234567890123456789012345678901",
        ] {
            assert!(matches!(check(weak), Err(SecretError::Guessable | SecretError::WellKnown)), "{weak:?}");
        }
        let encoded = STANDARD.encode("my very own secret for signing");
        assert_eq!(check(&encoded), Err(SecretError::Guessable), "{encoded}");
    }

    proptest! {
        #[test]
        fn random_secrets_pass_in_every_usual_spelling(seed in any::<u64>()) {
            let mut bytes = [0u8; 32];
            SeededRng::new(seed).fill(&mut bytes);
            prop_assert_eq!(check_secret(&bytes, Alg::Hs256), Ok(()));
            let hex = bytes.iter().fold(String::new(), |hex, b| format!("{hex}{b:02x}"));
            prop_assert_eq!(check(&hex), Ok(()));
            prop_assert_eq!(check(&hex[..32]), Ok(()), "{}", &hex[..32]);
            prop_assert_eq!(check(&STANDARD.encode(bytes)), Ok(()));
            prop_assert_eq!(check(&URL_SAFE_NO_PAD.encode(bytes)), Ok(()));
        }

        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            for alg in Alg::ALL {
                let _ = check_secret(&bytes, alg);
            }
        }
    }
}

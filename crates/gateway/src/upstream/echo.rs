//! An answer is searched for the secrets that its request was sent with: an API that repeats what it was sent, in a page of an
//! error say, would give them to the caller.

use std::fmt;

use base::{Problem, Secret};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use llm::Usage;
use llm::passthrough::Said;

use super::spelling::{Found, Spellings};
use crate::relay::{Before, Kind, Opaque, Pipe, State};

/// A few characters are no secret, and would be found in any text.
const SHORTEST: usize = 8;
/// The code of an answer that repeats a secret.
const CODE: &str = "runtime_secret_echoed";

/// What must not come back.
#[derive(Default)]
pub(crate) struct Echoes(Spellings);

impl Echoes {
    /// Of these values, however they are written.
    pub(crate) fn of(values: &[Secret<Vec<u8>>]) -> Self {
        let mut all = Spellings::default();
        for value in values.iter().filter(|value| value.expose().len() >= SHORTEST) {
            all.add(&String::from_utf8_lossy(value.expose()));
        }
        Self(all)
    }

    /// Whether a text has one of them.
    pub(crate) fn are_in(&self, text: &[u8]) -> bool {
        self.0.search(text) == Found::Whole
    }

    /// Take the fields out that have one.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let told: Vec<_> =
            headers.iter().filter(|(_, value)| self.are_in(value.as_bytes())).map(|(n, _)| n.clone()).collect();
        for name in told {
            headers.remove(name);
        }
    }
}

impl fmt::Debug for Echoes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Echoes").finish_non_exhaustive()
    }
}

/// What the caller is told instead.
pub(crate) fn problem() -> Problem {
    let message = "The answer repeats a secret that its request was sent with, and is not passed on.";
    Problem { retryable: false, ..Problem::provider(StatusCode::BAD_GATEWAY, CODE, message) }
}

/// Passes an answer on as it is, as long as it repeats no secret. What may be the beginning of one is held back.
pub(crate) struct Searched {
    inner: Opaque,
    echoes: Echoes,
    held: Vec<u8>,
    /// How many characters of a secret stand at its end.
    begun: usize,
    found: bool,
}

impl Searched {
    pub(crate) fn new(inner: Opaque, echoes: Echoes) -> Self {
        Self { inner, echoes, held: Vec::new(), begun: 0, found: false }
    }
}

impl Pipe for Searched {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        if self.found {
            return Bytes::new();
        }
        let (found, mut text) = if self.held.is_empty() {
            (self.echoes.0.search(piece), None)
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(piece);
            (self.echoes.0.search(&text), Some(text))
        };
        self.begun = 0;
        match found {
            Found::Whole => {
                self.found = true;
                Bytes::new()
            }
            Found::Nothing => text.map_or_else(|| piece.clone(), Bytes::from),
            Found::Begun(place, length) => {
                self.begun = length;
                let mut text = text.take().unwrap_or_else(|| piece.to_vec());
                self.held = text.split_off(place);
                text.into()
            }
        }
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        let rest = std::mem::take(&mut self.held);
        let last = self.inner.finish(clean);
        // Less than a whole one; but an answer that ends within one may be the first half of two.
        self.found |= self.begun >= SHORTEST;
        if self.found { last } else { [rest.as_slice(), &last].concat().into() }
    }

    fn before(&mut self) -> Option<Before> {
        self.found.then(|| -> Before { Box::pin(std::future::ready(Err(problem()))) })
    }

    fn is_well(&self) -> bool {
        !self.found
    }

    fn state(&self) -> State {
        if self.found { State::Broken(CODE) } else { self.inner.state() }
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn said(&self) -> Said {
        self.inner.said()
    }

    fn kind(&self) -> Kind {
        self.inner.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALUE: &str = "s3cret/value+x\"";

    fn echoes() -> Echoes {
        Echoes::of(&[Secret::new(VALUE.as_bytes().to_vec())])
    }

    /// What comes out of a text in pieces, and whether it was broken off.
    fn through(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut pipe = Searched::new(Opaque::new(false), echoes());
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&pipe.feed(&Bytes::copy_from_slice(piece)));
            if pipe.before().is_some() {
                pipe.interrupt(&problem());
                return (out, true);
            }
        }
        out.extend_from_slice(&pipe.finish(true));
        (out, matches!(pipe.state(), State::Broken(_)))
    }

    #[test]
    fn every_way_of_writing_a_secret_is_found() {
        for form in [
            VALUE,
            "s3cret%2Fvalue%2Bx%22",
            "s3cret%2fvalue%2bx%22",
            "s3cret/value+x\\\"",
            "s3cret\\/value\\u002bx\\u0022",
            "s3cret&#x2F;value+x&quot;",
            "czNjcmV0L3ZhbHVlK3gi",
        ] {
            assert!(echoes().are_in(format!("no such key: {form}.").as_bytes()), "{form}");
        }
        assert!(!echoes().are_in(b"s3cret/value+y"));
        assert!(Echoes::of(&[Secret::new(b"short".to_vec())]).0.is_empty(), "too short to be told from a word");
        assert!(!format!("{:?}", echoes()).contains("s3cret"));
    }

    #[test]
    fn an_answer_that_ends_within_a_secret_is_broken_off() {
        assert_eq!(through(&[b"no: s3cret/va"]), (b"no: ".to_vec(), true));
        assert_eq!(through(&[b"no: s3cr"]), (b"no: s3cr".to_vec(), false), "a few characters are in any text");
    }

    #[test]
    fn a_field_that_repeats_a_secret_is_taken_out() {
        let mut headers = HeaderMap::new();
        headers.insert("location", http::HeaderValue::from_static("/maps/x?key=s3cret%2Fvalue%2Bx%22"));
        headers.insert("etag", http::HeaderValue::from_static("\"1\""));
        echoes().strip(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    proptest! {
        #[test]
        fn nothing_of_a_secret_gets_out_however_the_answer_is_cut(
            before in "[a-z3/+%\"]{0,20}", after in "[a-z3]{0,20}", cuts in prop::collection::vec(0usize..80, 0..6),
            spelled in prop::sample::select(vec![
                VALUE, "s3cret%2fvalue%2Bx%22", "s3cret\\/value+x\\\"", "s3cret&#x2F;value\\u002bx&amp;quot;",
            ]),
        ) {
            let text = format!("{before}{spelled}{after}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut pieces, mut from) = (Vec::new(), 0);
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            let (out, broken) = through(&pieces);
            prop_assert!(broken);
            prop_assert!(before.as_bytes().starts_with(&out), "{}", String::from_utf8_lossy(&out));
        }

        #[test]
        fn any_other_answer_passes_byte_for_byte(text in "[a-z3/+%\"]{0,60}", cut in 0usize..60) {
            let cut = cut.min(text.len());
            prop_assume!(match echoes().0.search(text.as_bytes()) {
                Found::Nothing => true,
                Found::Begun(_, length) => length < SHORTEST,
                Found::Whole => false,
            });
            let (out, broken) = through(&[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]);
            prop_assert_eq!((out, broken), (text.into_bytes(), false));
        }
    }
}

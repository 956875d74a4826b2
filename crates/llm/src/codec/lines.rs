//! One JSON text per line (ndjson.org; Ollama's `application/x-ndjson`, Cohere's `application/stream+json`), incremental and
//! bounded: any chunking gives the same lines.

use super::sse::{SseError, SseEvent};

/// Cuts a byte stream into lines. Empty ones are left out; a CR before the line feed and a byte order mark at the start
/// belong to none.
#[derive(Debug)]
pub(crate) struct LineDecoder {
    line: Vec<u8>,
    limit: usize,
    first: bool,
}

impl LineDecoder {
    /// A decoder that refuses lines over `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { line: Vec::new(), limit, first: true }
    }

    /// Take `chunk`; `each` gets every line completed in it as an event's data, with the offset in `chunk` right after it.
    pub(crate) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(SseEvent, usize)) -> Result<(), SseError> {
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            let length = rest.iter().position(|b| *b == b'\n');
            let piece = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
            if self.line.len() + piece.len() > self.limit {
                return Err(SseError::TooLarge(self.limit));
            }
            self.line.extend_from_slice(piece);
            let Some(length) = length else { return Ok(()) };
            at += length + 1;
            if let Some(event) = self.end_of_line()? {
                each(event, at);
            }
        }
        Ok(())
    }

    /// The stream has ended: its last line, where no line feed follows it. Its taker must see for itself whether it is whole.
    pub(crate) fn finish(&mut self) -> Option<SseEvent> {
        self.end_of_line().ok()?
    }

    /// Whether the stream stands between two lines.
    pub(crate) fn is_between_lines(&self) -> bool {
        self.line.is_empty()
    }

    fn end_of_line(&mut self) -> Result<Option<SseEvent>, SseError> {
        let bytes = std::mem::take(&mut self.line);
        let mut line = std::str::from_utf8(&bytes).map_err(|_| SseError::Utf8)?;
        if std::mem::take(&mut self.first) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        let line = line.trim_matches([' ', '\t', '\r']);
        let event = (!line.is_empty()).then(|| SseEvent { data: line.to_owned(), ..SseEvent::default() });
        // Keep the allocation for the next line.
        self.line = bytes;
        self.line.clear();
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = LineDecoder::new(1 << 20);
        let mut found = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk, |event, _| found.push(event.data)).unwrap();
        }
        found.extend(decoder.finish().map(|event| event.data));
        found
    }

    #[test]
    fn a_line_feed_ends_a_line_and_nothing_else_does() {
        assert_eq!(
            lines(&[b"\xef\xbb\xbf{\"a\":1}\r\n\r\n\n{\"b\":\"\r\"}\n{\"c\":3}"]),
            ["{\"a\":1}", "{\"b\":\"\r\"}", "{\"c\":3}"]
        );
    }

    #[test]
    fn an_endless_line_and_bytes_that_are_no_text_are_refused() {
        let mut decoder = LineDecoder::new(64);
        assert_eq!((0..100).try_for_each(|_| decoder.feed(b"xxxxx", |_, _| {})), Err(SseError::TooLarge(64)));
        assert_eq!(LineDecoder::new(64).feed(b"\xff\n", |_, _| {}), Err(SseError::Utf8));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            text in "([a-zé{}\"]{0,6}(\n|\r\n|\n\n)){0,12}[a-z]{0,3}", cut in 1usize..9,
        ) {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            prop_assert_eq!(lines(&[text.as_bytes()]), lines(&chunks));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = LineDecoder::new(100);
            let _ = decoder.feed(&bytes, |_, end| assert!(end <= bytes.len()));
            let _ = decoder.finish();
        }
    }
}

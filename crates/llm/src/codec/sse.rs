//! Server-sent events (WHATWG HTML, section 9.2), incremental and bounded: any chunking gives the same events.

/// One event, whatever the framing it came in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// The `event` field; empty if absent, as in framings that have none.
    pub event: String,
    /// The `data` fields, joined by line feeds.
    pub data: String,
    /// Whether it was nothing but comments (a sign of life).
    pub comment: bool,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One event is larger than the limit.
    #[error("an event of the stream is larger than {0} bytes")]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("the stream is not UTF-8")]
    Utf8,
    /// A frame that cannot be one.
    #[error("a frame of the stream cannot be read: {0}")]
    Frame(&'static str),
}

/// Cuts a byte stream into events. CR, LF and CRLF end a line; a byte order mark at the start is skipped; an event
/// that the end of the stream cuts off is not delivered.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // each is one bit of where in the grammar the stream stands
pub struct SseDecoder {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
    has_any: bool,
    size: usize,
    limit: usize,
    after_cr: bool,
    first_line: bool,
}

impl Default for SseDecoder {
    fn default() -> Self {
        Self::new(super::frames::LIMIT)
    }
}

impl SseDecoder {
    /// A decoder that refuses events over `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            event: SseEvent::default(),
            has_data: false,
            has_any: false,
            size: 0,
            limit,
            after_cr: false,
            first_line: true,
        }
    }

    /// Take `chunk`; `each` gets every event completed in it, with the offset in `chunk` right after it.
    pub fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(SseEvent, usize)) -> Result<(), SseError> {
        let mut at = 0;
        while let Some(rest) = chunk.get(at..).filter(|rest| !rest.is_empty()) {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                // The second half of a CRLF whose line is dealt with already.
                at += 1;
                continue;
            }
            let length = rest.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let piece = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
            self.size += piece.len() + usize::from(length.is_some());
            if self.size > self.limit {
                return Err(SseError::TooLarge(self.limit));
            }
            self.line.extend_from_slice(piece);
            let Some(length) = length else { return Ok(()) };
            self.after_cr = rest.get(length) == Some(&b'\r');
            at += length + 1;
            // A CRLF inside one chunk is one line end, also for the offset reported.
            if self.after_cr && chunk.get(at) == Some(&b'\n') {
                self.after_cr = false;
                at += 1;
            }
            if let Some(event) = self.end_of_line()? {
                each(event, at);
            }
        }
        Ok(())
    }

    /// The stream has ended: the event its last lines are, though no empty line follows. The standard drops it; but
    /// several servers close right behind their last `data` line, so its taker must see for itself whether it is whole.
    pub fn finish(&mut self) -> Option<SseEvent> {
        if !self.line.is_empty() {
            self.end_of_line().ok()?;
        }
        self.dispatch().filter(|event| !event.comment)
    }

    /// Whether the stream stands between two events (a partial one would be lost now).
    pub fn is_between_events(&self) -> bool {
        !self.has_any && self.line.is_empty()
    }

    fn end_of_line(&mut self) -> Result<Option<SseEvent>, SseError> {
        let bytes = std::mem::take(&mut self.line);
        let mut line = std::str::from_utf8(&bytes).map_err(|_| SseError::Utf8)?;
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        let done = if line.is_empty() {
            self.dispatch()
        } else {
            self.has_any = true;
            self.field(line);
            None
        };
        // Keep the allocation for the next line.
        self.line = bytes;
        self.line.clear();
        Ok(done)
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => self.event.comment = true,
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.event),
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let mut event = std::mem::take(&mut self.event);
        self.size = 0;
        self.has_any = false;
        if std::mem::take(&mut self.has_data) {
            event.comment = false;
            return Some(event);
        }
        event.comment.then_some(SseEvent { comment: true, ..SseEvent::default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<SseEvent> {
        let mut decoder = SseDecoder::default();
        let mut found = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk, |event, _| found.push(event)).unwrap();
        }
        found
    }

    fn data(text: &str) -> SseEvent {
        SseEvent { data: text.to_owned(), ..SseEvent::default() }
    }

    #[test]
    fn every_line_end_and_a_byte_order_mark_are_understood() {
        let expected = vec![data("a\nb"), data("c")];
        assert_eq!(events(&[b"data: a\ndata: b\n\ndata:c\n\n"]), expected);
        assert_eq!(events(&[b"\xef\xbb\xbfdata: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n"]), expected);
        assert_eq!(events(&[b"data: a\rdata: b\r\rdata: c\r\r"]), expected);
    }

    #[test]
    fn comments_are_signs_of_life_and_other_fields_are_ignored() {
        let found = events(&[b": hello\n\nid: 7\nretry: 5\nevent: x\ndata\n\nevent: lost\n\n"]);
        assert_eq!(found.len(), 2);
        assert!(found[0].comment);
        assert_eq!((found[1].event.as_str(), found[1].data.as_str()), ("x", ""));
    }

    #[test]
    fn an_event_the_end_cuts_off_is_not_delivered() {
        let mut decoder = SseDecoder::default();
        decoder.feed(b"data: a\n\ndata: b\n", |event, _| assert_eq!(event.data, "a")).unwrap();
        assert!(!decoder.is_between_events());
    }

    #[test]
    fn the_last_event_can_be_asked_for() {
        let mut decoder = SseDecoder::default();
        decoder.feed(b"data: a\n\nevent: x\ndata: b", |_, _| {}).unwrap();
        let last = decoder.finish().unwrap();
        assert_eq!((last.event.as_str(), last.data.as_str()), ("x", "b"));
        assert_eq!(decoder.finish(), None);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut decoder = SseDecoder::new(64);
        let result = (0..100).try_for_each(|_| decoder.feed(b"data: x\n", |_, _| {}));
        assert_eq!(result, Err(SseError::TooLarge(64)));
        let mut decoder = SseDecoder::new(64);
        assert_eq!(decoder.feed(&[b'x'; 65], |_, _| {}), Err(SseError::TooLarge(64)));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            lines in proptest::collection::vec("(data: ?|event: ?|:|id:)?[a-zé]{0,6}(\n|\r|\r\n|\n\n|\r\n\r\n)", 0..30),
            cuts in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let text = lines.concat();
            let whole = events(&[text.as_bytes()]);
            let mut chunks = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(head);
                rest = tail;
            }
            prop_assert_eq!(whole, events(&chunks));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SseDecoder::new(100).feed(&bytes, |_, _| {});
        }
    }
}

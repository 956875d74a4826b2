//! How a streamed answer is cut into events: each framing's events come out in one form.

use super::event_stream::{self, EventStreamDecoder};
use super::lines::LineDecoder;
use super::sse::{SseDecoder, SseError, SseEvent};

/// The largest event taken: a whole picture in base64 fits.
pub(super) const LIMIT: usize = 16 << 20;

/// How a streamed answer is cut into events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON text per line.
    Lines,
    /// AWS's event stream.
    EventStream,
}

impl Framing {
    /// The framing a media type stands for, without its parameters and in any case; `None` for what is no stream.
    pub fn of_media_type(essence: &[u8]) -> Option<Self> {
        let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
        if is("text/event-stream") {
            Some(Self::Sse)
        } else if ["application/x-ndjson", "application/ndjson", "application/stream+json"].into_iter().any(is)
            // `application/jsonl`, `application/x-..+jsonl`.
            || essence.last_chunk::<5>().is_some_and(|end| end.eq_ignore_ascii_case(b"jsonl"))
        {
            Some(Self::Lines)
        } else if is(event_stream::MEDIA_TYPE) {
            Some(Self::EventStream)
        } else {
            None
        }
    }

    /// The media type that asks for it.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::EventStream => event_stream::MEDIA_TYPE,
        }
    }
}

/// Cuts a stream of any framing into events.
#[derive(Debug)]
pub(crate) enum Frames {
    Sse(SseDecoder),
    Lines(LineDecoder),
    EventStream(EventStreamDecoder),
}

impl Frames {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Sse => Self::Sse(SseDecoder::new(LIMIT)),
            Framing::Lines => Self::Lines(LineDecoder::new(LIMIT)),
            Framing::EventStream => Self::EventStream(EventStreamDecoder::new(LIMIT)),
        }
    }

    /// Take `chunk`; `each` gets every event completed in it, with the offset in `chunk` right after it.
    pub(crate) fn feed(&mut self, chunk: &[u8], each: impl FnMut(SseEvent, usize)) -> Result<(), SseError> {
        match self {
            Self::Sse(decoder) => decoder.feed(chunk, each),
            Self::Lines(decoder) => decoder.feed(chunk, each),
            Self::EventStream(decoder) => decoder.feed(chunk, each),
        }
    }

    /// The stream has ended: its last event, where what ends an event is missing. Its taker must see for itself whether it is
    /// whole.
    pub(crate) fn finish(&mut self) -> Option<SseEvent> {
        match self {
            Self::Sse(decoder) => decoder.finish(),
            Self::Lines(decoder) => decoder.finish(),
            Self::EventStream(_) => None,
        }
    }

    /// Whether the stream stands between two events.
    pub(crate) fn is_between_events(&self) -> bool {
        match self {
            Self::Sse(decoder) => decoder.is_between_events(),
            Self::Lines(decoder) => decoder.is_between_lines(),
            Self::EventStream(decoder) => decoder.is_between_events(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_tells_the_framing() {
        assert_eq!(Framing::of_media_type(b"Text/Event-Stream"), Some(Framing::Sse));
        assert_eq!(Framing::of_media_type(b"application/x-ndjson"), Some(Framing::Lines));
        assert_eq!(Framing::of_media_type(b"application/stream+json"), Some(Framing::Lines));
        assert_eq!(Framing::of_media_type(b"application/x-events+jsonl"), Some(Framing::Lines));
        assert_eq!(Framing::of_media_type(b"application/json"), None);
        for framing in [Framing::Sse, Framing::Lines, Framing::EventStream] {
            assert_eq!(Framing::of_media_type(framing.media_type().as_bytes()), Some(framing));
        }
    }
}

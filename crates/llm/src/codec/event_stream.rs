//! AWS's event stream (`application/vnd.amazon.eventstream`; smithy.io/2.0/aws/amazon-eventstream.html), incremental and bounded:
//! any chunking gives the same messages.
//!
//! A message is its length and that of its headers (32 bits each, big endian) with their CRC-32, then the headers, the payload,
//! and the CRC-32 of all that. Both sums are checked: the first before the lengths are believed.

use super::sse::{SseError, SseEvent};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.amazon.eventstream";

/// Both lengths and their checksum.
const PRELUDE: usize = 12;
/// The prelude, and the checksum of the message.
const LEAST: usize = PRELUDE + 4;
/// Most bytes of headers, as AWS bounds them.
const HEADERS: usize = 128 << 10;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventStreamValue {
    /// A boolean.
    Bool(bool),
    /// Whole numbers of 8, 16, 32 and 64 bits.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    /// A UUID.
    Uuid([u8; 16]),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventStreamMessage {
    /// Its headers, in their order.
    pub headers: Vec<(String, EventStreamValue)>,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// Before the name of an exception, where an event has its own.
pub(crate) const EXCEPTION: &str = "exception:";

impl EventStreamMessage {
    /// The text of the header `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|(key, value)| match value {
            EventStreamValue::Text(text) if key == name => Some(text.as_str()),
            _ => None,
        })
    }

    /// The message as an event: named after its `:event-type`, or after its exception behind [`EXCEPTION`].
    fn event(self) -> Result<SseEvent, SseError> {
        let name = match self.text(":message-type") {
            Some("exception") => format!("{EXCEPTION}{}", self.text(":exception-type").unwrap_or_default()),
            // An error that was not modelled has no payload: it is all in the headers.
            Some("error") => {
                let event = format!("{EXCEPTION}{}", self.text(":error-code").unwrap_or_default());
                let message = self.text(":error-message").unwrap_or_default();
                let data = crate::json::object(|o| o.text("message", message));
                return Ok(SseEvent { event, data, comment: false });
            }
            _ => self.text(":event-type").unwrap_or_default().to_owned(),
        };
        let data = String::from_utf8(self.payload).map_err(|_| SseError::Utf8)?;
        Ok(SseEvent { event: name, data, comment: false })
    }
}

/// Cuts a byte stream into messages. One that the end of the stream cuts off is not delivered.
#[derive(Debug)]
pub struct EventStreamDecoder {
    held: Vec<u8>,
    limit: usize,
}

impl Default for EventStreamDecoder {
    fn default() -> Self {
        Self::new(super::frames::LIMIT)
    }
}

impl EventStreamDecoder {
    /// A decoder that refuses messages over `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { held: Vec::new(), limit }
    }

    /// Take `chunk`; `each` gets every message completed in it, with the offset in `chunk` right after it.
    pub fn messages(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(EventStreamMessage, usize) -> Result<(), SseError>,
    ) -> Result<(), SseError> {
        let mut rest = chunk;
        loop {
            self.fill(&mut rest, PRELUDE);
            let Some(prelude) = self.held.get(..PRELUDE) else { return Ok(()) };
            let (length, headers) = lengths(prelude, self.limit)?;
            self.fill(&mut rest, length);
            if self.held.len() < length {
                return Ok(());
            }
            let message = message(&self.held, headers)?;
            self.held.clear();
            each(message, chunk.len() - rest.len())?;
        }
    }

    /// The same, as events.
    pub(crate) fn feed(&mut self, chunk: &[u8], mut each: impl FnMut(SseEvent, usize)) -> Result<(), SseError> {
        self.messages(chunk, |message, end| {
            each(message.event()?, end);
            Ok(())
        })
    }

    /// Whether the stream stands between two messages.
    pub(crate) fn is_between_events(&self) -> bool {
        self.held.is_empty()
    }

    /// Hold up to `length` bytes of a message.
    fn fill(&mut self, rest: &mut &[u8], length: usize) {
        let wanted = length.saturating_sub(self.held.len()).min(rest.len());
        let (now, later) = rest.split_at_checked(wanted).unwrap_or_default();
        self.held.extend_from_slice(now);
        *rest = later;
    }
}

/// The length of the message and of its headers.
fn lengths(prelude: &[u8], limit: usize) -> Result<(usize, usize), SseError> {
    let mut reader = Reader(prelude);
    let (length, headers, sum) = (reader.u32()?, reader.u32()?, reader.u32()?);
    if crc32(prelude.get(..8).unwrap_or_default()) != sum {
        return Err(SseError::Frame("a checksum is wrong"));
    }
    let wide = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let (length, headers) = (wide(length), wide(headers));
    if length > limit || headers > HEADERS {
        return Err(SseError::TooLarge(limit));
    }
    if length < LEAST || headers > length - LEAST {
        return Err(SseError::Frame("its lengths contradict each other"));
    }
    Ok((length, headers))
}

/// A whole message whose prelude holds.
fn message(bytes: &[u8], headers: usize) -> Result<EventStreamMessage, SseError> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(SHORT)?;
    if crc32(body) != u32::from_be_bytes(*sum) {
        return Err(SseError::Frame("a checksum is wrong"));
    }
    let (headers, payload) = body.get(PRELUDE..).and_then(|rest| rest.split_at_checked(headers)).ok_or(SHORT)?;
    let mut reader = Reader(headers);
    let mut found = Vec::new();
    while !reader.0.is_empty() {
        let length = usize::from(reader.u8()?);
        let name = reader.text(length)?;
        found.push((name, reader.value()?));
    }
    Ok(EventStreamMessage { headers: found, payload: payload.to_vec() })
}

const SHORT: SseError = SseError::Frame("it ends too early");

/// Takes values off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SseError> {
        let (now, later) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = later;
        Ok(*now)
    }

    fn u8(&mut self) -> Result<u8, SseError> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, SseError> {
        self.array::<4>().map(u32::from_be_bytes)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, SseError> {
        let (now, later) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = later;
        Ok(now.to_vec())
    }

    fn text(&mut self, length: usize) -> Result<String, SseError> {
        String::from_utf8(self.bytes(length)?).map_err(|_| SseError::Utf8)
    }

    /// A length of 16 bits.
    fn length(&mut self) -> Result<usize, SseError> {
        self.array::<2>().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    fn value(&mut self) -> Result<EventStreamValue, SseError> {
        Ok(match self.u8()? {
            0 => EventStreamValue::Bool(true),
            1 => EventStreamValue::Bool(false),
            2 => EventStreamValue::Number(i64::from(i8::from_be_bytes(self.array()?))),
            3 => EventStreamValue::Number(i64::from(i16::from_be_bytes(self.array()?))),
            4 => EventStreamValue::Number(i64::from(i32::from_be_bytes(self.array()?))),
            5 => EventStreamValue::Number(i64::from_be_bytes(self.array()?)),
            6 => {
                let length = self.length()?;
                EventStreamValue::Bytes(self.bytes(length)?)
            }
            7 => {
                let length = self.length()?;
                EventStreamValue::Text(self.text(length)?)
            }
            8 => EventStreamValue::Timestamp(i64::from_be_bytes(self.array()?)),
            9 => EventStreamValue::Uuid(self.array()?),
            _ => return Err(SseError::Frame("a header has an unknown type")),
        })
    }
}

/// A message with these headers, all of them text. Names longer than 255 bytes and texts longer than 65,535 are left out.
pub fn event_stream_message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for (name, value) in headers {
        let (Ok(length), Ok(size)) = (u8::try_from(name.len()), u16::try_from(value.len())) else { continue };
        written.push(length);
        written.extend_from_slice(name.as_bytes());
        written.push(7);
        written.extend_from_slice(&size.to_be_bytes());
        written.extend_from_slice(value.as_bytes());
    }
    let narrow = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut out = Vec::with_capacity(LEAST + written.len() + payload.len());
    out.extend_from_slice(&narrow(LEAST + written.len() + payload.len()));
    out.extend_from_slice(&narrow(written.len()));
    let sum = crc32(&out);
    out.extend_from_slice(&sum.to_be_bytes());
    out.extend_from_slice(&written);
    out.extend_from_slice(payload);
    let sum = crc32(&out);
    out.extend_from_slice(&sum.to_be_bytes());
    out
}

/// CRC-32 as in ISO 3309 and gzip (RFC 1952 section 8).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        let [low, ..] = (sum ^ u32::from(*byte)).to_le_bytes();
        TABLE.get(usize::from(low)).copied().unwrap_or_default() ^ (sum >> 8)
    };
    !bytes.iter().fold(!0, step)
}

/// The remainder of each byte.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0_u32;
    let mut entries: &mut [u32] = &mut table;
    while let [entry, rest @ ..] = entries {
        let mut remainder = byte;
        let mut bit = 0;
        while bit < 8 {
            remainder = if remainder & 1 == 1 { 0xedb8_8320 ^ (remainder >> 1) } else { remainder >> 1 };
            bit += 1;
        }
        *entry = remainder;
        entries = rest;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(chunks: &[&[u8]]) -> Result<Vec<EventStreamMessage>, SseError> {
        let mut decoder = EventStreamDecoder::new(1 << 16);
        let mut found = Vec::new();
        for chunk in chunks {
            decoder.messages(chunk, |message, end| {
                assert!(end <= chunk.len());
                found.push(message);
                Ok(())
            })?;
        }
        Ok(found)
    }

    fn events(bytes: &[u8]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        EventStreamDecoder::default().feed(bytes, |event, _| found.push((event.event, event.data))).unwrap();
        found
    }

    /// A message with this block of headers.
    fn framed(headers: &[u8]) -> Vec<u8> {
        let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
        let mut out = [length(LEAST + headers.len()), length(headers.len())].concat();
        out.extend(crc32(&out).to_be_bytes());
        out.extend(headers);
        out.extend(crc32(&out).to_be_bytes());
        out
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn an_empty_message_is_the_sixteen_bytes_of_the_specification() {
        // total 16, headers 0, CRC of both; CRC of the twelve.
        let bytes = [0, 0, 0, 16, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
        assert_eq!(event_stream_message(&[], b""), bytes);
        assert_eq!(read(&[&bytes]).unwrap(), [EventStreamMessage::default()]);
    }

    #[test]
    fn headers_of_every_type_are_read() {
        let mut block = Vec::new();
        let mut put = |name: &str, kind: u8, value: &[u8]| {
            block.push(u8::try_from(name.len()).unwrap());
            block.extend(name.as_bytes());
            block.push(kind);
            block.extend(value);
        };
        put("t", 0, &[]);
        put("f", 1, &[]);
        put("i8", 2, &[0xff]);
        put("i16", 3, &[0xff, 0xfe]);
        put("i32", 4, &[0, 0, 1, 0]);
        put("i64", 5, &[0x80, 0, 0, 0, 0, 0, 0, 0]);
        put("b", 6, &[0, 2, 0xc3, 0x28]);
        put("s", 7, "\0\u{3}\u{e9}x".as_bytes());
        put("at", 8, &[0, 0, 0, 0, 0, 0, 0, 5]);
        put("id", 9, &[7; 16]);
        let found = read(&[&framed(&block)]).unwrap().remove(0);
        let values: Vec<_> = found.headers.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(
            values,
            [
                EventStreamValue::Bool(true),
                EventStreamValue::Bool(false),
                EventStreamValue::Number(-1),
                EventStreamValue::Number(-2),
                EventStreamValue::Number(256),
                EventStreamValue::Number(i64::MIN),
                EventStreamValue::Bytes(vec![0xc3, 0x28]),
                EventStreamValue::Text("\u{e9}x".to_owned()),
                EventStreamValue::Timestamp(5),
                EventStreamValue::Uuid([7; 16]),
            ]
        );
        assert_eq!((found.text("s"), found.text("b")), (Some("\u{e9}x"), None));
    }

    #[test]
    fn events_exceptions_and_errors_are_told_apart() {
        let mut bytes = event_stream_message(&[(":message-type", "event"), (":event-type", "messageStart")], b"{}");
        bytes.extend(event_stream_message(
            &[(":exception-type", "throttlingException"), (":message-type", "exception")],
            br#"{"message":"slow"}"#,
        ));
        bytes.extend(event_stream_message(
            &[(":message-type", "error"), (":error-code", "InternalFailure"), (":error-message", "a \"b\"")],
            b"",
        ));
        let owned = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            events(&bytes),
            [
                owned("messageStart", "{}"),
                owned("exception:throttlingException", r#"{"message":"slow"}"#),
                owned("exception:InternalFailure", r#"{"message":"a \"b\""}"#),
            ]
        );
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let good = event_stream_message(&[(":event-type", "chunk")], br#"{"bytes":"e30="}"#);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            // A length that is larger now would be waited for, were it believed.
            assert!(matches!(read(&[&bad]), Err(SseError::Frame(_))), "byte {at}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_before_anything_is_held() {
        let prelude = |length: u32, headers: u32| {
            let mut out = [length.to_be_bytes(), headers.to_be_bytes()].concat();
            out.extend(crc32(&out).to_be_bytes());
            out
        };
        for (length, headers) in [(0, 0), (15, 0), (16, 1), (100, 90), (16, u32::MAX)] {
            assert!(read(&[&prelude(length, headers)]).is_err(), "{length} {headers}");
        }
        assert_eq!(read(&[&prelude(u32::MAX, 0)]), Err(SseError::TooLarge(1 << 16)));
        assert_eq!(read(&[&prelude((1 << 16) + 1, 0)]), Err(SseError::TooLarge(1 << 16)));
    }

    #[test]
    fn headers_that_are_cut_or_of_no_type_are_refused() {
        for block in [[1, b'a', 10].as_slice(), &[1, b'a', 7, 0, 5, b'x'], &[5, b'a'], &[1, 0xff, 0], &[1, b'a', 9, 1]]
        {
            assert!(read(&[&framed(block)]).is_err(), "{block:?}");
        }
    }

    #[test]
    fn a_message_that_the_end_cuts_off_is_not_delivered() {
        let bytes = event_stream_message(&[(":event-type", "chunk")], b"{}");
        let mut decoder = EventStreamDecoder::default();
        decoder.feed(&bytes[..bytes.len() - 1], |_, _| panic!("not whole")).unwrap();
        assert!(!decoder.is_between_events());
        let mut seen = 0;
        decoder.feed(&bytes[bytes.len() - 1..], |_, end| seen = end).unwrap();
        assert!(decoder.is_between_events() && seen == 1);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_messages(
            messages in proptest::collection::vec(("[a-z:-]{0,9}", ".{0,9}", proptest::collection::vec(any::<u8>(), 0..40)), 0..9),
            cuts in proptest::collection::vec(1usize..23, 1..20),
        ) {
            let bytes: Vec<u8> = messages
                .iter()
                .flat_map(|(name, value, payload)| event_stream_message(&[(name.as_str(), value.as_str())], payload))
                .collect();
            let whole = read(&[&bytes]).unwrap();
            prop_assert_eq!(whole.len(), messages.len());
            for (found, (name, value, payload)) in whole.iter().zip(&messages) {
                prop_assert_eq!(found.text(name), Some(value.as_str()));
                prop_assert_eq!(&found.payload, payload);
            }
            let mut chunks = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at((*cut).min(rest.len()));
                chunks.push(head);
                rest = tail;
            }
            prop_assert_eq!(whole, read(&chunks).unwrap());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&[&bytes]);
            let _ = read(&[&framed(&bytes)]);
        }
    }
}

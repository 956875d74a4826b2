//! A stream of events as one JSON array, which Google's clients get without `alt=sse`.

use super::sse::SseDecoder;

/// Turns server-sent events into the elements of one array, each with its very bytes.
#[derive(Debug, Default)]
pub struct JsonArray {
    sse: SseDecoder,
    begun: bool,
    ended: bool,
}

impl JsonArray {
    /// Take bytes of the event stream; what comes back goes out now. Signs of life are left out: an array has none.
    pub fn feed(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let begun = &mut self.begun;
        let result = self.sse.feed(chunk, |event, _| {
            if !event.comment && !event.data.is_empty() {
                out.extend_from_slice(if *begun { b",\r\n" } else { b"[" });
                *begun = true;
                out.extend_from_slice(event.data.as_bytes());
            }
        });
        // What feeds this has read the same events: it ends a stream that cannot be read with an error event.
        self.ended |= result.is_err();
        out
    }

    /// The stream is over: the last event, where no empty line followed it, and the array's end.
    pub fn finish(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.ended, true) {
            return Vec::new();
        }
        let last = self.sse.finish().filter(crate::provider::is_whole);
        let mut out = if self.begun { Vec::new() } else { b"[".to_vec() };
        if let Some(event) = last {
            if self.begun {
                out.extend_from_slice(b",\r\n");
            }
            out.extend_from_slice(event.data.as_bytes());
        }
        out.extend_from_slice(b"]");
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_array(
            events in proptest::collection::vec("\\{\"a\":\"[a-zé]{0,9}\"\\}", 0..9), cut in 1usize..20, last in any::<bool>(),
        ) {
            let framed = events.iter().flat_map(|event| [": life\n\ndata: ", event.as_str(), "\r\n\r\n"]);
            let mut stream: String = framed.collect();
            if !last {
                stream.truncate(stream.trim_end().len());
            }
            let mut array = JsonArray::default();
            let mut out = Vec::new();
            stream.as_bytes().chunks(cut).for_each(|chunk| out.extend(array.feed(chunk)));
            out.extend(array.finish());
            let read: Vec<serde_json::Value> = serde_json::from_slice(&out).unwrap();
            let expected: Vec<serde_json::Value> =
                events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
            prop_assert_eq!(read, expected);
            prop_assert!(array.finish().is_empty());
        }
    }
}

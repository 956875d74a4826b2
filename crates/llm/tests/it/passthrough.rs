//! Looking at requests and changing values in place; watching streams go by.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use bytes::Bytes;
use llm::passthrough::{CapName, Edits, Models, Peek, StreamTap, models, peek, peek_response, splice};
use llm::{Dialect, JsonError, Limits, Outcome, RequestError};
use proptest::prelude::*;

fn look(body: &str) -> Result<Peek, RequestError> {
    peek(Dialect::OpenAiChat, body.as_bytes(), &Limits::REQUEST)
}

fn set(body: &str, edits: &Edits<'_>) -> String {
    String::from_utf8(splice(Dialect::OpenAiChat, body.as_bytes(), edits).unwrap()).unwrap()
}

#[test]
fn a_request_is_seen_as_it_is() {
    let seen = look(
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_tokens":5,"max_completion_tokens":9,"n":3,
           "tools":[{"type":"function","function":{"name":"f"}},{"type":"openrouter:advisor","parameters":{"model":"big"}}]}"#,
    )
    .unwrap();
    assert_eq!((seen.model.as_str(), seen.stream, seen.include_usage, seen.answers), ("m", true, true, 3));
    assert_eq!(seen.max_output_tokens, Some(9));
    assert_eq!(seen.tool_names, ["f", "openrouter:advisor"]);
    assert_eq!(seen.other_models, ["big"]);
    let fallbacks = look(r#"{"model":"m","providerOptions":{"gateway":{"models":["a","b"]}}}"#).unwrap();
    assert_eq!(fallbacks.other_models, ["a", "b"]);
    let plain =
        look(r#"{"model":"m","stream":null,"n":null,"max_tokens":null,"tools":null,"stream_options":null}"#).unwrap();
    assert!(!plain.stream && !plain.has_tools && plain.answers == 1 && plain.max_output_tokens.is_none());
}

#[test]
fn what_steers_a_gateway_is_refused_and_nested_urls_are_not_looked_at() {
    for name in ["api_base", "base_url", "api_key", "API_BASE", "Base_Url", "models", "fallbacks", "extra_headers"] {
        let error = look(&format!(r#"{{"model":"m","{name}":"https://x"}}"#)).unwrap_err();
        assert!(matches!(error, RequestError::Forbidden { .. }), "{name}");
        assert_eq!(error.param(), Some(name));
    }
    assert!(look(r#"{"model":"m","metadata":{"api_base":"http://169.254.169.254/"}}"#).is_ok());
}

#[test]
fn a_name_that_only_a_case_blind_reader_takes_for_another_is_refused() {
    for name in ["Model", "MODEL", "Stream", "\u{17f}tream", "Max_Tokens", "tool\u{17f}", "max_to\u{212a}ens"] {
        let error = look(&format!(r#"{{"model":"small","{name}":"big"}}"#)).unwrap_err();
        assert!(matches!(error, RequestError::Forbidden { .. }), "{name}");
    }
    assert!(look(r#"{"model":"m","User":"x"}"#).is_ok());
}

#[test]
fn every_model_that_another_request_names_is_found() {
    let found = |body: &str| models(body.as_bytes(), &Limits::REQUEST);
    let named = found(
        r#"{"model":"a","tools":[{"type":"image_generation","model":"b"},{"MODEL":"c"}],"more":{"x":[{"mod\u0065l":"b"}]},
            "metadata":{"model":"mine"},"schema":{"properties":{"model":{"type":"string"}}}}"#,
    );
    assert_eq!(named, Ok(Models { own: Some("a".to_owned()), others: vec!["b".to_owned(), "c".to_owned()] }));
    assert_eq!(found(r#"{"model":7}"#), Ok(Models::default()), "no readable model");
    for steering in [r#"{"model":"a","models":["b"]}"#, r#"{"model":"a","Model":"b"}"#, r#"{"user_config":{}}"#] {
        assert_eq!(found(steering).unwrap_err().reason(), "forbidden_parameter", "{steering}");
    }
    let many: Vec<String> = (0..100).map(|n| format!(r#"{{"model":"m{n}"}}"#)).collect();
    assert_eq!(found(&format!(r#"{{"a":[{}]}}"#, many.join(","))).unwrap_err().reason(), "invalid_parameter");
}

#[test]
fn duplicates_and_wrong_types_are_refused() {
    let duplicate = look(r#"{"model":"a","messages":[{"role":"user","content":"x","content":"y"}]}"#).unwrap_err();
    assert_eq!(duplicate, RequestError::Json(JsonError::Duplicate("content".to_owned())));
    assert_eq!(duplicate.reason(), "duplicate_member");
    for (body, param) in [
        (r#"{"messages":[]}"#, "model"),
        (r#"{"model":7}"#, "model"),
        (r#"{"model":""}"#, "model"),
        (r#"{"model":"m","stream":"true"}"#, "stream"),
        (r#"{"model":"m","max_tokens":-1}"#, "max_tokens"),
        (r#"{"model":"m","max_tokens":1.5}"#, "max_tokens"),
        (r#"{"model":"m","max_tokens":1e3}"#, "max_tokens"),
        (r#"{"model":"m","max_completion_tokens":"9"}"#, "max_completion_tokens"),
        (r#"{"model":"m","n":true}"#, "n"),
        (r#"{"model":"m","tools":{}}"#, "tools"),
        (r#"{"model":"m","stream_options":[]}"#, "stream_options"),
        (r#"{"model":"m","stream_options":{"include_usage":1}}"#, "stream_options.include_usage"),
    ] {
        assert_eq!(look(body).unwrap_err().param(), Some(param), "{body}");
    }
}

#[test]
fn values_are_set_in_place_and_every_other_byte_stays() {
    let body = "{ \"temperature\" : 1.0 ,\"model\":\"a\\u0062\", \"x\":{\"model\":\"no\"}, \"stream\":true }";
    let edits =
        Edits { model: Some("n\"ew"), include_usage: true, max_output_tokens: Some(9), cap_name: CapName::MaxTokens };
    assert_eq!(
        set(body, &edits),
        "{\"stream_options\":{\"include_usage\":true},\"max_tokens\":9, \"temperature\" : 1.0 ,\"model\":\"n\\\"ew\", \"x\":{\"model\":\"no\"}, \"stream\":true }"
    );
    assert_eq!(set(body, &Edits::default()), body);
    let usage = Edits { include_usage: true, ..Edits::default() };
    assert_eq!(
        set(r#"{"model":"m","stream":true,"stream_options":{"a":1, "include_usage" : false}}"#, &usage),
        r#"{"model":"m","stream":true,"stream_options":{"a":1, "include_usage" : true}}"#
    );
    assert_eq!(
        set(r#"{"model":"m","stream":true,"stream_options":{"a":1}}"#, &usage),
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"a":1}}"#
    );
    assert_eq!(
        set(r#"{"model":"m","stream":true,"stream_options":null}"#, &usage),
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#
    );
    assert_eq!(set(r#"{"model":"m","stream":false}"#, &usage), r#"{"model":"m","stream":false}"#);
}

#[test]
fn a_bound_replaces_every_bound_there_is() {
    let cap = Edits { max_output_tokens: Some(9), ..Edits::default() };
    assert_eq!(
        set(r#"{"model":"m","max_tokens":50,"max_completion_tokens":60}"#, &cap),
        r#"{"model":"m","max_tokens":9,"max_completion_tokens":9}"#
    );
    assert_eq!(set(r#"{"model":"m","max_tokens":null}"#, &cap), r#"{"model":"m","max_tokens":9}"#);
    let both = set(r#"{"model":"m","max_tokens":null,"max_completion_tokens":60}"#, &cap);
    assert_eq!(both, r#"{"model":"m","max_tokens":null,"max_completion_tokens":9}"#);
}

const STREAM: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hé\"}}]}\n\n: ping\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\ndata: [DONE]\n\n";

/// The events of `STREAM`, each with its end.
fn events() -> Vec<String> {
    let marked = STREAM.replace("\n\n", "\n\n\u{0}").replace("\r\n\r\n", "\r\n\r\n\u{0}");
    marked.split_terminator('\u{0}').map(str::to_owned).collect()
}

fn tap(strip: bool, body: &[u8], cuts: &[usize]) -> (Vec<u8>, StreamTap) {
    let mut tap = StreamTap::new(Dialect::OpenAiChat, strip);
    let mut out = Vec::new();
    let mut rest = body;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (head, tail) = rest.split_at((*cut).clamp(1, rest.len()));
        out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(head)));
        rest = tail;
    }
    out.extend(tap.finish(true));
    (out, tap)
}

#[test]
fn an_event_is_forwarded_as_soon_as_it_is_whole_and_unchanged() {
    let mut tap = StreamTap::new(Dialect::OpenAiChat, false);
    let mut forwarded = Vec::new();
    let mut due = String::new();
    for event in events() {
        due.push_str(&event);
        // An event that CRLFs end is whole with the CR.
        let ends = if event.ends_with("\r\n") { 2 } else { 1 };
        for (at, byte) in event.bytes().enumerate() {
            forwarded.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(&[byte])));
            assert_eq!(forwarded.len() > due.len() - event.len(), at + ends >= event.len(), "{event} {at}");
        }
        assert_eq!(forwarded, due.as_bytes());
    }
    assert!(tap.finish(true).is_empty());
    assert_eq!((tap.outcome(), tap.usage().total_tokens), (&Outcome::Complete, Some(7)));
}

#[test]
fn whole_events_and_empty_lines_pass_without_a_copy() {
    let mut tap = StreamTap::new(Dialect::OpenAiChat, false);
    for piece in [STREAM, "\n", "\n\n"] {
        let chunk = Bytes::copy_from_slice(piece.as_bytes());
        let out = tap.feed(&chunk);
        assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), chunk.len()), "{piece:?}");
    }
}

#[test]
fn a_whole_event_is_never_held_back_while_usage_is_taken_out() {
    let mut tap = StreamTap::new(Dialect::OpenAiChat, true);
    for event in events() {
        let out = tap.feed(&Bytes::copy_from_slice(event.as_bytes()));
        assert_eq!(out.is_empty(), event.contains("usage"), "{event}");
    }
    assert!(tap.finish(true).is_empty());
    assert_eq!(tap.usage().output_tokens, Some(4));
}

#[test]
fn a_cut_stream_ends_in_an_error_event_and_the_event_that_was_cut_is_left_out() {
    let mut tap = StreamTap::new(Dialect::OpenAiChat, false);
    let out = tap.feed(&Bytes::from_static(b"data: {}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"con"));
    assert_eq!(out, "data: {}\n\n");
    let last = String::from_utf8(tap.finish(true)).unwrap();
    assert!(last.starts_with("data: {\"error\":"), "{last}");
    assert_eq!(*tap.outcome(), Outcome::Cut);
    // Closed cleanly after the answers' ends: complete without [DONE]. Broken off there: cut.
    let ended = &STREAM.as_bytes()[..STREAM.find("data: {\"choices\":[],").unwrap()];
    for (clean, outcome) in [(true, Outcome::Complete), (false, Outcome::Cut)] {
        let mut tap = StreamTap::new(Dialect::OpenAiChat, false);
        tap.feed(&Bytes::copy_from_slice(ended));
        tap.finish(clean);
        assert_eq!(*tap.outcome(), outcome);
    }
    let mut tap = StreamTap::new(Dialect::AnthropicMessages, false);
    tap.feed(&Bytes::from_static(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n"));
    assert!(String::from_utf8(tap.finish(true)).unwrap().starts_with("event: error\n"));
    let mut empty = StreamTap::new(Dialect::OpenAiChat, true);
    assert!(!empty.finish(true).is_empty());
}

#[test]
fn an_error_in_the_stream_is_seen_and_forwarded() {
    let body = b"event: error\ndata: {\"error\":{\"message\":\"no tool\",\"code\":\"tool_use_failed\",\"status_code\":400}}\n\n";
    let (out, tap) = tap(false, body, &[9]);
    assert_eq!(out, body);
    let Outcome::Failed(error) = tap.outcome() else { panic!("{:?}", tap.outcome()) };
    assert_eq!((error.message.as_str(), error.status), ("no tool", Some(400)));
}

#[test]
fn an_endless_or_binary_event_ends_in_an_error() {
    let mut tap = StreamTap::new(Dialect::OpenAiChat, false);
    let out = tap.feed(&Bytes::from_static(b"data: \xff\xfe\n\n"));
    assert!(String::from_utf8_lossy(&out).contains("\"error\""));
    assert_eq!(*tap.outcome(), Outcome::Garbage);
    assert!(tap.feed(&Bytes::from_static(b"data: [DONE]\n\n")).is_empty());
    let mut tap = StreamTap::new(Dialect::OpenAiChat, true);
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    let garbage = (0..20).any(|_| {
        tap.feed(&chunk);
        *tap.outcome() == Outcome::Garbage
    });
    assert!(garbage);
}

#[test]
fn hostile_usage_is_not_taken() {
    let seen = peek_response(
        Dialect::OpenAiChat,
        br#"{"usage":{"prompt_tokens":-5,"completion_tokens":1e300,"total_tokens":"7","prompt_tokens_details":{"cached_tokens":2.0}}}"#,
    );
    assert!(seen.usage.suspect && !seen.usage.is_known());
    assert_eq!(seen.usage.cache_read_tokens, Some(2));
    let huge = peek_response(
        Dialect::AnthropicMessages,
        br#"{"usage":{"input_tokens":18446744073709551615,"cache_read_input_tokens":5,"output_tokens":18446744073709551616}}"#,
    );
    assert_eq!(huge.usage.input_tokens, Some(u64::MAX));
    assert!(huge.usage.suspect);
}

proptest! {
    #[test]
    fn any_chunking_forwards_the_same_bytes(cuts in proptest::collection::vec(1usize..40, 1..20)) {
        let (out, seen) = tap(false, STREAM.as_bytes(), &cuts);
        prop_assert_eq!(out, STREAM.as_bytes());
        prop_assert_eq!(seen.usage().total_tokens, Some(7));
        let stripped: String = events().into_iter().filter(|event| !event.contains("usage")).collect();
        let (out, seen) = tap(true, STREAM.as_bytes(), &cuts);
        prop_assert_eq!(String::from_utf8(out).unwrap(), stripped);
        prop_assert_eq!(seen.outcome(), &Outcome::Complete);
    }

    #[test]
    fn a_tap_never_panics_and_never_invents(bytes in proptest::collection::vec(any::<u8>(), 0..300), strip: bool) {
        for dialect in [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::OpenAiEmbeddings] {
            let mut tap = StreamTap::new(dialect, strip);
            let out = tap.feed(&Bytes::from(bytes.clone()));
            prop_assert!(*tap.outcome() == Outcome::Garbage || bytes.starts_with(&out));
            tap.finish(true);
            let _ = peek_response(dialect, &bytes);
            let _ = peek(dialect, &bytes, &Limits::REQUEST);
        }
    }
}

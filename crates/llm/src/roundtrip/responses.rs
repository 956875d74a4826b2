//! The same for OpenAI's Responses API.

use proptest::prelude::*;

use super::{CHAT, chunks, events, merged, request, response, together, vocabulary};
use crate::dialect::openai_responses;
use crate::json::{Limits, node};
use crate::model::{Body, Message, Part, Request, Response, Role, Usage};
use crate::passthrough::Edits;
use crate::provider::{self, Decoder, Flavour};
use crate::translate::Encoder;
use crate::{Dialect, Options, StreamTranslation, Translation};

const RESPONSES: Dialect = Dialect::OpenAiResponses;

/// The same answer as OpenAI would give it: sealed by OpenAI.
fn as_openais(mut response: Response) -> Response {
    response.dialect = RESPONSES;
    response.id = Some("resp_1".to_owned());
    for part in response.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
        if let Body::Thinking { signature: Some(signature), .. } = &mut part.body {
            *signature = format!("openai:rs_{signature}:{signature}=");
        }
    }
    response
}

/// Unknown counts are told as zero.
fn told(usage: Usage) -> Usage {
    Usage { reasoning_tokens: Some(usage.reasoning_tokens.unwrap_or(0)), ..usage }
}

/// Pieces of this dialect's JSON beside those of the others.
fn pieces() -> impl Strategy<Value = &'static str> {
    let own = prop::sample::select(vec![
        "\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"name\":\"f\"}",
        "\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"message\",\"content\":[",
        "\"type\":\"response.output_text.delta\",\"delta\":\"a\"",
        "\"type\":\"response.reasoning_summary_text.delta\",\"summary_index\":1,\"delta\":\"a\"",
        "\"type\":\"response.function_call_arguments.delta\",\"delta\":\"{\"",
        "\"type\":\"response.completed\",\"response\":{",
        "\"output\":[{",
        "\"status\":\"incomplete\"",
        "\"item\":{\"type\":\"reasoning\",\"encrypted_content\":\"x\"",
        "\"input\":[{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"\"}",
        "\"input\":[{\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"a\"}]}]",
        "\"encrypted_content\":\"dm91Y2hnYXRlOnNlYWxlZDp4\"",
        "data: ",
        "\n\n",
    ]);
    prop_oneof![own, vocabulary()]
}

proptest! {
    #[test]
    fn an_answer_reads_back_whole_and_in_any_pieces(
        original in response(), piece in 1usize..9, cuts in proptest::collection::vec(1usize..50, 1..10),
    ) {
        let original = as_openais(original);
        let written = openai_responses::response(&original, &openai_responses::Asked::default(), 0).unwrap();
        let read = provider::decode(RESPONSES, written.as_bytes()).unwrap();
        let expected = Response { usage: told(original.usage), ..original.clone() };
        prop_assert_eq!(&read, &expected, "{}", written);

        let mut written = String::new();
        let mut encoder = Encoder::new(RESPONSES, true, 0);
        for event in events(&original, piece) {
            encoder.write(&event, &mut written);
        }
        let mut decoder = Decoder::new(RESPONSES);
        let mut read = Vec::new();
        for chunk in chunks(written.as_bytes(), &cuts) {
            decoder.feed(chunk, &mut read).unwrap();
        }
        prop_assert!(decoder.finish(true, &mut read));
        let mut bodies: Vec<Body> = original.choices[0].parts.iter().map(|part| part.body.clone()).collect();
        for body in &mut bodies {
            // The item had its id before it was sealed.
            if let Body::Thinking { signature: Some(signature), .. } = body {
                let sealed = signature.rsplit(':').next().unwrap_or_default().to_owned();
                *signature = format!("openai:rs_1_0:{sealed}");
            }
        }
        let (parts, stop, usage, ended) = together(&read);
        prop_assert_eq!(&parts, &bodies, "{}", written);
        prop_assert_eq!(stop.as_ref(), Some(&original.choices[0].stop));
        prop_assert_eq!(usage, told(original.usage));
        prop_assert!(ended);
    }

    #[test]
    fn a_request_reads_back(mut original in request()) {
        original.stop.clear();
        if original.messages.last().is_some_and(|last| last.role == Role::Assistant) {
            original.messages.push(Message::new(Role::User, vec![Part::text("Go on.")]));
        }
        let written = provider::encode(RESPONSES, Flavour::OpenAi, &original).unwrap();
        let written = String::from_utf8(written).unwrap();
        let mut read = openai_responses::request(&node(&written, &Limits::REQUEST).unwrap()).unwrap();
        for message in &mut read.messages {
            message.item = None;
            message.parts.iter_mut().for_each(|part| part.extra.clear());
        }
        prop_assert_eq!(merged(&read.messages), merged(&original.messages), "{}", written);
        for tool in &mut original.tools {
            tool.strict = Some(tool.strict == Some(true));
        }
        let comparable = |request: &Request| Request {
            dialect: RESPONSES,
            messages: Vec::new(),
            include_usage: false,
            ..request.clone()
        };
        prop_assert_eq!(comparable(&read), comparable(&original), "{}", written);
    }

    #[test]
    fn hostile_answers_streams_and_requests_never_panic(
        pieces in proptest::collection::vec(pieces(), 0..25), bytes in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let text = pieces.concat();
        for other in [CHAT[0], CHAT[1], Dialect::Gemini] {
            for (client, provider) in [(RESPONSES, other), (other, RESPONSES)] {
                let translation = Translation::new(client, provider, Options::default()).unwrap().answering(text.as_bytes());
                for body in [text.as_bytes(), &bytes] {
                    let _ = translation.response(body);
                    let _ = translation.error(500, body);
                    let _ = translation.request(body, &Edits::default());
                    let event = [b"data: {", body, b"}\n\n"].concat();
                    let mut stream: StreamTranslation = translation.stream(true);
                    stream.feed(&event);
                    stream.feed(&event);
                    stream.finish(true);
                    prop_assert_ne!(stream.outcome(), &crate::Outcome::Open);
                }
            }
        }
    }
}

//! Whatever is written in a dialect reads back as what it was, whole and in pieces.

mod responses;

use proptest::prelude::*;

use crate::dialect::openai_responses::Asked;
use crate::dialect::{anthropic, gemini, openai_chat};
use crate::json::{Limits, node};
use crate::model::{
    Body, Choice, Event, Json, Message, Output, Part, Request, Response, Role, Source, Stop, Tool, ToolCall,
    ToolChoice, Usage,
};
use crate::provider::{self, Decoder, Flavour};
use crate::translate::Encoder;
use crate::{Dialect, Options, StreamTranslation, Translation};

const CHAT: [Dialect; 2] = [Dialect::OpenAiChat, Dialect::AnthropicMessages];

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,12}", "[a-zé\u{1f600}\"\\\\\n]{1,8}", Just("{\"a\":1}".to_owned())]
}

/// Arguments as models write them: any white space, numbers no float can hold.
fn arguments() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}".to_owned()),
        Just("{ \"n\" : 12345678901234567890.120 }".to_owned()),
        Just("{\"a\":[1,{\"b\":\"}\\\"]\"}],\"c\":null}".to_owned()),
        text().prop_map(|text| format!("{{\"t\":{}}}", crate::json::quoted(&text))),
    ]
}

fn call() -> impl Strategy<Value = ToolCall> {
    ("[a-z]{1,6}", "[a-z_]{1,6}", arguments()).prop_map(|(id, name, arguments)| ToolCall {
        id,
        name,
        arguments,
        signature: None,
    })
}

fn stop(calls: bool) -> impl Strategy<Value = Stop> {
    if calls {
        prop_oneof![Just(Stop::ToolUse), Just(Stop::MaxTokens)]
    } else {
        prop_oneof![Just(Stop::EndTurn), Just(Stop::MaxTokens)]
    }
}

fn usage() -> impl Strategy<Value = Usage> {
    (0u64..1000, 1u64..1000, 0u64..50, 0u64..50).prop_map(|(fresh, output, read, written)| Usage {
        input_tokens: Some(fresh + read + written),
        output_tokens: Some(output),
        total_tokens: Some(fresh + read + written + output),
        cache_read_tokens: Some(read),
        cache_write_tokens: Some(written),
        ..Usage::default()
    })
}

fn response() -> impl Strategy<Value = Response> {
    let thinking = proptest::option::of((text(), proptest::option::of("[a-z]{1,5}")));
    let calls = proptest::collection::vec(call(), 0..4);
    (thinking, proptest::option::of(text()), calls, usage(), any::<u64>())
        .prop_flat_map(|(thinking, said, calls, usage, created)| {
            let mut parts = Vec::new();
            parts.extend(thinking.map(|(text, signature)| Part::new(Body::Thinking { text, signature })));
            parts.extend(said.map(Part::text));
            let any = !calls.is_empty();
            parts.extend(calls.into_iter().map(|call| Part::new(Body::ToolCall(call))));
            (Just(parts), stop(any), Just(usage), Just(created))
        })
        .prop_map(|(parts, stop, usage, created)| Response {
            dialect: Dialect::OpenAiChat,
            id: Some("id-1".to_owned()),
            model: "model \"x\"".to_owned(),
            created: Some(created),
            choices: vec![Choice { index: 0, parts, stop, logprobs: Vec::new() }],
            usage,
        })
}

/// The answer as a stream, its texts cut into pieces.
fn events(response: &Response, piece: usize) -> Vec<Event> {
    let choice = 0;
    let cut = |text: &str| -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(piece).map(|chunk| chunk.iter().collect()).collect()
    };
    let mut events =
        vec![Event::Start { id: response.id.clone(), model: response.model.clone(), created: response.created }];
    let mut number = 0;
    for part in &response.choices[0].parts {
        match &part.body {
            Body::Text(text) => events.extend(cut(text).into_iter().map(|text| Event::Text { choice, text })),
            Body::Thinking { text, signature } => {
                events.extend(cut(text).into_iter().map(|text| Event::Thinking { choice, text }));
                events.extend(signature.clone().map(|signature| Event::Signature { choice, signature }));
            }
            Body::ToolCall(call) => {
                let (id, name, signature) = (call.id.clone(), call.name.clone(), call.signature.clone());
                events.push(Event::ToolCall { choice, call: number, id, name, signature });
                let pieces = cut(&call.arguments).into_iter();
                events.extend(pieces.map(|json| Event::Arguments { choice, call: number, json }));
                number += 1;
            }
            _ => {}
        }
    }
    events.extend([
        Event::Stop { choice, stop: response.choices[0].stop.clone() },
        Event::Usage(response.usage),
        Event::End,
    ]);
    events
}

/// A stream's events put together again: the parts in the order they began.
fn together(events: &[Event]) -> (Vec<Body>, Option<Stop>, Usage, bool) {
    let mut parts: Vec<Body> = Vec::new();
    let (mut stop, mut usage, mut ended) = (None, Usage::default(), false);
    for event in events {
        match event {
            Event::Text { text: more, .. } => match parts.last_mut() {
                Some(Body::Text(text)) => text.push_str(more),
                _ => parts.push(Body::Text(more.clone())),
            },
            Event::Thinking { text: more, .. } => match parts.last_mut() {
                Some(Body::Thinking { text, .. }) => text.push_str(more),
                _ => parts.push(Body::Thinking { text: more.clone(), signature: None }),
            },
            Event::Signature { signature: made, .. } => {
                if let Some(Body::Thinking { signature, .. }) = parts.last_mut() {
                    *signature = Some(made.clone());
                }
            }
            Event::ToolCall { id, name, signature, .. } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                parts.push(Body::ToolCall(ToolCall { id, name, arguments: String::new(), signature }));
            }
            Event::Arguments { call, json, .. } => {
                let mut calls = parts.iter_mut().filter_map(|part| match part {
                    Body::ToolCall(call) => Some(call),
                    _ => None,
                });
                calls.nth(*call as usize).unwrap().arguments.push_str(json);
            }
            Event::Stop { stop: why, .. } => stop = Some(why.clone()),
            Event::Usage(now) => usage = *now,
            Event::End => ended = true,
            _ => {}
        }
    }
    (parts, stop, usage, ended)
}

fn chunks<'a>(mut rest: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (head, tail) = rest.split_at((*cut).min(rest.len()));
        found.push(head);
        rest = tail;
    }
    found
}

fn request() -> impl Strategy<Value = Request> {
    let user = prop_oneof![
        text().prop_map(Part::text),
        Just(Part::new(Body::Image(Source::Url("https://example.com/a.png".to_owned())))),
        Just(Part::new(Body::Image(Source::Base64 { media_type: "image/png".to_owned(), data: "AAAA".to_owned() }))),
        Just(Part::new(Body::Document {
            source: Source::Base64 { media_type: "application/pdf".to_owned(), data: "AAAA".to_owned() },
            title: Some("a.pdf".to_owned()),
        })),
    ];
    let turn = (proptest::collection::vec(user, 1..4), text(), proptest::collection::vec(call(), 0..3), text());
    let tool = ("[a-z]{1,5}", proptest::option::of(text()), any::<bool>());
    let choice = prop_oneof![
        Just(None),
        Just(Some(ToolChoice::Auto)),
        Just(Some(ToolChoice::Required)),
        Just(Some(ToolChoice::None)),
        Just(Some(ToolChoice::Tool("f".to_owned()))),
    ];
    let turns = proptest::collection::vec(turn, 1..4);
    (proptest::option::of(text()), turns, proptest::collection::vec(tool, 1..3), choice, any::<bool>(), 1u64..9999)
        .prop_map(|(system, turns, tools, tool_choice, stream, most)| {
            let mut request = Request::from_prompt("m", "", Output::Text);
            request.messages =
                system.map(|text| Message::new(Role::System, vec![Part::text(text)])).into_iter().collect();
            for (asked, said, calls, result) in turns {
                request.messages.push(Message::new(Role::User, asked));
                let mut parts = vec![Part::text(said)];
                let ids: Vec<String> = calls.iter().map(|call| call.id.clone()).collect();
                parts.extend(calls.into_iter().map(|call| Part::new(Body::ToolCall(call))));
                request.messages.push(Message::new(Role::Assistant, parts));
                for call in ids {
                    let parts = vec![Part::text(result.clone())];
                    let result = Part::new(Body::ToolResult { call, parts, is_error: false });
                    request.messages.push(Message::new(Role::User, vec![result]));
                }
            }
            request.tools = tools
                .into_iter()
                .map(|(name, description, strict)| Tool {
                    name,
                    description,
                    schema: Some(Json::trusted("{\"type\":\"object\",\"maximum\":1.50}")),
                    strict: strict.then_some(true),
                    cache_control: None,
                    native: None,
                    extra: Vec::new(),
                })
                .collect();
            request.tool_choice = tool_choice;
            request.max_output_tokens = Some(most);
            request.temperature = Some(Json::trusted("0.70"));
            request.stop = vec!["END".to_owned()];
            request.stream = stream;
            request.include_usage = stream;
            request
        })
}

/// Parts of one role in a row as one message: how Anthropic sees a conversation.
fn merged(messages: &[Message]) -> Vec<(Role, Vec<Part>)> {
    let mut turns: Vec<(Role, Vec<Part>)> = Vec::new();
    for message in messages {
        match turns.last_mut() {
            Some((role, parts)) if *role == message.role => parts.extend(message.parts.clone()),
            _ => turns.push((message.role, message.parts.clone())),
        }
    }
    turns
}

proptest! {
    #[test]
    fn an_answer_reads_back_from_either_dialect(original in response()) {
        for dialect in CHAT {
            let written = match dialect {
                Dialect::AnthropicMessages => anthropic::response(&original).unwrap(),
                _ => openai_chat::response(&original, &Asked::default(), 0),
            };
            let mut read = provider::decode(dialect, written.as_bytes()).unwrap();
            prop_assert_eq!(read.dialect, dialect);
            read.dialect = original.dialect;
            read.created = original.created;
            prop_assert_eq!(&read, &original, "{}", written);
        }
    }

    #[test]
    fn a_streamed_answer_reads_back_from_either_dialect_in_any_pieces(
        original in response(), piece in 1usize..9, cuts in proptest::collection::vec(1usize..50, 1..10),
    ) {
        let bodies: Vec<Body> = original.choices[0].parts.iter().map(|part| part.body.clone()).collect();
        for dialect in CHAT {
            let mut written = String::new();
            let mut encoder = Encoder::new(dialect, true, 0);
            for event in events(&original, piece) {
                encoder.write(&event, &mut written);
            }
            let mut decoder = Decoder::new(dialect);
            let mut read = Vec::new();
            for chunk in chunks(written.as_bytes(), &cuts) {
                decoder.feed(chunk, &mut read).unwrap();
            }
            prop_assert!(decoder.finish(true, &mut read));
            let (parts, stop, usage, ended) = together(&read);
            prop_assert_eq!(&parts, &bodies, "{}", written);
            prop_assert_eq!(stop.as_ref(), Some(&original.choices[0].stop));
            prop_assert_eq!(usage, original.usage);
            prop_assert!(ended);
        }
    }

    #[test]
    fn a_request_reads_back_from_either_dialect(original in request()) {
        for dialect in CHAT {
            let written = String::from_utf8(provider::encode(dialect, Flavour::OpenAi, &original).unwrap()).unwrap();
            let root = node(&written, &Limits::REQUEST).unwrap();
            let read = match dialect {
                Dialect::AnthropicMessages => anthropic::request(&root).unwrap(),
                _ => openai_chat::request(&root).unwrap(),
            };
            prop_assert_eq!(merged(&read.messages), merged(&original.messages), "{}", written);
            let comparable = |request: &Request| Request {
                dialect: Dialect::OpenAiChat,
                messages: Vec::new(),
                apart: false,
                include_usage: false,
                ..request.clone()
            };
            prop_assert_eq!(comparable(&read), comparable(&original), "{}", written);
        }
    }

    #[test]
    fn an_answer_reads_back_from_gemini_whole_and_in_any_pieces(
        original in response(), piece in 1usize..9, cuts in proptest::collection::vec(1usize..50, 1..10),
    ) {
        let original = as_googles(original);
        let written = gemini::response(&original);
        let mut read = provider::decode(Dialect::Gemini, written.as_bytes()).unwrap();
        prop_assert_eq!(read.dialect, Dialect::Gemini);
        read.dialect = original.dialect;
        prop_assert_eq!(&read, &original, "{}", written);

        let mut written = String::new();
        let mut encoder = Encoder::new(Dialect::Gemini, true, 0);
        for event in events(&original, piece) {
            encoder.write(&event, &mut written);
        }
        let mut decoder = Decoder::new(Dialect::Gemini);
        let mut read = Vec::new();
        for chunk in chunks(written.as_bytes(), &cuts) {
            decoder.feed(chunk, &mut read).unwrap();
        }
        prop_assert!(decoder.finish(true, &mut read));
        let bodies: Vec<Body> = original.choices[0].parts.iter().map(|part| part.body.clone()).collect();
        let (parts, stop, usage, ended) = together(&read);
        prop_assert_eq!(&parts, &bodies, "{}", written);
        prop_assert_eq!(stop.as_ref(), Some(&original.choices[0].stop));
        prop_assert_eq!(usage, original.usage);
        prop_assert!(ended);
    }

    #[test]
    fn a_request_reads_back_from_gemini(mut original in request()) {
        for part in original.messages.iter_mut().flat_map(|message| &mut message.parts) {
            // Google has no titles.
            if let Body::Document { title, .. } = &mut part.body {
                *title = None;
            }
        }
        original.tools.iter_mut().for_each(|tool| tool.strict = None);
        let written = provider::encode(Dialect::Gemini, Flavour::OpenAi, &original).unwrap();
        let written = String::from_utf8(written).unwrap();
        let read = gemini::request(&node(&written, &Limits::REQUEST).unwrap(), "m", original.stream).unwrap();
        prop_assert_eq!(merged(&read.messages), merged(&original.messages), "{}", written);
        let comparable = |request: &Request| Request {
            dialect: Dialect::OpenAiChat,
            messages: Vec::new(),
            apart: false,
            include_usage: false,
            ..request.clone()
        };
        prop_assert_eq!(comparable(&read), comparable(&original), "{}", written);
    }

    #[test]
    fn hostile_answers_and_streams_never_panic(
        pieces in proptest::collection::vec(vocabulary(), 0..25), bytes in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let text = pieces.concat();
        let google = Dialect::Gemini;
        for (client, provider) in [(CHAT[0], CHAT[1]), (CHAT[1], CHAT[0]), (CHAT[0], google), (google, CHAT[1])] {
            let translation = Translation::new(client, provider, Options::default()).unwrap();
            for body in [text.as_bytes(), &bytes] {
                let _ = translation.response(body);
                let _ = translation.error(500, body);
                let _ = translation.request(body, &crate::passthrough::Edits::default());
                let event = [b"data: ", body, b"\n\n"].concat();
                let mut stream: StreamTranslation = translation.stream(true);
                stream.feed(&event);
                stream.feed(&event);
                stream.finish(true);
                prop_assert_ne!(stream.outcome(), &crate::Outcome::Open);
            }
        }
    }
}

/// The same answer as Google would give it: signed by Google, undated, with nothing written into a cache.
fn as_googles(mut response: Response) -> Response {
    response.created = None;
    response.usage.cache_write_tokens = None;
    for part in response.choices.iter_mut().flat_map(|choice| &mut choice.parts) {
        match &mut part.body {
            Body::Thinking { signature: Some(signature), .. } => signature.insert_str(0, "gemini:"),
            Body::ToolCall(call) if call.name.len() > 3 => call.signature = Some("c2ln".to_owned()),
            _ => {}
        }
    }
    response
}

/// Pieces of JSON with the names that matter, mostly in the wrong places.
fn vocabulary() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"type\":",
        "\"choices\":[",
        "\"delta\":{",
        "\"message\":{",
        "\"content\":",
        "\"text\"",
        "\"tool_calls\":[{",
        "\"function\":{\"name\":\"f\",\"arguments\":\"{\"}",
        "\"index\":",
        "0",
        "-1",
        "1e99",
        "null",
        "true",
        "\"content_block_start\"",
        "\"content_block_delta\"",
        "\"content_block\":{\"type\":\"tool_use\"}",
        "\"usage\":{",
        "\"prompt_tokens\":",
        "\"finish_reason\":\"stop\"",
        "\"error\":",
        "\"role\":\"user\"",
        "\"messages\":[",
        "\"model\":\"m\",",
        "\"input\":",
        "\"\\ud800\"",
        "\"message_stop\"",
        "\"candidates\":[{\"content\":{\"parts\":[{",
        "\"functionCall\":{\"name\":\"f\",\"willContinue\":true,\"partialArgs\":[{\"jsonPath\":\"$.a\",",
        "\"contents\":[{\"parts\":[{",
        "\"inlineData\":{",
        "\"finishReason\":",
        "\"usageMetadata\":{\"promptTokenCount\":",
        "\"thinking\":",
    ])
}

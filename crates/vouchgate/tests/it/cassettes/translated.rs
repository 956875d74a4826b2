//! The other dialect: an answer says the same to a client of the other SDK, field by field.

use serde_json::Value;
use testkit::mock::{self, Cassette};

use super::table::Table;
use super::told::{Told, message_of};
use super::world::{self, Spoken, World};

/// How many bytes at once the mock sends, besides everything.
const ODD: usize = 23;

/// What is told differently, and why that is meant.
const KNOWN: &[&str] = &[
    // The provider's opinion of its key is the operator's affair.
    "anthropic whole 0c9616ad6086: 401 became 502 provider_key_refused",
    "anthropic whole 1771ac30d251: 401 became 502 provider_key_refused",
    "anthropic whole 75c5c7410b1b: 401 became 502 provider_key_refused",
    "anthropic whole 7ea8344cff16: 401 became 502 provider_key_refused",
    "anthropic whole adf269c38816: 401 became 502 provider_key_refused",
    "anthropic whole bc59e028b978: 401 became 502 provider_key_refused",
    "anthropic whole e9299f8c4dfe: 401 became 502 provider_key_refused",
    "anthropic whole f36517f3bfb2: 401 became 502 provider_key_refused",
    "deepseek whole 81ecdf62a63d: 401 became 502 provider_key_refused",
    "mistral whole 07700d48af11: 401 became 502 provider_key_refused",
    "ollama whole 9e513dc9a030: 401 became 502 provider_key_refused",
    "openai whole 1384ab290259: 401 became 502 provider_key_refused",
    "openai whole b77fec43fda0: 401 became 502 provider_key_refused",
    "openrouter whole d8ba5df1ad43: 401 became 502 provider_key_refused",
    "together whole e6f4ce4cc6fc: 401 became 502 provider_key_refused",
    // Asked for several answers (`n`), which a client of the other dialect cannot do: only one has room in it.
    "llamacpp stream ef347c9c8ec4: ends with an error: The provider sent several answers",
    "llamacpp whole d8b66656a58b: 200 became 502 upstream_many_choices",
    "mistral stream 0e1fc39b3c3c: ends with an error: The provider sent several answers",
    "mistral stream 1f35ca423374: ends with an error: The provider sent several answers",
    "mistral stream 46b2c84170ed: ends with an error: The provider sent several answers",
    "mistral stream 4fe6e056ac57: ends with an error: The provider sent several answers",
    "mistral whole 0694986965f7: 200 became 502 upstream_many_choices",
    "mistral whole 259e798fde02: 200 became 502 upstream_many_choices",
    "mistral whole cb6128e8ab15: 200 became 502 upstream_many_choices",
    "mistral whole e23102557207: 200 became 502 upstream_many_choices",
    "openai stream 606a563fcdff: ends with an error: The provider sent several answers",
    "openai stream 79171f95ec90: ends with an error: The provider sent several answers",
    "openai stream 7f0584f309e4: ends with an error: The provider sent several answers",
    "openai stream e0fe954873a2: ends with an error: The provider sent several answers",
    "openai whole 09c0363692ce: 200 became 502 upstream_many_choices",
    "openai whole 21794ffa81ba: 200 became 502 upstream_many_choices",
    "openai whole 4be49b6a9fb1: 200 became 502 upstream_many_choices",
    "openai whole 83b6f1d70c56: 200 became 502 upstream_many_choices",
    "openai whole bde5bddd80ae: 200 became 502 upstream_many_choices",
    "openai whole cf56791bf2fb: 200 became 502 upstream_many_choices",
    // Arguments cut off by the token limit. Anthropic's are an object: the text is kept in one.
    "deepseek whole 708d1b73e3b1: arguments",
    "deepseek whole b37c0bbfb8d3: arguments",
    "deepseek whole d690534f9eb7: arguments",
    "mistral whole c0d6ec6c808a: arguments",
    "mistral whole f8f344fb5f5e: arguments",
    "openai whole 799d1133bcc4: arguments",
    "openai whole 9fdda35574de: arguments",
    "openai whole bd15c9a54d87: arguments",
    "openai whole e6a076c78c13: arguments",
    // xAI's figures behind Azure: it reads more from its cache than it reads at all, so the cached share stands apart and the
    // client is told the sum of both.
    "azure stream 321f7f49e50c: input 7 became 168",
    "azure whole 0ca3f4d61e04: input 371 became 864",
    "azure whole 4df596b0ad84: input 392 became 853",
    "azure whole eb1177d23f2a: input 447 became 986",
    // Several streams in one recording. The first ends the answer; a second without that end is an error.
    "anthropic stream 9b8eb6393bcf: text",
    "anthropic stream de16fe5e4ec4: ends with an error: The provider began a second message in one stream.",
];

#[tokio::test]
async fn an_answer_says_the_same_in_the_other_dialect() {
    let Some((world, cassettes)) = World::start("an_answer_says_the_same_in_the_other_dialect").await else { return };
    let mut table = Table::new("Answers translated, field by field");
    for cassette in cassettes {
        let Some(provider) = Spoken::of(cassette).filter(|spoken| *spoken != Spoken::Embeddings) else { continue };
        let kind = if cassette.is_stream { "stream" } else { "whole" };
        let row = format!("{} {kind}", world::name(cassette));
        let outcome = one(&world, provider, cassette).await;
        table.note(&row, &cassette.id, outcome);
    }
    table.finish(750, KNOWN);
    world.gateway.stop().await;
}

async fn one(world: &World, provider: Spoken, cassette: &Cassette) -> Result<(), String> {
    let client = provider.other();
    let recorded = cassette.request_json();
    let model = recorded["model"].as_str().unwrap_or("unknown");
    let mut request = world::plain(&format!("{}/{model}", world::name(cassette)), cassette.is_stream);
    if client == Spoken::Chat && cassette.is_stream {
        request["stream_options"] = serde_json::json!({"include_usage": true});
    }
    let mut first: Option<Told> = None;
    for whole in [true, false] {
        let reply = mock::Answer::cassette(cassette);
        let reply = if whole { reply } else { reply.pieces(ODD) };
        let (answer, _) = world.ask(client, request.to_string().into_bytes(), reply).await;
        let status = answer.status.as_u16();
        if status != cassette.status {
            return Err(format!("{} became {status} {}", cassette.status, answer.code()));
        }
        if status >= 400 {
            return same_error(&cassette.response_json(), &answer.json(), client);
        }
        let told = match (client, cassette.is_stream) {
            (Spoken::Chat, true) => Told::chat_stream(&answer.body),
            (Spoken::Chat, false) => Told::chat(&answer.json()),
            (_, true) => Told::messages_stream(&answer.body),
            (_, false) => Told::messages(&answer.json()),
        };
        if first.as_ref().is_some_and(|first| *first != told) {
            return Err("tells something else in small pieces".to_owned());
        }
        first = Some(told);
    }
    let told = first.unwrap();
    let mut original = match (provider, cassette.is_stream) {
        (Spoken::Chat, true) => Told::chat_stream(&cassette.response_body),
        (Spoken::Chat, false) => Told::chat(&cassette.response_json()),
        (_, true) => Told::messages_stream(&cassette.response_body),
        (_, false) => Told::messages(&cassette.response_json()),
    };
    if original.model.is_empty() && !cassette.is_stream {
        // An answer that names no model is of the one that was asked for.
        model.clone_into(&mut original.model);
    }
    if let Some(message) = &original.error {
        let same = told.error.as_ref().is_some_and(|error| error.contains(message)) && !told.ended;
        return if same { Ok(()) } else { Err(format!("error {message:?} became {:?}", told.error)) };
    }
    if let Some(error) = &told.error {
        return Err(format!("ends with an error: {error}"));
    }
    if cassette.is_stream && !told.ended {
        return Err("does not end".to_owned());
    }
    let differences = original.differences(&told);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}

/// The provider's words in the form of the client's dialect.
fn same_error(recorded: &Value, answer: &Value, client: Spoken) -> Result<(), String> {
    let shape = client == Spoken::Chat || answer["type"] == "error";
    let told = answer["error"]["message"].as_str().unwrap_or_default();
    let wanted = message_of(recorded).unwrap_or_default();
    let same = shape && answer["error"]["type"].is_string() && !wanted.is_empty();
    // Long messages are cut.
    let wanted: String = wanted.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(1900).collect();
    if same && told.starts_with(&wanted) { Ok(()) } else { Err(format!("error {wanted:?} became {answer}")) }
}

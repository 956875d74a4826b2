//! What a request asks, read straight out of the wire of either dialect; and whether a provider of the other dialect is
//! asked the same.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testkit::mock::{self, Cassette};

use super::table::Table;
use super::world::{self, Spoken, World};

/// Differences that are meant.
const KNOWN: &[&str] = &[
    // OpenAI's tool results hold text only: what else there was follows in a message, and the result says so.
    "anthropic b1cba9fab8db: turn Some(Result",
];

/// What the other dialect has no word for is refused by its name, never dropped; and how many recordings ask for it.
const REFUSED: &[(&str, usize)] = &[
    ("/v1/chat/completions functions", 1),
    ("/v1/chat/completions grammar", 1),
    ("/v1/chat/completions logprobs", 17),
    ("/v1/chat/completions messages[].content[]", 2),
    ("/v1/chat/completions messages[].content[].type", 9),
    ("/v1/chat/completions n", 20),
    ("/v1/chat/completions provider", 36),
    ("/v1/chat/completions random_seed", 5),
    ("/v1/chat/completions reasoning_format", 1),
    ("/v1/chat/completions service_tier", 1),
    ("/v1/chat/completions tools[].type", 5),
    ("/v1/chat/completions venice_parameters", 4),
    ("/v1/chat/completions web_search_options", 2),
    ("/v1/messages container", 3),
    ("/v1/messages mcp_servers", 3),
    ("/v1/messages messages[].content[].content[].source", 2),
    ("/v1/messages messages[].content[].content[].type", 2),
    ("/v1/messages messages[].content[].source", 3),
    ("/v1/messages messages[].content[].type", 9),
    ("/v1/messages tools[].type", 25),
];

/// One thing said in a conversation, in order.
#[derive(Debug, Clone, PartialEq)]
enum Turn {
    System(String),
    Text {
        assistant: bool,
        text: String,
    },
    /// An image or document, by its data or address.
    File(String),
    Call {
        id: String,
        name: String,
        arguments: Value,
    },
    Result {
        id: String,
        text: String,
    },
}

/// What must be asked the same way.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    turns: Vec<Turn>,
    /// Name, description and schema.
    tools: Vec<(String, String, Value)>,
    most: Option<u64>,
    stop: Vec<String>,
    stream: bool,
    temperature: Option<f64>,
    top_p: Option<f64>,
}

#[tokio::test]
async fn a_request_asks_the_same_of_a_provider_of_the_other_dialect() {
    let test = "a_request_asks_the_same_of_a_provider_of_the_other_dialect";
    let Some((world, cassettes)) = World::start(test).await else { return };
    let mut table = Table::new("Requests translated, field by field");
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for cassette in cassettes {
        let Some(client) = Spoken::of(cassette).filter(|spoken| *spoken != Spoken::Embeddings) else { continue };
        // What a provider refused, or nobody recorded, asks for nothing.
        if cassette.status >= 400 || !cassette.request_json().is_object() {
            continue;
        }
        match one(&world, client, cassette).await {
            Ok(outcome) => table.note(&world::name(cassette), &cassette.id, outcome),
            Err(why) => *refused.entry(why).or_default() += 1,
        }
    }
    let known: BTreeMap<String, usize> = REFUSED.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
    let total: usize = refused.values().sum();
    println!("{total} requests refused by name:");
    for (why, count) in &refused {
        println!("  {count:>4} x {why}");
    }
    assert_eq!(refused, known);
    table.finish(500, KNOWN);
    world.gateway.stop().await;
}

/// `Err`: refused, saying which member cannot be expressed.
async fn one(world: &World, client: Spoken, cassette: &Cassette) -> Result<Result<(), String>, String> {
    let mut body = cassette.request_json();
    let original = if client == Spoken::Chat { chat(&body) } else { messages(&body) };
    let provider = if client == Spoken::Chat { "anthropic" } else { "openai" };
    body["model"] = format!("{provider}/m").into();
    let json_asked = body["response_format"]["type"] == "json_object";
    let reply = mock::Answer::json(503, &json!({}));
    let (answer, received) = world.ask_as_owner((client, provider), body.to_string().as_bytes(), &reply).await;
    let Some(received) = received else {
        let error = &answer.json()["error"];
        let message = error["message"].as_str().unwrap_or_default();
        let param = message.split(" cannot be sent").next().unwrap_or_default();
        let general: String = param.chars().filter(|c| !c.is_ascii_digit()).collect();
        let named = answer.status.as_u16() == 400 && general.len() < message.len();
        return if named {
            Err(format!("{} {general}", client.path()))
        } else {
            Ok(Err(format!("refused: {}", answer.text())))
        };
    };
    let body = received.json();
    let mut translated = if client == Spoken::Chat { messages(&body) } else { chat(&body) };
    if json_asked {
        translated.without_instruction();
    }
    Ok(compare(&original, &translated))
}

fn compare(original: &Wanted, translated: &Wanted) -> Result<(), String> {
    let mut found = Vec::new();
    let mut differ = |same: bool, what: &str, this: &dyn std::fmt::Debug, that: &dyn std::fmt::Debug| {
        if !same {
            let short = |value: &dyn std::fmt::Debug| format!("{value:?}").chars().take(200).collect::<String>();
            found.push(format!("{what} {} became {}", short(this), short(that)));
        }
    };
    let first = original.turns.iter().zip(&translated.turns).position(|(this, that)| this != that);
    let at = first.unwrap_or(original.turns.len().min(translated.turns.len()));
    differ(original.turns == translated.turns, "turn", &original.turns.get(at), &translated.turns.get(at));
    for (this, that) in original.tools.iter().zip(&translated.tools) {
        differ(this == that, "tool", this, that);
    }
    differ(original.tools.len() == translated.tools.len(), "tools", &original.tools.len(), &translated.tools.len());
    // Anthropic insists on a number; one nobody named is made up.
    differ(original.most.is_none() || original.most == translated.most, "most", &original.most, &translated.most);
    differ(original.stop == translated.stop, "stop", &original.stop, &translated.stop);
    differ(original.stream == translated.stream, "stream", &original.stream, &translated.stream);
    differ(
        original.temperature == translated.temperature,
        "temperature",
        &original.temperature,
        &translated.temperature,
    );
    differ(original.top_p == translated.top_p, "top_p", &original.top_p, &translated.top_p);
    if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
}

fn text<'v>(of: &'v Value, member: &str) -> &'v str {
    of[member].as_str().unwrap_or_default()
}

fn list(of: &Value) -> &[Value] {
    of.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text, or the texts of a list of parts.
fn texts(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        content => list(content).iter().map(|part| text(part, "text")).collect(),
    }
}

impl Wanted {
    /// Add what was said. Neighbouring texts of one speaker are one text, and white space between does not count.
    fn say(&mut self, turn: Turn) {
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        let turn = match turn {
            Turn::System(text) => Turn::System(squeeze(&text)),
            Turn::Text { assistant, text } => Turn::Text { assistant, text: squeeze(&text) },
            Turn::Result { id, text } => Turn::Result { id, text: squeeze(&text) },
            other => other,
        };
        match (self.turns.last_mut(), &turn) {
            (_, Turn::System(text) | Turn::Text { text, .. }) if text.is_empty() => {}
            (Some(Turn::System(before)), Turn::System(text)) => before.push_str(text),
            (Some(Turn::Text { assistant: who, text: before }), Turn::Text { assistant, text }) if who == assistant => {
                before.push_str(text);
            }
            _ => self.turns.push(turn),
        }
    }
}

impl Wanted {
    /// Take out what a provider without a switch for JSON is told instead.
    fn without_instruction(&mut self) {
        const SAID: &str = "AnswerwithonevalidJSONobjectandnothingelse.";
        let Some(Turn::System(text)) = self.turns.first_mut() else { return };
        let Some(rest) = text.strip_suffix(SAID).map(str::to_owned) else { return };
        *text = rest;
        self.turns.retain(|turn| *turn != Turn::System(String::new()));
    }
}

fn common(body: &Value) -> Wanted {
    Wanted {
        stream: body["stream"] == true,
        temperature: body["temperature"].as_f64(),
        top_p: body["top_p"].as_f64(),
        ..Wanted::default()
    }
}

/// A request of OpenAI's dialect.
fn chat(body: &Value) -> Wanted {
    let mut wanted = common(body);
    wanted.most = body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64());
    wanted.stop = match &body["stop"] {
        Value::String(one) => vec![one.clone()],
        many => list(many).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    for message in list(&body["messages"]) {
        let content = &message["content"];
        match text(message, "role") {
            "system" | "developer" => wanted.say(Turn::System(texts(content))),
            "tool" => {
                let id = plain_id(text(message, "tool_call_id"));
                wanted.say(Turn::Result { id, text: texts(content) });
            }
            role => {
                let assistant = role == "assistant";
                let parts = if content.is_string() {
                    vec![json!({"type": "text", "text": content})]
                } else {
                    list(content).to_vec()
                };
                for part in &parts {
                    let places = [
                        &part["image_url"]["url"],
                        &part["image_url"],
                        &part["document_url"],
                        &part["file"]["file_data"],
                    ];
                    let file = places.into_iter().find_map(Value::as_str);
                    match file {
                        Some(file) => wanted.say(Turn::File(file.to_owned())),
                        None => wanted.say(Turn::Text { assistant, text: text(part, "text").to_owned() }),
                    }
                }
                for call in list(&message["tool_calls"]) {
                    let function = &call["function"];
                    let (id, name) = (plain_id(text(call, "id")), text(function, "name").to_owned());
                    let arguments = serde_json::from_str(text(function, "arguments")).unwrap_or_else(|_| json!({}));
                    wanted.say(Turn::Call { id, name, arguments });
                }
            }
        }
    }
    for tool in list(&body["tools"]) {
        let function = &tool["function"];
        let (name, description) = (text(function, "name").to_owned(), text(function, "description").to_owned());
        wanted.tools.push((name, description, schema(&function["parameters"])));
    }
    wanted
}

/// A call's id as Anthropic takes it: characters it refuses are written as their numbers, in calls and results alike.
fn plain_id(id: &str) -> String {
    let plain = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c.to_string(),
        other => format!("_{}_", u32::from(other)),
    };
    id.chars().map(plain).collect()
}

/// A request of Anthropic's dialect.
fn messages(body: &Value) -> Wanted {
    let mut wanted = common(body);
    wanted.most = body["max_tokens"].as_u64();
    wanted.stop = list(&body["stop_sequences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    wanted.say(Turn::System(texts(&body["system"])));
    for message in list(&body["messages"]) {
        let assistant = message["role"] == "assistant";
        let content = &message["content"];
        let blocks =
            if content.is_string() { vec![json!({"type": "text", "text": content})] } else { list(content).to_vec() };
        for block in &blocks {
            match text(block, "type") {
                "text" => wanted.say(Turn::Text { assistant, text: text(block, "text").to_owned() }),
                "image" | "document" => wanted.say(Turn::File(source(&block["source"]))),
                "tool_use" => {
                    let (id, name) = (text(block, "id").to_owned(), text(block, "name").to_owned());
                    wanted.say(Turn::Call { id, name, arguments: block["input"].clone() });
                }
                "tool_result" => {
                    let (id, told) = (text(block, "tool_use_id").to_owned(), texts(&block["content"]));
                    wanted.say(Turn::Result { id, text: told });
                }
                _ => {}
            }
        }
    }
    for tool in list(&body["tools"]) {
        let (name, description) = (text(tool, "name").to_owned(), text(tool, "description").to_owned());
        wanted.tools.push((name, description, schema(&tool["input_schema"])));
    }
    wanted
}

/// A file as the address or data URL OpenAI would write.
fn source(source: &Value) -> String {
    match text(source, "type") {
        "base64" => format!("data:{};base64,{}", text(source, "media_type"), text(source, "data")),
        "text" => text(source, "data").to_owned(),
        _ => text(source, "url").to_owned(),
    }
}

/// No schema is that of no arguments.
fn schema(of: &Value) -> Value {
    if of.is_object() { of.clone() } else { json!({"type": "object", "properties": {}}) }
}

//! `vouchgate route explain`: which targets would answer a request, in which order, why, and how each is doing.

use std::collections::BTreeMap;

use control::admin::SOCKET_NAME;
use control::route::RouteQuestion;
use http::Method;
use serde_json::Value;

use super::args::{RouteArgs, RouteCommand};
use super::io::{Exit, Failure, Io, Outcome};
use super::models::configured;
use super::place::Place;
use super::remote::{Api, answers};
use super::table::{Column, print, printable, text};
use crate::wire::told;

const TARGETS: &[Column] = &[
    ("place", |row| row.get("place").map_or_else(|| "-".to_owned(), ToString::to_string)),
    ("target", |row| text(row, "target")),
    ("why", |row| text(row, "why")),
    ("ready", |row| if row.get("ready") == Some(&Value::Bool(true)) { "yes" } else { "NO" }.to_owned()),
    ("breaker", |row| text(row, "breaker")),
    ("begins after", |row| row.get("expected_ms").map(|ms| format!("{ms} ms")).unwrap_or_default()),
    ("cost", |row| text(row, "cost")),
    ("keys", |row| row.get("keys").and_then(Value::as_array).map(|keys| keys_of(keys)).unwrap_or_default()),
];

/// Print the targets. Exit 1: none would be tried, or none could be called now.
pub(super) async fn run(command: RouteCommand, io: &mut Io<'_>) -> Outcome {
    let RouteCommand::Explain(args) = command;
    let question = question(&args)?;
    let place = Place::find(&args.state, io)?;
    let told = explained(&question, &place, io).await?;
    let targets = told.get("targets").and_then(Value::as_array).cloned().unwrap_or_default();
    if args.state.json {
        io.json(&told)?;
    } else {
        let sticky = told.get("sticky").and_then(Value::as_str).map(|by| format!(", kept together by {by}"));
        let line = format!("{}: {}{}", question.model, text(&told, "strategy"), sticky.unwrap_or_default());
        io.line(&printable(&line))?;
        if let Some(hedge) = told.get("hedge").and_then(Value::as_str) {
            io.line(&printable(hedge))?;
        }
        print(io, TARGETS, &targets, "It has no targets")?;
    }
    let usable = |target: &Value| target.get("place").is_some() && target.get("ready") == Some(&Value::Bool(true));
    Ok(if targets.iter().any(usable) { Exit::Done } else { Exit::No })
}

/// A running server knows how its providers are doing. Without one the configuration alone decides.
async fn explained(question: &RouteQuestion, place: &Place, io: &mut Io<'_>) -> Result<Value, Failure> {
    let socket = place.data_dir().join(SOCKET_NAME);
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    if answers(&socket).await {
        let body = serde_json::to_value(question).map_err(|error| failed(&error))?;
        return Api::Running(socket).call(Method::POST, "/routes/explain", Some(&body)).await;
    }
    let config = configured(place, io).await?;
    let found = gateway::explain(&config, &told::question(question)).map_err(|error| failed(&error))?;
    let found = found.ok_or_else(|| Failure::new(format!("there is no model {}", question.model)))?;
    serde_json::to_value(told::explanation(&question.model, found)).map_err(|error| failed(&error))
}

fn question(args: &RouteArgs) -> Result<RouteQuestion, Failure> {
    let pairs = |given: &[String], flag: &str| -> Result<BTreeMap<String, String>, Failure> {
        let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let all: Option<_> = given.iter().map(pair).collect();
        all.ok_or_else(|| Failure::new(format!("write --{flag} NAME=VALUE")))
    };
    Ok(RouteQuestion {
        model: args.model.clone(),
        input_tokens: args.input_tokens,
        max_output_tokens: args.max_output_tokens,
        tools: args.tools,
        images: args.images,
        stream: args.stream,
        client: args.client.clone(),
        metadata: pairs(&args.metadata, "metadata")?,
        header: pairs(&args.header, "header")?,
    })
}

/// `main, spare (rests 12 s)`
fn keys_of(keys: &[Value]) -> String {
    let one = |key: &Value| {
        let rests = key.get("rests_ms").and_then(Value::as_u64).unwrap_or(0);
        let state = match text(key, "breaker").as_str() {
            _ if key.get("accepted") == Some(&Value::Bool(false)) => " (refused)".to_owned(),
            _ if rests > 0 => format!(" (rests {} s)", rests.div_ceil(1000)),
            "closed" => String::new(),
            other => format!(" ({})", other.replace('_', "-")),
        };
        format!("{}{state}", text(key, "name"))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(", ")
}

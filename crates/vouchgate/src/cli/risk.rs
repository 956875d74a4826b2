//! `risk ...`: what becomes of instances of apps, and leave for single ones.

use http::Method;
use serde_json::{Map, Value, json};

use super::args::{ForcedPassArgs, RiskCommand, SimulateArgs};
use super::io::{Exit, Failure, Io, Outcome};
use super::manage::{ask, ask_list, done};
use super::place::read_config;
use super::print;
use super::remote::segment;
use super::table::{Column, text};

const DECISIONS: &[Column] = &[
    ("day", |row| text(row, "day")),
    ("app", |row| text(row, "app")),
    ("version", |row| text(row, "version")),
    ("platform", |row| row.get("known").map(|known| text(known, "platform")).unwrap_or_default()),
    ("level", |row| row.get("known").map(|known| text(known, "level")).unwrap_or_default()),
    ("step", |row| text(row, "step")),
    ("action", |row| text(row, "action")),
    ("would", |row| text(row, "would")),
    ("reasons", |row| text(row, "reasons")),
    ("count", |row| text(row, "count")),
];

const REASONS: &[Column] = &[
    ("reason", |row| text(row, "reason")),
    ("action", |row| text(row, "action")),
    ("app", |row| text(row, "app")),
    ("version", |row| text(row, "version")),
    ("platform", |row| text(row, "platform")),
    ("count", |row| text(row, "count")),
    ("newly", |row| text(row, "newly")),
];

const PASSES: &[Column] = &[
    ("id", |row| text(row, "id")),
    ("app", |row| text(row, "app")),
    ("key", |row| text(row, "jkt")),
    ("state", |row| {
        let now = row.get("in_force") == Some(&Value::Bool(true));
        if now { "in force" } else { "over" }.to_owned()
    }),
    ("until", |row| text(row, "until")),
    ("by", |row| text(row, "by")),
    ("reason", |row| text(row, "reason")),
    ("uses", |row| text(row, "uses")),
];

/// Run one of the commands.
pub(super) async fn run(command: RiskCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        RiskCommand::Decisions { app, since, state } => {
            let asked = [("app", app), ("since", since)];
            let asked = asked.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", segment(&value?))));
            let asked = asked.collect::<Vec<_>>().join("&");
            let path = if asked.is_empty() { "/risk-decisions".to_owned() } else { format!("/risk-decisions?{asked}") };
            let answer = ask(io, &state, (Method::GET, &path), None).await?;
            let rows = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            print::list(io, state.json, DECISIONS, (&rows, "Nothing was decided in that time."))?;
            Ok(Exit::Done)
        }
        RiskCommand::Simulate(args) => simulate(args, io).await,
        RiskCommand::Force(args) => force(args, io).await,
        RiskCommand::Passes(state) => {
            let rows = ask_list(io, &state, "/forced-passes").await?;
            print::list(io, state.json, PASSES, (&rows, "No instance has or had a forced pass."))?;
            Ok(Exit::Done)
        }
        RiskCommand::End { id, state } => {
            ask(io, &state, (Method::DELETE, &format!("/forced-passes/{}", segment(&id))), None).await?;
            done(io, state.json, &json!({ "ended": id }), &format!("The forced pass {id} has ended."))
        }
    }
}

async fn simulate(args: SimulateArgs, io: &mut Io<'_>) -> Outcome {
    let SimulateArgs { rules, app, since, state } = args;
    let mut body = Map::new();
    if let Some(file) = rules.as_ref().or(state.config.as_ref()) {
        let risks = serde_json::to_value(read_config(file, io)?.risks).map_err(|e| Failure::new(e.to_string()))?;
        body.insert("risks".to_owned(), risks);
    }
    let asked = [("app", app), ("since", since)];
    body.extend(asked.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?)))));
    let answer = ask(io, &state, (Method::POST, "/risk-simulations"), Some(body.into())).await?;
    if state.json {
        io.json(&answer)?;
        return Ok(Exit::Done);
    }
    let rows = answer.get("reasons").and_then(Value::as_array).cloned().unwrap_or_default();
    print::list(io, false, REASONS, (&rows, "These rules would have let everybody in."))?;
    let changed = answer.get("changed").and_then(Value::as_array).cloned().unwrap_or_default();
    for one in &changed {
        io.note(&format!("{} to {}: {} decisions", text(one, "from"), text(one, "to"), text(one, "count")));
    }
    let (decisions, since) = (text(&answer, "decisions"), text(&answer, "since"));
    let others = if changed.is_empty() { "none would be another" } else { "the others stay as they were" };
    io.note(&format!("{decisions} decisions since {since}; {others}. Every set counts as enforced for everybody."));
    Ok(Exit::Done)
}

async fn force(args: ForcedPassArgs, io: &mut Io<'_>) -> Outcome {
    let ForcedPassArgs { app, jkt, lasts, reason, state } = args;
    let body = json!({ "app": app, "jkt": jkt, "for": lasts, "reason": reason });
    let answer = ask(io, &state, (Method::POST, "/forced-passes"), Some(body)).await?;
    let (id, until) = (text(&answer, "id"), text(&answer, "until"));
    done(io, state.json, &answer, &format!("Let in whatever the rules say until {until} (forced pass {id})."))
}

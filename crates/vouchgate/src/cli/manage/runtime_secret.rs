//! `secret runtime ...`: values of secrets that apps use and do not carry.

use http::Method;
use serde_json::{Value, json};

use super::{ask, ask_list, done};
use crate::cli::args::{NamedArgs, RuntimeSecretCommand, RuntimeValueArgs};
use crate::cli::io::{Exit, Io, Outcome};
use crate::cli::print;
use crate::cli::remote::segment;
use crate::cli::table::{Column, text};

const VERSIONS: &[Column] = &[
    ("secret", |row| text(row, "name")),
    ("version", |row| text(row, "version")),
    ("state", |row| text(row, "state")),
    ("origin", |row| text(row, "origin")),
    ("delivered", |row| if row.get("deliver") == Some(&Value::Bool(true)) { "yes" } else { "no" }.to_owned()),
    ("from", |row| print::minute(row, "not_before")),
    ("until", |row| print::minute(row, "not_after")),
    ("uses", |row| uses(row)),
    ("last used", |row| print::minute(row, "last_used_at")),
    ("ends with", |row| text(row, "last4")),
];

/// Run one of the commands.
pub(super) async fn run(command: RuntimeSecretCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        RuntimeSecretCommand::Set(args) => keep(args, "versions", io).await,
        RuntimeSecretCommand::Rotate(args) => keep(args, "rotate", io).await,
        RuntimeSecretCommand::List(state) => {
            let secrets = ask_list(io, &state, "/runtime-secret-versions").await?;
            for warning in secrets.iter().flat_map(warnings) {
                io.note(&warning);
            }
            if state.json {
                io.json(&Value::Array(secrets))?;
                return Ok(Exit::Done);
            }
            let rows: Vec<Value> = secrets.iter().flat_map(rows).collect();
            let none = "There are no values of runtime secrets; set one: vouchgate secret runtime set NAME < FILE";
            print::list(io, false, VERSIONS, (&rows, none))?;
            Ok(Exit::Done)
        }
        RuntimeSecretCommand::Retire { name, version, state } => {
            let path = format!("/runtime-secrets/{}/retire", segment(&name));
            let body = version.map_or_else(|| json!({}), |version| json!({ "version": version }));
            let answer = ask(io, &state, (Method::POST, &path), Some(body)).await?;
            let which = version.map_or_else(|| "The older versions".to_owned(), |version| format!("Version {version}"));
            done(
                io,
                state.json,
                &answer,
                &format!("{which} of the runtime secret {name} ended; the value is forgotten."),
            )
        }
        RuntimeSecretCommand::Delete(NamedArgs { name, state }) => {
            ask(io, &state, (Method::DELETE, &format!("/runtime-secrets/{}/versions", segment(&name))), None).await?;
            let said = format!("Forgot all values of the runtime secret {name}.");
            done(io, state.json, &json!({ "deleted": name }), &said)
        }
    }
}

async fn keep(args: RuntimeValueArgs, way: &str, io: &mut Io<'_>) -> Outcome {
    let RuntimeValueArgs { name, overlap, after, state } = args;
    let value = io.read_value("the secret")?;
    let body = json!({ "value": value.expose(), "overlap": overlap, "after": after });
    let path = format!("/runtime-secrets/{}/{way}", segment(&name));
    let answer = ask(io, &state, (Method::POST, &path), Some(body)).await?;
    let newest = answer.get("versions").and_then(|versions| versions.get(0)).cloned().unwrap_or_default();
    let (version, from) = (text(&newest, "version"), text(&newest, "not_before"));
    let when = if text(&newest, "state") == "next" { format!(", in force from {from}") } else { String::new() };
    for warning in warnings(&answer) {
        io.note(&warning);
    }
    done(io, state.json, &answer, &format!("Kept version {version} of the runtime secret {name}{when}."))
}

fn warnings(secret: &Value) -> Vec<String> {
    let name = text(secret, "name");
    let all = secret.get("warnings").and_then(Value::as_array).into_iter().flatten();
    all.filter_map(Value::as_str).map(|warning| format!("{name}: {warning}")).collect()
}

/// A row for each version.
fn rows(secret: &Value) -> Vec<Value> {
    let versions = secret.get("versions").and_then(Value::as_array).into_iter().flatten();
    let row = |version: &Value| {
        let mut row = version.clone();
        row.as_object_mut().and_then(|row| row.insert("name".into(), secret.get("name").cloned().unwrap_or_default()));
        row
    };
    versions.map(row).collect()
}

/// How often by kind: `5 substituted, 2 delivered`.
fn uses(row: &Value) -> String {
    let uses = row.get("uses").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let count = |how: &str| {
        let of = uses.iter().filter(|used| used.get("how").and_then(Value::as_str) == Some(how));
        of.filter_map(|used| used.get("uses").and_then(Value::as_u64)).sum::<u64>()
    };
    let shown = ["substituted", "delivered", "held"].map(|how| (count(how), how));
    let shown = shown.iter().filter(|(count, _)| *count > 0).map(|(count, how)| format!("{count} {how}"));
    shown.collect::<Vec<_>>().join(", ")
}

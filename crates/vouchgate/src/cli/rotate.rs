//! `rotate ...`: how old every key is, and the vault's master key.

use http::Method;
use serde_json::Value;
use vault::MasterKey;

use super::args::RotateCommand;
use super::io::{Exit, Failure, Io, Outcome};
use super::manage::{ask, done};
use super::print;
use super::table::{Column, text};

const ROWS: &[Column] = &[
    ("kind", |row| text(row, "kind")),
    ("name", |row| text(row, "name")),
    ("state", |row| text(row, "state")),
    ("days", |row| match (text(row, "age_days"), text(row, "limit_days")) {
        (age, limit) if limit.is_empty() => age,
        (age, limit) => format!("{age} of {limit}"),
    }),
    ("ends", |row| text(row, "ends_at")),
    ("due", |row| if row.get("due") == Some(&Value::Bool(true)) { "yes".to_owned() } else { String::new() }),
    ("what to do", |row| text(row, "todo")),
];

/// Run one of the commands.
pub(super) async fn run(command: RotateCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        RotateCommand::Status(state) => {
            // All of them at once.
            let answer = ask(io, &state, (Method::GET, "/rotation"), None).await?;
            let rows = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            print::list(io, state.json, ROWS, (&rows, "There are no keys yet."))?;
            Ok(Exit::Done)
        }
        RotateCommand::NewVaultKey { file } => {
            let key = MasterKey::generate(&*io.rng).map_err(|error| Failure::new(error.to_string()))?;
            key.create_file(&file).map_err(|error| Failure::new(error.to_string()))?;
            io.note(&format!(
                "Made master key {}: {}. Give every node a copy, and keep one elsewhere. Then name it in [vault].",
                key.id(),
                file.display()
            ));
            Ok(Exit::Done)
        }
        RotateCommand::VaultKey(state) => {
            let answer = ask(io, &state, (Method::POST, "/vault/rewrap"), None).await?;
            let (key, resealed) = (text(&answer, "key"), text(&answer, "resealed"));
            let left = answer.get("left").and_then(Value::as_array).map_or(0, Vec::len);
            let said = if left == 0 {
                "Nothing is sealed with another one: take the old one out of [vault] older, and keep its file as long as backups of its time."
            } else {
                "What is left is gone by itself within a day: vouchgate rotate status"
            };
            done(io, state.json, &answer, &format!("Sealed {resealed} values anew with master key {key}. {said}"))
        }
    }
}

//! `anomaly ...`: callers that were stopped because they behaved quite unlike themselves.

use http::Method;
use serde_json::Value;

use super::args::AnomalyCommand;
use super::io::{Exit, Io, Outcome};
use super::manage::{ask, ask_list, done};
use super::print;
use super::remote::segment;
use super::table::{Column, text};

const STOPS: &[Column] = &[
    ("id", |row| text(row, "id")),
    ("whom", |row| text(row, "whom")),
    ("action", |row| text(row, "action")),
    ("state", |row| {
        let restored = row.get("restored_at").is_some();
        let now = row.get("in_force") == Some(&Value::Bool(true));
        if restored {
            "let in again"
        } else if now {
            "in force"
        } else {
            "over"
        }
        .to_owned()
    }),
    ("why", |row| row.get("why").map(|why| text(why, "signals")).unwrap_or_default()),
    ("requests", |row| beside(row, "requests", "usual_requests")),
    ("since", |row| text(row, "since")),
    ("until", |row| text(row, "until")),
];

/// Run one of the commands.
pub(super) async fn run(command: AnomalyCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        AnomalyCommand::List(state) => {
            let rows = ask_list(io, &state, "/anomalies").await?;
            print::list(io, state.json, STOPS, (&rows, "Nobody was stopped."))?;
            Ok(Exit::Done)
        }
        AnomalyCommand::Restore { which, state } => {
            let path = format!("/anomalies/{}/restore", segment(&which));
            let answer = ask(io, &state, (Method::POST, &path), None).await?;
            let whom = text(&answer, "whom");
            done(io, state.json, &answer, &format!("Let in again: {whom}. For an hour it is only watched."))
        }
    }
}

/// What was done in the minute, beside what was usual.
fn beside(row: &Value, now: &str, usual: &str) -> String {
    let Some(why) = row.get("why") else { return String::new() };
    format!("{} (usual {})", text(why, now), text(why, usual))
}

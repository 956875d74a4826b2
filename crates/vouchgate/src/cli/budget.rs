//! `budget ...`: what budgets have spent, and raising them for a while.

use base::{Money, Timestamp};
use http::Method;
use serde_json::{Value, json};

use super::args::{BudgetCommand, NamedArgs, RaiseArgs};
use super::io::{Exit, Io, Outcome};
use super::manage::{ask, ask_list, done};
use super::print;
use super::remote::segment;
use super::table::{Column, text};

const ACCOUNTS: &[Column] = &[
    ("budget", |row| text(row, "budget")),
    ("whom", |row| text(row, "whom")),
    ("window", |row| text(row, "window")),
    ("limit", |row| amount(row, "limit")),
    ("raised", |row| amount(row, "raised")),
    ("spent", |row| amount(row, "spent")),
    ("held", |row| amount(row, "held")),
    ("leased", |row| amount(row, "leased")),
    ("remaining", |row| amount(row, "remaining")),
    ("resets", |row| moment(row, "resets")),
];

const RAISES: &[Column] = &[
    ("id", |row| text(row, "id")),
    ("budget", |row| text(row, "budget")),
    ("whom", |row| text(row, "whom")),
    ("by", |row| amount(row, "amount")),
    ("until", |row| moment(row, "until")),
    ("made by", |row| text(row, "by")),
    ("reason", |row| text(row, "reason")),
];

/// Run one of the commands.
pub(super) async fn run(command: BudgetCommand, io: &mut Io<'_>) -> Outcome {
    const NONE: &str = "No budget was used so far.";
    match command {
        BudgetCommand::List(state) => {
            let rows = ask_list(io, &state, "/budget-accounts").await?;
            print::list(io, state.json, ACCOUNTS, (&rows, NONE))?;
            Ok(Exit::Done)
        }
        BudgetCommand::Show(NamedArgs { name, state }) => {
            let rows = ask_list(io, &state, &format!("/budget-accounts?budget={}", segment(&name))).await?;
            print::list(io, state.json, ACCOUNTS, (&rows, "This budget was not used so far."))?;
            Ok(Exit::Done)
        }
        BudgetCommand::Raise(args) => raise(args, io).await,
        BudgetCommand::Raises(state) => {
            let answer = ask(io, &state, (Method::GET, "/budget-raises"), None).await?;
            let rows = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            print::list(io, state.json, RAISES, (&rows, "No budget is raised."))?;
            Ok(Exit::Done)
        }
        BudgetCommand::EndRaise { id, state } => {
            ask(io, &state, (Method::DELETE, &format!("/budget-raises/{id}")), None).await?;
            done(io, state.json, &json!({ "ended": id }), &format!("The raise {id} has ended."))
        }
    }
}

async fn raise(args: RaiseArgs, io: &mut Io<'_>) -> Outcome {
    let RaiseArgs { name, by, lasts, unit, whom, reason, state } = args;
    let amount = by.parse::<i64>().map_or_else(|_| Value::from(by.as_str()), Value::from);
    let mut body = json!({ "budget": name, "amount": amount, "for": lasts, "reason": reason });
    if let Some(object) = body.as_object_mut() {
        object
            .extend([("unit", unit), ("whom", whom)].into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?.into()))));
    }
    let answer = ask(io, &state, (Method::POST, "/budget-raises"), Some(body)).await?;
    let (id, until) = (text(&answer, "id"), moment(&answer, "until"));
    done(io, state.json, &answer, &format!("Raised the budget {name} by {by} until {until} (raise {id})."))
}

/// An amount in its unit: money is kept in billionths of a dollar.
fn amount(row: &Value, member: &str) -> String {
    let Some(number) = row.get(member).and_then(Value::as_i64) else { return String::new() };
    match row.get("unit").and_then(Value::as_str) {
        Some("nano_usd") => Money::from_nano_usd(i128::from(number)).to_string(),
        Some("requests") | None => number.to_string(),
        Some(unit) => format!("{number} {}", unit.replace('_', " ")),
    }
}

/// A moment in seconds since 1970.
fn moment(row: &Value, member: &str) -> String {
    row.get(member).and_then(Value::as_i64).map(|at| Timestamp::from_secs(at).rfc3339()).unwrap_or_default()
}

//! `app ...`, `device ...` and `arc ...`: apps, their installations, and why one was refused.

use http::Method;
use serde_json::{Value, json};

use super::args::{AppCommand, ArcCommand, DeviceCommand, DeviceListArgs};
use super::io::{Exit, Io, Outcome};
use super::manage::{ask, ask_list, done};
use super::print;
use super::remote::segment;
use super::table::{Column, text};

const APPS: &[Column] = &[
    ("app", |row| text(row, "name")),
    ("platforms", |row| {
        let kinds = ["ios", "android", "web", "firebase", "approov"].into_iter();
        kinds.filter(|kind| row.get(kind).is_some()).collect::<Vec<_>>().join(" ")
    }),
    ("scopes", |row| text(row, "scopes")),
    ("proof", |row| text(row, "proof")),
    ("state", |row| if row.get("disabled") == Some(&Value::Bool(true)) { "disabled" } else { "enabled" }.to_owned()),
    ("source", |row| text(row, "source")),
];

const DEVICES: &[Column] = &[
    ("device", |row| text(row, "id")),
    ("app", |row| text(row, "app")),
    ("platform", |row| text(row, "platform")),
    ("evidence", |row| text(row, "evidence")),
    ("level", |row| text(row, "level")),
    ("version", |row| text(row, "version")),
    ("status", |row| text(row, "status")),
    ("seen", |row| text(row, "seen")),
];

/// Run one of the commands about apps.
pub(super) async fn app(command: AppCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        AppCommand::List(state) => {
            let rows = ask_list(io, &state, "/apps").await?;
            print::list(io, state.json, APPS, (&rows, "There are no apps."))?;
            Ok(Exit::Done)
        }
        AppCommand::Show(named) => {
            let path = format!("/apps/{}", segment(&named.name));
            let answer = ask(io, &named.state, (Method::GET, &path), None).await?;
            io.json(&answer)?;
            Ok(Exit::Done)
        }
    }
}

/// Run one of the commands about installations.
pub(super) async fn device(command: DeviceCommand, io: &mut Io<'_>) -> Outcome {
    let (change, args) = match command {
        DeviceCommand::List(args) => return list(&args, io).await,
        DeviceCommand::Show(named) => {
            let path = format!("/devices/{}", segment(&named.name));
            let answer = ask(io, &named.state, (Method::GET, &path), None).await?;
            io.json(&answer)?;
            return Ok(Exit::Done);
        }
        DeviceCommand::Delete(named) => {
            let path = format!("/devices/{}", segment(&named.name));
            ask(io, &named.state, (Method::DELETE, &path), None).await?;
            return done(io, named.state.json, &json!({ "deleted": named.name }), "Forgotten; its tokens have ended.");
        }
        DeviceCommand::Quarantine(args) => ("quarantine", args),
        DeviceCommand::Release(args) => ("release", args),
        DeviceCommand::Revoke(args) => ("revoke", args),
    };
    let path = format!("/devices/{}/{change}", segment(&args.id));
    let answer = ask(io, &args.state, (Method::POST, &path), Some(json!({ "reason": args.reason }))).await?;
    let said = format!("{} is {}.", args.id, text(&answer, "status"));
    done(io, args.state.json, &answer, &said)
}

async fn list(args: &DeviceListArgs, io: &mut Io<'_>) -> Outcome {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [("app", &args.app), ("status", &args.status), ("search", &args.search)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let path = if query.is_empty() { "/devices".to_owned() } else { format!("/devices?{query}") };
    let rows = ask_list(io, &args.state, &path).await?;
    print::list(io, args.state.json, DEVICES, (&rows, "There are no installations."))?;
    Ok(Exit::Done)
}

/// Run one of the commands about codes.
pub(super) async fn arc(command: ArcCommand, io: &mut Io<'_>) -> Outcome {
    let ArcCommand::Show(named) = command;
    let path = format!("/arc/{}", segment(&named.name));
    let answer = ask(io, &named.state, (Method::GET, &path), None).await?;
    io.json(&answer)?;
    Ok(Exit::Done)
}

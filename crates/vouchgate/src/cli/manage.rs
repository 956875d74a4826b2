//! Commands that touch state. Each asks the admin API, wherever it is.

mod client;
mod runtime_secret;
mod secret;
mod token;

use http::Method;
use serde_json::{Value, json};

use super::args::{
    AdminCommand, AdminTokenCommand, ApikeyCommand, ApikeyCreateArgs, ClientCommand, NamedArgs, RoleArg, SecretCommand,
    SecretSetArgs, StateArgs,
};
use super::io::{Exit, Failure, Io, Outcome};
use super::place::Place;
use super::print;
use super::remote::{Api, answers, segment};
use super::table::text;
use control::credential::{FileHash, Kind};

pub(super) use token::{key, token};

/// One request to the operations on a place.
pub(super) async fn ask(
    io: &mut Io<'_>,
    state: &StateArgs,
    (method, path): (Method, &str),
    body: Option<Value>,
) -> Result<Value, Failure> {
    let opened = Place::find(state, io)?.open(io).await?;
    let answer = opened.api.call(method, path, body.as_ref()).await;
    opened.close().await;
    answer
}

pub(super) async fn ask_list(io: &mut Io<'_>, state: &StateArgs, path: &str) -> Result<Vec<Value>, Failure> {
    let opened = Place::find(state, io)?.open(io).await?;
    let answer = opened.api.list(path).await;
    opened.close().await;
    answer
}

/// Scopes as a list.
fn scopes(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// Print a credential that is shown once: alone on standard output, the rest as messages.
fn shown_once(io: &mut Io<'_>, json: bool, answer: &Value, (member, said): (&str, &str)) -> Outcome {
    if json {
        io.json(answer)?;
    } else {
        io.note(said);
        io.line(&text(answer, member))?;
    }
    Ok(Exit::Done)
}

/// `cache clear`: only a server that runs keeps answers.
pub(super) async fn clear_cache(state: &StateArgs, io: &mut Io<'_>) -> Outcome {
    let place = Place::find(state, io)?;
    let socket = place.data_dir().join(control::admin::SOCKET_NAME);
    if !answers(&socket).await {
        io.note("No server runs there, so no answers are kept.");
        return Ok(Exit::No);
    }
    Api::Running(socket).call(Method::POST, "/cache/clear", None).await?;
    done(io, state.json, &json!({ "cleared": true }), "Every answer that was kept is forgotten.")
}

/// `client ...`
pub(super) async fn client(command: ClientCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        ClientCommand::Create(args) => client::create(*args, io).await,
        ClientCommand::Rotate { name, overlap, state } => {
            let path = format!("/clients/{}/rotate", segment(&name));
            let answer = ask(io, &state, (Method::POST, &path), Some(json!({ "overlap": overlap }))).await?;
            let said = format!("The old secret of {name} works for {overlap} more. The new one, shown this once:");
            shown_once(io, state.json, &answer, ("client_secret", &said))
        }
        ClientCommand::List(state) => {
            let rows = ask_list(io, &state, "/clients").await?;
            print::list(
                io,
                state.json,
                print::CLIENTS,
                (&rows, "There are no clients; make one: vouchgate client create NAME"),
            )?;
            Ok(Exit::Done)
        }
        ClientCommand::Show(NamedArgs { name, state }) => {
            let answer = ask(io, &state, (Method::GET, &format!("/clients/{}", segment(&name))), None).await?;
            print::object(io, state.json, &answer)?;
            Ok(Exit::Done)
        }
        ClientCommand::Disable(args) => switch(io, args, "disable").await,
        ClientCommand::Enable(args) => switch(io, args, "enable").await,
        ClientCommand::Delete(args) => delete(io, args, ("client", "clients")).await,
        ClientCommand::Hash { stdin, json } => hash(stdin, json, io),
    }
}

async fn switch(io: &mut Io<'_>, NamedArgs { name, state }: NamedArgs, way: &str) -> Outcome {
    let path = format!("/clients/{}/{way}", segment(&name));
    let answer = ask(io, &state, (Method::POST, &path), None).await?;
    done(io, state.json, &answer, &format!("The client {name} is {way}d."))
}

/// Say that something was done; with `--json`, print what it is now.
pub(super) fn done(io: &mut Io<'_>, json: bool, answer: &Value, said: &str) -> Outcome {
    if json {
        io.json(answer)?;
    } else {
        io.note(said);
    }
    Ok(Exit::Done)
}

async fn delete(io: &mut Io<'_>, NamedArgs { name, state }: NamedArgs, (kind, path): (&str, &str)) -> Outcome {
    ask(io, &state, (Method::DELETE, &format!("/{path}/{}", segment(&name))), None).await?;
    done(io, state.json, &json!({ "deleted": name }), &format!("Deleted the {kind} {name}."))
}

fn hash(stdin: bool, json: bool, io: &mut Io<'_>) -> Outcome {
    let made = !stdin;
    let secret = if stdin { io.read_value("the secret")? } else { Kind::ClientSecret.generate(&*io.rng) };
    let hash = FileHash::of(secret.expose()).map_err(|e| Failure::new(e.to_string()))?.to_string();
    match (json, made) {
        (true, true) => io.json(&json!({ "client_secret": secret.expose(), "hash": hash }))?,
        (true, false) => io.json(&json!({ "hash": hash }))?,
        (false, true) => {
            io.note("For the client, shown this once:");
            io.line(secret.expose())?;
            io.note("For the configuration file:");
            io.line(&format!("auth = {{ method = \"client_secret\", hash = \"{hash}\" }}"))?;
        }
        (false, false) => io.line(&hash)?,
    }
    Ok(Exit::Done)
}

/// `secret ...`
pub(super) async fn secret(command: SecretCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        SecretCommand::Set(SecretSetArgs { name, origin, state }) => {
            let value = io.read_value("the secret")?;
            let mut body = json!({ "value": value.expose() });
            if let (Some(object), Some(origin)) = (body.as_object_mut(), origin) {
                object.insert("origin".into(), origin.into());
            }
            let answer = ask(io, &state, (Method::PUT, &format!("/secrets/{}", segment(&name))), Some(body)).await?;
            kept(io, state.json, &answer)
        }
        SecretCommand::Rotate(args) => secret::rotate(args, io).await,
        SecretCommand::Activate { name, keep_old, state } => {
            let path = format!("/secrets/{}/activate", segment(&name));
            let answer = ask(io, &state, (Method::POST, &path), Some(json!({ "keep_old": keep_old }))).await?;
            secret::in_use(io, state.json, &answer)
        }
        SecretCommand::Retire { name, next, state } => {
            let slot = if next { "next" } else { "old" };
            let path = format!("/secrets/{}/retire", segment(&name));
            let answer = ask(io, &state, (Method::POST, &path), Some(json!({ "slot": slot }))).await?;
            done(io, state.json, &answer, &format!("The {slot} value of the secret {name} is forgotten."))
        }
        SecretCommand::List(state) => {
            let rows = ask_list(io, &state, "/secrets").await?;
            print::list(
                io,
                state.json,
                print::SECRETS,
                (&rows, "There are no secrets; set one: vouchgate secret set NAME < FILE"),
            )?;
            Ok(Exit::Done)
        }
        SecretCommand::Delete(args) => delete(io, args, ("secret", "secrets")).await,
        SecretCommand::Runtime(command) => runtime_secret::run(command, io).await,
    }
}

fn kept(io: &mut Io<'_>, json: bool, answer: &Value) -> Outcome {
    let (name, version, origin) = (text(answer, "name"), text(answer, "version"), text(answer, "origin"));
    let bound = if origin.is_empty() { String::new() } else { format!("; it is sent to {origin} only") };
    done(io, json, answer, &format!("Kept version {version} of the secret {name}{bound}."))
}

/// `apikey ...`
pub(super) async fn apikey(command: ApikeyCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        ApikeyCommand::Create(ApikeyCreateArgs { name, scope, subject, client, expires, state }) => {
            let body = json!({
                "name": name, "scopes": scopes(&scope), "subject": subject, "client": client, "expires": expires,
            });
            let answer = ask(io, &state, (Method::POST, "/apikeys"), Some(body)).await?;
            let said =
                format!("Made the key {name}. It works where a policy names it (who.key). The key, shown this once:");
            shown_once(io, state.json, &answer, ("api_key", &said))
        }
        ApikeyCommand::List(state) => {
            let rows = ask_list(io, &state, "/apikeys").await?;
            print::list(
                io,
                state.json,
                print::APIKEYS,
                (&rows, "There are no keys; make one: vouchgate apikey create NAME"),
            )?;
            Ok(Exit::Done)
        }
        ApikeyCommand::Revoke(args) => revoke(io, args, ("key", "apikeys")).await,
    }
}

/// `admin ...`
pub(super) async fn admin(command: AdminCommand, io: &mut Io<'_>) -> Outcome {
    let AdminCommand::Token(command) = command;
    match command {
        AdminTokenCommand::Create { name, role, expires, state } => {
            let role = match role {
                RoleArg::Owner => "owner",
                RoleArg::Operator => "operator",
                RoleArg::Auditor => "auditor",
                RoleArg::Viewer => "viewer",
            };
            let body = json!({ "name": name, "role": role, "expires": expires });
            let answer = ask(io, &state, (Method::POST, "/admin-tokens"), Some(body)).await?;
            let said = format!("Made the admin token {name} ({role}). The token, shown this once:");
            shown_once(io, state.json, &answer, ("admin_token", &said))
        }
        AdminTokenCommand::List(state) => {
            let rows = ask_list(io, &state, "/admin-tokens").await?;
            let none = "There are no admin tokens; make one: vouchgate admin token create NAME --role owner";
            print::list(io, state.json, print::ADMIN_TOKENS, (&rows, none))?;
            Ok(Exit::Done)
        }
        AdminTokenCommand::Revoke(args) => revoke(io, args, ("admin token", "admin-tokens")).await,
    }
}

async fn revoke(io: &mut Io<'_>, NamedArgs { name, state }: NamedArgs, (kind, path): (&str, &str)) -> Outcome {
    let answer = ask(io, &state, (Method::DELETE, &format!("/{path}/{}", segment(&name))), None).await?;
    done(io, state.json, &answer, &format!("Revoked the {kind} {name}."))
}

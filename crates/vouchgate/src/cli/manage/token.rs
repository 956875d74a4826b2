//! `token ...` and `key ...`.

use http::Method;
use serde_json::{Map, Value, json};

use super::{ask, ask_list, done};
use crate::cli::args::{KeyCommand, MintArgs, RevokeArgs, RotateArgs, TokenCommand};
use crate::cli::io::{Exit, Failure, Io, Outcome};
use crate::cli::print;
use crate::cli::table::{printable, text};

/// `token ...`
pub(in crate::cli) async fn token(command: TokenCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        TokenCommand::Mint(args) => mint(args, io).await,
        TokenCommand::Revoke(args) => revoke(*args, io).await,
        TokenCommand::Revocations(state) => {
            let rows = ask_list(io, &state, "/revocations").await?;
            print::list(io, state.json, print::REVOCATIONS, (&rows, "Nothing is revoked."))?;
            Ok(Exit::Done)
        }
        TokenCommand::Lift { id, state } => {
            let answer = ask(io, &state, (Method::DELETE, &format!("/revocations/{id}")), None).await?;
            let said = format!("Lifted revocation {id} ({}). Refresh tokens it ended stay ended.", described(&answer));
            done(io, state.json, &answer, &said)
        }
    }
}

async fn mint(MintArgs { client, subject, scope, ttl, jkt, state }: MintArgs, io: &mut Io<'_>) -> Outcome {
    let mut body = json!({ "client": client });
    for (member, value) in [("subject", subject), ("scope", scope), ("ttl", ttl), ("jkt", jkt)] {
        if let (Some(object), Some(value)) = (body.as_object_mut(), value) {
            object.insert(member.into(), value.into());
        }
    }
    let answer = ask(io, &state, (Method::POST, "/tokens"), Some(body)).await?;
    if state.json {
        io.json(&answer)?;
    } else {
        io.line(&text(&answer, "access_token"))?;
    }
    Ok(Exit::Done)
}

async fn revoke(args: RevokeArgs, io: &mut Io<'_>) -> Outcome {
    let body = asked(&args, io)?;
    let answer = ask(io, &args.state, (Method::POST, "/revocations"), Some(body)).await?;
    let before = text(&answer, "before");
    let when = if before.is_empty() { "at any time".to_owned() } else { format!("before {before}") };
    let said = format!("Revoked {} (revocation {}), issued {when}.", described(&answer), text(&answer, "id"));
    done(io, args.state.json, &answer, &said)
}

fn asked(args: &RevokeArgs, io: &mut Io<'_>) -> Result<Value, Failure> {
    let mut body = Map::new();
    let named = [
        ("token", &args.jti),
        ("subject", &args.subject),
        ("client", &args.client),
        ("device", &args.device),
        ("session", &args.session),
        ("key", &args.kid),
    ];
    if let Some((kind, value)) = named.into_iter().find_map(|(kind, value)| Some((kind, value.as_ref()?))) {
        body.insert("kind".into(), kind.into());
        body.insert("value".into(), value.as_str().into());
    } else if args.token_stdin {
        let token = io.read_value("the token")?;
        body.insert("kind".into(), "token".into());
        body.insert("token".into(), token.expose().trim().into());
    } else {
        body.insert("kind".into(), if args.issuer.is_some() { "issuer" } else { "everything" }.into());
    }
    for (member, value) in [("issuer", &args.issuer), ("before", &args.before), ("reason", &args.reason)] {
        if let Some(value) = value {
            body.insert(member.into(), value.as_str().into());
        }
    }
    Ok(Value::Object(body))
}

/// What a revocation is about, in words.
fn described(revocation: &Value) -> String {
    let (kind, value, issuer) = (text(revocation, "kind"), text(revocation, "value"), text(revocation, "issuer"));
    printable(&match (kind.as_str(), value.as_str()) {
        ("everything", _) => "all tokens".to_owned(),
        ("issuer", _) => format!("all tokens of {issuer}"),
        ("token", jti) => format!("the token {jti} of {issuer}"),
        ("key", value) => format!("what the key {value} of {issuer} signs"),
        (kind, value) => format!("the tokens of the {kind} {value} of {issuer}"),
    })
}

/// `key ...`
pub(in crate::cli) async fn key(command: KeyCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        KeyCommand::List(state) => {
            let rows = ask_list(io, &state, "/keys").await?;
            let none = "There are no signing keys; the first start makes one.";
            print::list(io, state.json, print::KEYS, (&rows, none))?;
            Ok(Exit::Done)
        }
        KeyCommand::Rotate(RotateArgs { now, compromised, reason, state }) => {
            let body = json!({ "now": now, "compromised": compromised, "reason": reason });
            let mut answer = ask(io, &state, (Method::POST, "/keys/rotate"), Some(body)).await?;
            let keys = answer.get_mut("items").map(Value::take).unwrap_or_default();
            let keys = keys.as_array().cloned().unwrap_or_default();
            if !state.json {
                let waits = keys.iter().find(|key| text(key, "state") == "next");
                io.note(&match (&compromised, waits) {
                    (Some(kid), _) => format!("The key {kid} and all it signed are refused from now on."),
                    (None, Some(next)) => {
                        format!(
                            "The key {} is published, and signs from {}.",
                            text(next, "kid"),
                            text(next, "signs_from")
                        )
                    }
                    (None, None) => "The next key signs from now on.".to_owned(),
                });
            }
            print::list(io, state.json, print::KEYS, (&keys, "There are no signing keys."))?;
            Ok(Exit::Done)
        }
    }
}

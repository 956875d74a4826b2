//! `secret rotate`: replacing a value while it is used.

use http::Method;
use serde_json::{Value, json};

use super::super::args::SecretRotateArgs;
use super::super::io::{Io, Outcome};
use super::super::remote::segment;
use super::super::table::text;
use super::{ask, done};

/// `secret rotate`
pub(super) async fn rotate(args: SecretRotateArgs, io: &mut Io<'_>) -> Outcome {
    let SecretRotateArgs { name, no_probe, next, keep_old, state } = args;
    let value = io.read_value("the secret")?;
    let path = format!("/secrets/{}/rotate", segment(&name));
    let body = json!({ "value": value.expose(), "probe": !no_probe, "next": next, "keep_old": keep_old });
    let answer = ask(io, &state, (Method::POST, &path), Some(body)).await?;
    if !state.json {
        let probed = text(&answer, "probed");
        io.note(&format!("Asked of the new value: {probed}."));
    }
    if next {
        let said = format!(
            "Kept the next value of the secret {name}. It is used where the current one is refused; use it at once: vouchgate secret activate {name}"
        );
        return done(io, state.json, &answer, &said);
    }
    in_use(io, state.json, &answer)
}

/// Say which value is in use now, and what becomes of the old one.
pub(super) fn in_use(io: &mut Io<'_>, json: bool, answer: &Value) -> Outcome {
    let (name, version) = (text(answer, "name"), text(answer, "version"));
    let slots = answer.get("slots").and_then(Value::as_array).into_iter().flatten();
    let old = slots.into_iter().find(|slot| text(slot, "slot") == "old").map(|slot| text(slot, "retires_at"));
    let old = match old {
        Some(end) => format!(
            " The old one is used where this one is refused, until {end}; forget it sooner: vouchgate secret retire {name}"
        ),
        None => " The old one is forgotten.".to_owned(),
    };
    done(io, json, answer, &format!("Version {version} of the secret {name} is in use.{old}"))
}

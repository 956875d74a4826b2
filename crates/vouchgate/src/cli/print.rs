//! How the answers of the admin API look on a terminal.

use serde_json::Value;

use super::io::{Failure, Io};
use super::table::{Column, print as print_table, printable, text};

pub(super) const CLIENTS: &[Column] = &[
    ("client", |row| text(row, "name")),
    ("scopes", |row| text(row, "scopes")),
    ("token ttl", |row| text(row, "token_ttl")),
    ("state", |row| if row.get("disabled") == Some(&Value::Bool(true)) { "disabled" } else { "enabled" }.to_owned()),
    ("secrets", |row| text(row, "live_secrets")),
    ("auth", |row| row.get("auth").map(|auth| text(auth, "method")).unwrap_or_default()),
    ("source", |row| text(row, "source")),
];

pub(super) const SECRETS: &[Column] = &[
    ("secret", |row| text(row, "name")),
    ("version", |row| text(row, "version")),
    ("origin", |row| text(row, "origin")),
    ("fingerprint", |row| text(row, "fingerprint")),
    ("ends with", |row| text(row, "last4")),
    ("used by", |row| text(row, "used_by")),
    ("set", |row| day(row, "created_at")),
    ("beside", |row| beside(row)),
];

/// The values beside the current one: `next 3`, `old 1`.
fn beside(row: &Value) -> String {
    let slots = row.get("slots").and_then(Value::as_array).into_iter().flatten();
    slots.map(|slot| format!("{} {}", text(slot, "slot"), text(slot, "version"))).collect::<Vec<_>>().join(", ")
}

pub(super) const KEYS: &[Column] = &[
    ("kid", |row| text(row, "kid")),
    ("alg", |row| text(row, "alg")),
    ("state", |row| text(row, "state")),
    ("made", |row| day(row, "created_at")),
    ("signs from", |row| minute(row, "signs_from")),
    ("gone at", |row| minute(row, "expires_at")),
];

pub(super) const REVOCATIONS: &[Column] = &[
    ("id", |row| text(row, "id")),
    ("what", |row| text(row, "kind")),
    ("issuer", |row| text(row, "issuer")),
    ("which", |row| text(row, "value")),
    ("issued before", |row| minute(row, "before")),
    ("state", |row| if row.get("lifted_at").is_some() { "lifted" } else { "in force" }.to_owned()),
    ("by", |row| text(row, "by")),
    ("reason", |row| text(row, "reason")),
];

pub(super) const APIKEYS: &[Column] = &[
    ("key", |row| text(row, "name")),
    ("ends with", |row| text(row, "last4")),
    ("state", |row| text(row, "state")),
    ("subject", |row| text(row, "subject")),
    ("scopes", |row| text(row, "scopes")),
    ("expires", |row| day(row, "expires_at")),
    ("last used", |row| day(row, "last_used_at")),
];

pub(super) const ADMIN_TOKENS: &[Column] = &[
    ("token", |row| text(row, "name")),
    ("role", |row| text(row, "role")),
    ("state", |row| text(row, "state")),
    ("made", |row| day(row, "created_at")),
    ("expires", |row| day(row, "expires_at")),
];

/// The date of an RFC 3339 time.
fn day(row: &Value, member: &str) -> String {
    let time = text(row, member);
    time.split('T').next().unwrap_or_default().to_owned()
}

/// The date and minute of an RFC 3339 time.
pub(super) fn minute(row: &Value, member: &str) -> String {
    let time = text(row, member);
    time.get(..16).map(|time| time.replace('T', " ")).unwrap_or_default()
}

/// Print a list as JSON or as a table.
pub(super) fn list(
    io: &mut Io<'_>,
    json: bool,
    columns: &[Column],
    (rows, none): (&[Value], &str),
) -> Result<(), Failure> {
    if json { io.json(&Value::Array(rows.to_vec())) } else { print_table(io, columns, rows, none) }
}

/// Print one object, member by member.
pub(super) fn object(io: &mut Io<'_>, json: bool, value: &Value) -> Result<(), Failure> {
    if json {
        return io.json(value);
    }
    let Some(members) = value.as_object() else { return io.json(value) };
    let width = members.keys().map(String::len).max().unwrap_or(0);
    for name in members.keys() {
        io.line(format!("{name:width$}  {}", printable(&text(value, name))).trim_end())?;
    }
    Ok(())
}

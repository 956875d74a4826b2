//! `audit ...`: verify offline, export, checkpoints and proofs, and the end of what can be read of a subject.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use audit::disk::{Disk, RealDisk};
use audit::note::Verifier;
use audit::verify::{self, Trusted};
use audit::{Reader, export};
use base::Timestamp;
use control::MOMENTS;
use http::Method;
use serde_json::{Value, json};

use super::args::{AuditCommand, AuditExportArgs, AuditVerifyArgs, EraseArgs, RotateAuditKeyArgs, StateArgs};
use super::io::{Exit, Failure, Io, Outcome};
use super::kept::{checkpoints, key, small, unreadable};
use super::manage::{ask, done};
use super::place::Place;
use super::table::text;

/// Run one of the commands.
pub(super) async fn run(command: AuditCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        AuditCommand::Verify(args) => verify(&args, io).await,
        AuditCommand::Export(args) => export(&args, io).await,
        AuditCommand::Checkpoint(state) => {
            let answer = ask(io, &state, (Method::GET, "/audit-checkpoint"), None).await?;
            if state.json {
                io.json(&answer)?;
            } else {
                write!(io.stdout, "{}", text(&answer, "checkpoint"))?;
            }
            Ok(Exit::Done)
        }
        AuditCommand::Proof { index, state } => {
            let answer = ask(io, &state, (Method::GET, &format!("/audit/{index}/proof")), None).await?;
            io.json(&answer)?;
            Ok(Exit::Done)
        }
        AuditCommand::Keys(state) => {
            let answer = ask(io, &state, (Method::GET, "/audit-keys"), None).await?;
            list(io, &state, &answer)
        }
        AuditCommand::RotateKey(args) => rotate_key(args, io).await,
        AuditCommand::EraseSubject(EraseArgs { subject, issuer, state }) => {
            let body = json!({ "subject": subject, "issuer": issuer });
            let body = Value::Object(
                body.as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(_, v)| !v.is_null())
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
            );
            let answer = ask(io, &state, (Method::POST, "/audit-erasures"), Some(body)).await?;
            let said =
                format!("Destroyed the key: the entries of {} can be read by nobody any more.", text(&answer, "id"));
            done(io, state.json, &answer, &said)
        }
    }
}

async fn verify(args: &AuditVerifyArgs, io: &mut Io<'_>) -> Outcome {
    let verifier = args.verifier.as_deref().map(key).transpose()?;
    let checkpoints = checkpoints(&args.checkpoint).await?;
    let trusted = Trusted { verifier, checkpoints };
    let report = if let Some(path) = &args.export {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        verify::exported(&mut BufReader::new(file), &trusted)
    } else {
        let dir = log_dir(&args.state, io)?;
        if !dir.is_dir() {
            return Err(Failure::new(format!("there is no audit log at {}", dir.display())));
        }
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        verify::directory(&disk, &dir, &trusted)
    };
    io.json(&serde_json::to_value(&report).map_err(|error| Failure::new(error.to_string()))?)?;
    if let Some(newest) = report.changes.last().filter(|_| report.valid) {
        io.note(&format!("The log's key was replaced; the one to trust is {}", newest.key));
    }
    if report.valid && report.outside == 0 {
        io.note("Nothing was compared with a checkpoint from elsewhere: who has the log's key could have written it anew, or cut it. See --checkpoint.");
    }
    Ok(if report.valid { Exit::Done } else { Exit::No })
}

fn list(io: &mut Io<'_>, state: &StateArgs, answer: &Value) -> Outcome {
    if state.json {
        io.json(answer)?;
        return Ok(Exit::Done);
    }
    // Alone on its line, each can be copied as it is.
    for key in answer.get("items").and_then(Value::as_array).into_iter().flatten() {
        writeln!(io.stdout, "{}", text(key, "key"))?;
        if key.get("waiting") == Some(&Value::Bool(true)) {
            io.note(&format!("{} has not announced this key yet: its node follows when it runs.", text(key, "log")));
        }
    }
    Ok(Exit::Done)
}

async fn rotate_key(args: RotateAuditKeyArgs, io: &mut Io<'_>) -> Outcome {
    let RotateAuditKeyArgs { overlap, compromised, state } = args;
    let mut body = json!({ "compromised": compromised });
    if let (Some(overlap), Some(body)) = (overlap, body.as_object_mut()) {
        body.insert("overlap".to_owned(), overlap.into());
    }
    let answer = ask(io, &state, (Method::POST, "/audit-key-replacements"), Some(body)).await?;
    let key = answer.get("log").map(|log| text(log, "key")).unwrap_or_default();
    let signs = if compromised {
        "it alone signs from now on".to_owned()
    } else {
        format!("the one before it signs too until {}", text(&answer, "until"))
    };
    let said = format!(
        "The log's key is now {key}; {signs}. Keep it elsewhere; `vouchgate audit keys` lists those of every node."
    );
    done(io, state.json, &answer, &said)
}

async fn export(args: &AuditExportArgs, io: &mut Io<'_>) -> Outcome {
    let now = io.clock.now();
    let time = |name: &str, text: &Option<String>| -> Result<Option<Timestamp>, Failure> {
        let parsed = text.as_deref().map(|text| control::moment(text, now).ok_or(text));
        parsed.transpose().map_err(|text| Failure::new(format!("--{name}: {text} is not {MOMENTS}")))
    };
    let (since, until) = (time("since", &args.since)?, time("until", &args.until)?);
    // So that the newest entries are covered.
    ask(io, &args.state, (Method::GET, "/audit-checkpoint"), None).await?;
    let dir = log_dir(&args.state, io)?;
    let failed = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
    let vkey = small(&dir.join(audit::VERIFIER))?;
    let verifier = Verifier::parse(&String::from_utf8_lossy(&vkey)).map_err(|error| failed(&error))?;
    let reader = Reader::open(Arc::new(RealDisk), &dir, &verifier).map_err(|error| failed(&error))?;
    let range = between(&reader, since, until).map_err(|error| failed(&error))?;
    let file = File::options().write(true).create_new(true).mode(0o600).open(&args.file);
    let file = file.map_err(|error| Failure::new(format!("cannot write {}: {error}", args.file.display())))?;
    let mut out = BufWriter::new(file);
    let written = export::write(&reader, range.clone(), &mut out).map_err(|error| failed(&error))?;
    out.flush()?;
    out.get_ref().sync_all()?;
    let answer = json!({
        "entries": written, "from": range.start, "to": range.end, "size": reader.checkpoint().size, "key": verifier.to_string(),
    });
    let said = format!(
        "Wrote {written} entries to {}. Verify them with: vouchgate audit verify --export {} --key {verifier}",
        args.file.display(),
        args.file.display()
    );
    done(io, args.state.json, &answer, &said)
}

/// The entries from the first that is not before `since` to the last that is before `until`, by what they say of themselves.
fn between(
    reader: &Reader,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<std::ops::Range<u64>, audit::LogError> {
    let size = reader.checkpoint().size;
    if since.is_none() && until.is_none() {
        return Ok(0..size);
    }
    let (mut first, mut end) = (None, 0);
    let start = reader.minimum()?;
    for bundle in start / 256..size.div_ceil(256) {
        for (index, entry) in (bundle * 256..).zip(reader.bundle(bundle)?) {
            let value: Value = serde_json::from_slice(&entry).unwrap_or(Value::Null);
            let at = value.get("at").and_then(Value::as_str).and_then(Timestamp::parse_rfc3339);
            let within = at.is_some_and(|at| since.is_none_or(|s| at >= s) && until.is_none_or(|u| at < u));
            if within {
                first.get_or_insert(index);
                end = index + 1;
            }
        }
    }
    Ok(first.map_or(size..size, |first| first..end))
}

/// The log of a place; or the directory itself, where a copy of a log is named.
fn log_dir(state: &StateArgs, io: &mut Io<'_>) -> Result<PathBuf, Failure> {
    if let Some(dir) = state.data_dir.as_ref().filter(|dir| dir.join("checkpoint").is_file()) {
        return Ok(dir.clone());
    }
    Ok(Place::find(state, io)?.data_dir().join(control::recording::DIRECTORY))
}

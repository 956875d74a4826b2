//! `vouchgate dpop verify`: one proof, the request it came with, a verdict.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use base::{Secret, Timestamp};
use proof::dpop::{Question, TargetUri, inspect};

use super::args::{DpopCommand, DpopVerifyArgs};
use super::io::{Exit, Failure, Io, Outcome};

/// The largest token file, in bytes.
const MAX_TOKEN: u64 = 1 << 20;

/// Verify the proof on standard input.
pub(super) fn run(command: DpopCommand, io: &mut Io<'_>) -> Outcome {
    let DpopCommand::Verify(args) = command;
    let target = target(&args)?;
    let token = args.token_file.as_deref().map(read).transpose()?;
    // More than any proof is a proof that is too long, not a failure to read one.
    let proof = io.read_start("a proof")?;
    let question = Question {
        method: &args.method,
        target: &target,
        token: token.as_ref().map(|token| token.expose().as_slice()),
        nonce: args.nonce.as_deref(),
        max_age: Duration::from_secs(args.max_age),
        now: args.now.map_or_else(|| io.clock.now(), Timestamp::from_secs),
    };
    let verdict = inspect(proof.expose(), &question);
    let printed = serde_json::to_string(&verdict).map_err(|e| Failure::new(e.to_string()))?;
    io.line(&printed)?;
    Ok(if verdict.valid { Exit::Done } else { Exit::No })
}

/// The request's target. The operator's own words: what is wrong with them is wrong usage, not an answer.
fn target(args: &DpopVerifyArgs) -> Result<TargetUri, Failure> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if args.method.is_empty() || !args.method.bytes().all(is_token) {
        return Err(Failure::new(format!("--method {:?} is no HTTP method", args.method)));
    }
    TargetUri::parse(&args.url).map_err(|e| Failure::new(format!("--url cannot be a request's target: {e}")))
}

fn read(file: &Path) -> Result<Secret<Vec<u8>>, Failure> {
    let failed = |why: String| Failure::new(format!("cannot read {}: {why}", file.display()));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|e| failed(e.to_string()))?;
    let read = opened.take(MAX_TOKEN + 1).read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read.map_err(|e| failed(e.to_string()))?;
    if bytes.expose().len() as u64 > MAX_TOKEN {
        return Err(failed("it is over 1 MiB".to_owned()));
    }
    Ok(bytes)
}

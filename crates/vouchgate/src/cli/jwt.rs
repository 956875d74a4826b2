//! `vouchgate jwt verify`: one token, a key file, a verdict.

use std::path::Path;

use base::Timestamp;
use proof::inspect::{self, OperatorKeys, Options, Verdict};
use proof::jose::{Alg, KeySetError};

use super::args::{JwtCommand, VerifyArgs};
use super::io::{Exit, Failure, Io, Outcome};

/// The largest key file, in bytes.
const MAX_KEYS: u64 = 1 << 20;

/// Verify the token on standard input.
pub(super) fn run(command: JwtCommand, io: &mut Io<'_>) -> Outcome {
    let JwtCommand::Verify(args) = command;
    let wanted = args.alg.iter().map(|name| algorithm(name)).collect::<Result<Vec<Option<Alg>>, Failure>>()?;
    let algorithms: Vec<Alg> = wanted.iter().copied().flatten().collect();
    // More than any token is a token that is too long, not a failure to read one.
    let token = io.read_start("a token")?;
    if algorithms.is_empty() && !wanted.is_empty() {
        return verdict(&Verdict::algorithm_refused(), io);
    }
    let keys = match keys(&args, &algorithms)? {
        Ok(keys) => keys,
        Err(error) => {
            io.note(&format!("vouchgate: the keys: {error}"));
            return verdict(&Verdict::keys_refused(&error), io);
        }
    };
    let options = Options {
        algorithms,
        issuer: args.iss,
        audience: args.aud,
        typ: args.typ,
        now: args.now.map_or_else(|| io.clock.now(), Timestamp::from_secs),
        raw: args.raw,
    };
    verdict(&inspect::jwt(token.expose(), &keys, &options), io)
}

fn verdict(verdict: &Verdict, io: &mut Io<'_>) -> Outcome {
    let printed = serde_json::to_string(verdict).map_err(|e| Failure::new(e.to_string()))?;
    io.line(&printed)?;
    Ok(if verdict.valid { Exit::Done } else { Exit::No })
}

/// The keys of the file. Keys that must not be used are an answer (no token is valid under them); a file that cannot
/// be read is not.
fn keys(args: &VerifyArgs, algorithms: &[Alg]) -> Result<Result<OperatorKeys, KeySetError>, Failure> {
    match (&args.jwks, &args.secret_file) {
        (Some(file), _) => Ok(OperatorKeys::from_file(&read(file)?)),
        (None, Some(file)) => Ok(OperatorKeys::from_secret_file(&read(file)?, algorithms)),
        (None, None) => Err(Failure::new("give --jwks or --secret-file")),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::new(format!("cannot read {}: {why}", file.display()));
    if std::fs::metadata(file).map_err(|e| failed(e.to_string()))?.len() > MAX_KEYS {
        return Err(failed("it is over 1 MiB".to_owned()));
    }
    std::fs::read(file).map_err(|e| failed(e.to_string()))
}

/// An algorithm by name; `None` for one that JOSE has and this program refuses, under which no token is valid.
fn algorithm(name: &str) -> Result<Option<Alg>, Failure> {
    match Alg::from_name(name) {
        None if !REFUSED.contains(&name) => {
            let known: Vec<&str> = Alg::ALL.iter().map(|alg| alg.name()).collect();
            Err(Failure::new(format!("there is no algorithm {name:?}; there are {}", known.join(", "))))
        }
        found => Ok(found),
    }
}

/// Signature algorithms of JOSE that are never accepted.
const REFUSED: [&str; 6] = ["none", "HS1", "RS1", "ES256K", "Ed448", "ML-DSA-87"];

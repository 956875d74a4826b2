//! `vouchgate jwt verify`: one token, a key file, a verdict.

use std::path::Path;

use base::Timestamp;
use proof::inspect::{self, OperatorKeys, Options};
use proof::jose::Alg;

use super::args::{JwtCommand, VerifyArgs};
use super::io::{Exit, Failure, Io, Outcome};

/// The largest key file, in bytes.
const MAX_KEYS: u64 = 1 << 20;

/// Verify the token on standard input.
pub(super) fn run(command: JwtCommand, io: &mut Io<'_>) -> Outcome {
    let JwtCommand::Verify(args) = command;
    let algorithms = args.alg.iter().map(|name| algorithm(name)).collect::<Result<Vec<Alg>, Failure>>()?;
    let keys = keys(&args, &algorithms)?;
    let token = io.read_all("a token")?;
    let options = Options {
        algorithms,
        issuer: args.iss,
        audience: args.aud,
        typ: args.typ,
        now: args.now.map_or_else(|| io.clock.now(), Timestamp::from_secs),
        raw: args.raw,
    };
    let verdict = inspect::jwt(token.expose(), &keys, &options);
    let printed = serde_json::to_string(&verdict).map_err(|e| Failure::new(e.to_string()))?;
    io.line(&printed)?;
    Ok(if verdict.valid { Exit::Done } else { Exit::No })
}

fn keys(args: &VerifyArgs, algorithms: &[Alg]) -> Result<OperatorKeys, Failure> {
    match (&args.jwks, &args.secret_file) {
        (Some(file), _) => {
            OperatorKeys::from_file(&read(file)?).map_err(|e| Failure::new(format!("{}: {e}", file.display())))
        }
        (None, Some(file)) => OperatorKeys::from_secret_file(&read(file)?, algorithms)
            .map_err(|e| Failure::new(format!("{}: {e}", file.display()))),
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

fn algorithm(name: &str) -> Result<Alg, Failure> {
    Alg::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Alg::ALL.iter().map(|alg| alg.name()).collect();
        Failure::new(format!("there is no algorithm {name:?}; there are {}", known.join(", ")))
    })
}

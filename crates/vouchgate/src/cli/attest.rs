//! `vouchgate attest verify`: recorded evidence, offline, one verdict for each case. `simulate` is in [`crate::simulate`].

use std::io::Read as _;
use std::path::Path;

use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proof::attest::inspect::{File, MAX_FILE_LEN, Options, inspect};

use super::args::{AttestCommand, AttestVerifyArgs};
use super::io::{Exit, Failure, Io, Outcome};

/// The largest file of roots, in bytes.
const MAX_ROOTS: usize = 1 << 20;

/// The largest revocation list, in bytes.
const MAX_STATUS: usize = 32 << 20;

/// `attest ...`
pub(super) async fn run(command: AttestCommand, io: &mut Io<'_>) -> Outcome {
    match command {
        AttestCommand::Verify(args) => verify(&args, io),
        AttestCommand::Simulate(args) => crate::simulate::run(&args, io).await,
    }
}

/// Judge every case of a file.
fn verify(args: &AttestVerifyArgs, io: &mut Io<'_>) -> Outcome {
    let options = options(args)?;
    let bytes = read(&args.file, MAX_FILE_LEN)?;
    let directory = args.file.parent().unwrap_or(Path::new(""));
    // A name that leads elsewhere never gets here; a link that does is the operator's own.
    let beside = |name: &str| read(&directory.join(name), MAX_FILE_LEN).ok();
    let stem = args.file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let verdicts = inspect(File { bytes: &bytes, stem, beside: &beside }, &options, io.clock.now());
    let verdicts = verdicts.map_err(|error| Failure::new(format!("cannot judge {}: {error}", args.file.display())))?;
    for verdict in &verdicts {
        let printed = serde_json::to_string(verdict).map_err(|error| Failure::new(error.to_string()))?;
        io.line(&printed)?;
    }
    Ok(if verdicts.iter().all(|verdict| verdict.valid) { Exit::Done } else { Exit::No })
}

fn options(args: &AttestVerifyArgs) -> Result<Options, Failure> {
    let anchors = args.root.as_deref().map(|file| {
        let failed = |why: String| Failure::new(format!("--root {}: {why}", file.display()));
        let pem = String::from_utf8(read(file, MAX_ROOTS)?).map_err(|_| failed("not PEM".to_owned()))?;
        Options::roots(&pem).map_err(|error| failed(error.to_string()))
    });
    let status = args.status.as_deref().map(|file| {
        let list = read(file, MAX_STATUS)?;
        Options::status(&list).map_err(|error| Failure::new(format!("--status {}: {error}", file.display())))
    });
    let challenge = args.challenge.as_deref().map(|text| {
        let engines = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD];
        let decoded = engines.iter().find_map(|engine| engine.decode(text).ok());
        decoded.ok_or_else(|| Failure::new(format!("--challenge {text:?} is not base64")))
    });
    Ok(Options {
        anchors: anchors.transpose()?,
        status: status.transpose()?,
        app: args.app.clone(),
        challenge: challenge.transpose()?,
        now: args.now.map(Timestamp::from_secs),
    })
}

fn read(file: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::new(format!("cannot read {}: {why}", file.display()));
    let opened = std::fs::File::open(file).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    opened.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() > most {
        return Err(failed(format!("it is over {} MiB", most >> 20)));
    }
    Ok(bytes)
}

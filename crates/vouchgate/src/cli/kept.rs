//! Checkpoints of an audit log that were kept elsewhere: in a file, or where an address leads.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use audit::note::{self, MAX_NOTE, Verifier};
use http::StatusCode;
use net::{Egress, EgressConfig, FetchLimits, Question, Reach};
use url::Url;

use super::io::Failure;

/// The largest file of checkpoints that is read: some months of them.
const MAX_KEPT: usize = 256 << 20;
/// The largest answer to an address, and the time for it.
const FETCHED: FetchLimits = FetchLimits { bytes: 32 << 20, time: Duration::from_mins(1) };

/// The signed notes of all these places, each a file or an `https` address (plain `http` to loopback and private addresses only).
pub(super) async fn checkpoints(places: &[String]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = Vec::new();
    for place in places {
        let bytes = match place.split_once("://") {
            Some(("http" | "https", _)) => fetched(place).await?,
            _ => read(Path::new(place), MAX_KEPT)?,
        };
        let notes = note::split(&bytes);
        if notes.is_empty() {
            return Err(Failure::new(format!("there is no checkpoint in {place}")));
        }
        found.extend(notes.into_iter().map(<[u8]>::to_vec));
    }
    Ok(found)
}

async fn fetched(place: &str) -> Result<Vec<u8>, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("cannot fetch {place}: {why}"));
    let url = Url::parse(place).map_err(|error| failed(&error))?;
    let egress = Egress::new(EgressConfig::default()).map_err(|error| failed(&error))?;
    // Whoever types the address may name a machine of their own.
    let answer = net::query(&egress, &url, Reach::Private, Question::default(), FETCHED).await;
    let answer = answer.map_err(|error| failed(&error))?;
    if answer.status != StatusCode::OK {
        return Err(failed(&format!("the answer is {}", answer.status)));
    }
    Ok(answer.body.expose().clone())
}

/// A key as it is written, or in a file.
pub(super) fn key(text: &str) -> Result<Verifier, Failure> {
    let text = match Verifier::parse(text) {
        Ok(verifier) => return Ok(verifier),
        Err(_) if Path::new(text).is_file() => String::from_utf8_lossy(&small(Path::new(text))?).into_owned(),
        Err(_) => text.to_owned(),
    };
    Verifier::parse(&text).map_err(|error| Failure::new(format!("--key: {error}")))
}

/// A file that holds one note, or a key.
pub(super) fn small(path: &Path) -> Result<Vec<u8>, Failure> {
    read(path, MAX_NOTE)
}

fn read(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.len() > most {
        return Err(Failure::new(format!("{} is too long", path.display())));
    }
    Ok(bytes)
}

/// A file that cannot be read.
pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {error}", path.display()))
}

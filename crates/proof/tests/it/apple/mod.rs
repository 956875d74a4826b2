//! Apple App Attest: recorded devices and what is derived from them, made-up ones with one defect each, receipts.

mod files;
mod made;
mod receipts;

use std::path::PathBuf;

use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Where the recordings lie, or `None`, said on behalf of `test`.
fn recordings(test: &str) -> Option<PathBuf> {
    let Some(data) = vectors::data() else {
        vectors::skipped(test);
        return None;
    };
    Some(data.join("attestation"))
}

/// Every file of the directories of real devices whose name ends so.
fn real(root: &std::path::Path, ending: &str) -> Vec<(String, Value)> {
    let mut files = Vec::new();
    for directory in ["apple-guide", "bas-d", "uebelack", "veehaitch"] {
        for entry in std::fs::read_dir(root.join(directory)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(ending) {
                files.push((name, serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap()));
            }
        }
    }
    files.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(!files.is_empty(), "no {ending}");
    files
}

fn bytes(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn moment(value: &Value) -> Timestamp {
    Timestamp::parse_rfc3339(value.as_str().unwrap()).unwrap()
}

/// The point of a P-256 key in PEM.
fn point(pem: &Value) -> [u8; 65] {
    let body: String = pem.as_str().unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).unwrap();
    der[der.len() - 65..].try_into().unwrap()
}

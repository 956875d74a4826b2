//! Development only: finds what tests use from outside the repository.
//!
//! Shared test vectors and recorded provider traffic lie in the directory `VOUCHGATE_SHARED` names (default: `shared`
//! beside the checkout). The official SDKs and the small real model are installed by `cargo xtask test`, which names
//! them in further variables. PostgreSQL and Redis are found where they are installed; a test starts a server of its own. A clone without any of them still passes: a test that lacks something says so with
//! [`skip`] and returns.

pub mod postgres;
pub mod redis;
mod service;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The shared directory itself, or `None` where it is absent.
pub fn shared() -> Option<&'static Path> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = variable("VOUCHGATE_SHARED").unwrap_or_else(|| workspace().join("../shared"));
        dir.join("unpack").is_file().then_some(dir)
    })
    .as_deref()
}

/// The directory with the unpacked archives (`cassettes`, `jose`, `attestation`, `specs`, `guardrails`),
/// or `None` where the shared directory is absent. Unpacks on first use.
pub fn data() -> Option<&'static Path> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIR.get_or_init(|| {
        let into = workspace().join("target/shared-data");
        std::fs::create_dir_all(&into).ok()?;
        // Test binaries run side by side; only one may unpack at a time.
        let lock = std::fs::File::create(into.join(".lock")).ok()?;
        lock.lock().ok()?;
        let status = Command::new(shared()?.join("unpack")).arg(&into).status().ok()?;
        status.success().then_some(into)
    })
    .as_deref()
}

/// A Python that has the `openai` and `anthropic` packages.
pub fn python() -> Option<PathBuf> {
    variable("VOUCHGATE_TEST_PYTHON").filter(|file| file.is_file())
}

/// A directory whose `node_modules` holds `openai`, `@anthropic-ai/sdk` and `jsonwebtoken`: run `node` with a script
/// placed in it, or with it as the working directory. The `node` command itself is on the path then.
pub fn node_project() -> Option<PathBuf> {
    variable("VOUCHGATE_TEST_NODE").filter(|dir| dir.join("node_modules/jsonwebtoken").is_dir())
}

/// The small real model: start it with `node server.mjs PORT model.gguf` in this directory. It prints one line when
/// it listens.
pub fn model() -> Option<PathBuf> {
    variable("VOUCHGATE_TEST_MODEL").filter(|dir| dir.join("model.gguf").is_file())
}

/// Say that `test` did not run for want of the shared data.
pub fn skipped(test: &str) {
    skip(test, "the shared test data is absent (set VOUCHGATE_SHARED)");
}

/// Say that `test` did not run, and why: on standard error and, because the test harness hides what passing tests
/// print, in the file `VOUCHGATE_SKIP_LOG` names. `cargo xtask test` sums these up; CI fails on them.
#[allow(clippy::print_stderr)]
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}\n");
    eprint!("{line}");
    if let Some(log) = variable("VOUCHGATE_SKIP_LOG") {
        // One write in append mode, so that lines of tests that run side by side do not mix.
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            eprintln!("cannot note the skipped test: {error}");
        }
    }
}

#[allow(clippy::disallowed_methods)] // the one place where tests read the environment
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

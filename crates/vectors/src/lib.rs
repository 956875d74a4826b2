//! Development only: finds the shared test vectors and recorded provider traffic.
//!
//! They lie outside the repository, in the directory `VOUCHGATE_SHARED` names (default: `shared` beside the
//! checkout). A clone without them still passes its tests: those that need the data say `SKIPPED` and return.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The shared directory itself, or `None` where it is absent.
pub fn shared() -> Option<&'static Path> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIR.get_or_init(|| {
        #[allow(clippy::disallowed_methods)] // the one variable tests read
        let named = std::env::var_os("VOUCHGATE_SHARED").map(PathBuf::from);
        let dir = named.unwrap_or_else(|| workspace().join("../shared"));
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

/// Say on standard error that `test` did not run for want of the shared data. `cargo xtask ci` fails on such a line.
#[allow(clippy::print_stderr)]
pub fn skipped(test: &str) {
    eprintln!("SKIPPED: {test}: the shared test data is absent (set VOUCHGATE_SHARED)");
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

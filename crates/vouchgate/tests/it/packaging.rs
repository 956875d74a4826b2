//! The install script, with a release that is a directory: it installs what the digests state and nothing else.

mod deployed;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A release whose program is a script that says its version.
fn release(dir: &Path) -> PathBuf {
    let release = dir.join("release");
    std::fs::create_dir(&release).unwrap();
    std::fs::write(release.join("vouchgate"), "#!/bin/sh\necho vouchgate 9.9.9\n").unwrap();
    let archive = format!("vouchgate-{}-linux-gnu.tar.gz", std::env::consts::ARCH);
    let script = format!("chmod 755 vouchgate && tar -czf {archive} vouchgate && sha256sum {archive} > SHA256SUMS");
    assert!(Command::new("sh").args(["-c", &script]).current_dir(&release).status().unwrap().success());
    release
}

fn install(from: &str, to: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/install.sh");
    let mut command = Command::new("sh");
    command.arg(script).args(["--from", from]).arg("--to").arg(to);
    command.output().unwrap()
}

#[test]
fn a_release_is_installed_over_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (release(dir.path()), dir.path().join("bin"));
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("vouchgate"), "old").unwrap();
    let done = install(from.to_str().unwrap(), &to);
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).starts_with("vouchgate 9.9.9 is installed in "), "{done:?}");
    let said = Command::new(to.join("vouchgate")).arg("version").output().unwrap();
    assert_eq!(said.stdout, b"vouchgate 9.9.9\n");
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn what_the_digests_do_not_state_is_not_installed() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (release(dir.path()), dir.path().join("bin"));
    let archive = format!("vouchgate-{}-linux-gnu.tar.gz", std::env::consts::ARCH);
    let good = std::fs::read(from.join(&archive)).unwrap();
    let sums = std::fs::read_to_string(from.join("SHA256SUMS")).unwrap();
    let refused = |why: &str, says: &str| {
        let done = install(from.to_str().unwrap(), &to);
        assert_eq!(done.status.code(), Some(1), "{why}: {done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains(says), "{why}: {done:?}");
        assert!(!to.exists(), "{why}");
    };

    std::fs::write(from.join(&archive), [good.as_slice(), b"x"].concat()).unwrap();
    refused("an altered archive", "is not what SHA256SUMS states");
    std::fs::write(from.join(&archive), &good).unwrap();
    std::fs::write(from.join("SHA256SUMS"), sums.replace(&archive, "another.tar.gz")).unwrap();
    refused("an archive that is not named", "does not name");
    std::fs::write(from.join("SHA256SUMS"), "").unwrap();
    refused("no digests", "does not name");
    std::fs::remove_file(from.join("SHA256SUMS")).unwrap();
    refused("no file of digests", "cannot read");
}

#[test]
fn only_https_and_directories_are_releases() {
    let dir = tempfile::tempdir().unwrap();
    for from in ["http://127.0.0.1:1/release", "ftp://127.0.0.1/release", "file:///etc"] {
        let done = install(from, &dir.path().join("bin"));
        assert_eq!(done.status.code(), Some(1), "{from}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("only https and directories are taken"), "{done:?}");
    }
}

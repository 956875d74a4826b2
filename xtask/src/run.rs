//! Running other programs, and talking to whoever runs us.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a task did not succeed, in a sentence.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl<T: std::error::Error> From<T> for Failure {
    fn from(error: T) -> Self {
        Self(error.to_string())
    }
}

/// A failure with this sentence.
pub(crate) fn fail<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure(why.into()))
}

/// A line on standard output.
#[expect(clippy::print_stdout, reason = "a task's own output")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// A line on standard error.
#[expect(clippy::print_stderr, reason = "a task's own messages")]
pub(crate) fn warn(line: &str) {
    eprintln!("{line}");
}

/// A headline, so that a long log can be searched.
pub(crate) fn step(what: &str) {
    warn(&format!("==> {what}"));
}

/// The value of an environment variable, when set and not empty.
#[expect(clippy::disallowed_methods, reason = "the one place where tasks read the environment")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Where cargo builds. Also the home of everything the tasks install or write.
pub(crate) fn target() -> PathBuf {
    variable("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// `cargo`, the one that runs us, in the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Another program, in the workspace.
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).current_dir(root());
    command
}

/// Run to the end with our output; anything but success is a failure that names the command.
pub(crate) fn must(command: &mut Command) -> Result<(), Failure> {
    let shown = show(command);
    warn(&format!("$ {shown}"));
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => fail(format!("`{shown}` failed: {status}")),
        Err(error) => fail(format!("`{shown}` could not be started: {error}")),
    }
}

/// [`must`], with every line of standard output shown to `look` as it passes by.
pub(crate) fn must_watching(command: &mut Command, mut look: impl FnMut(&str)) -> Result<(), Failure> {
    let shown = show(command);
    warn(&format!("$ {shown}"));
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return fail(format!("`{shown}` could not be started: {error}")),
    };
    if let Some(stdout) = child.stdout.take() {
        // A test may print what is not UTF-8.
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            say(&line);
            look(&line);
        }
    }
    match child.wait()? {
        status if status.success() => Ok(()),
        status => fail(format!("`{shown}` failed: {status}")),
    }
}

/// Run to the end and give what it printed on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let shown = show(command);
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => return fail(format!("`{shown}` could not be started: {error}")),
    };
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return fail(format!("`{shown}` failed: {}\n{}", output.status, told.trim_end()));
    }
    String::from_utf8(output.stdout).map_err(|_| Failure(format!("`{shown}` printed something that is not UTF-8")))
}

/// Whether a program is there and runs.
pub(crate) fn available(name: &str, probe: &str) -> bool {
    Command::new(name)
        .arg(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Read a file, naming it in the failure.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure(format!("cannot read {}: {error}", path.display())))
}

/// Write a file and the directories above it, naming it in the failure.
pub(crate) fn save(path: &Path, text: &str) -> Result<(), Failure> {
    let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    parent
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| Failure(format!("cannot write {}: {error}", path.display())))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

//! What a command reads and writes, and how it ends. Injected, so that a test sees everything.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use base::{Clock, Rng, Secret};

/// The longest value read from standard input, in bytes.
const MAX_INPUT: u64 = 1 << 20;

/// A command's surroundings.
pub struct Io<'a> {
    /// Where tokens and secrets come from.
    pub stdin: &'a mut dyn Read,
    /// Whether somebody types there.
    pub stdin_is_terminal: bool,
    /// Data, and nothing else.
    pub stdout: &'a mut dyn Write,
    /// Messages.
    pub stderr: &'a mut dyn Write,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where keys come from.
    pub rng: Arc<dyn Rng>,
}

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Done,
    /// The answer is no: 1.
    No,
    /// Wrong usage, or it could not run: 2.
    Failed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0u8,
            Exit::No => 1,
            Exit::Failed => 2,
        })
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// How the command ends.
    pub exit: Exit,
    /// What went wrong, in one sentence, and what to do about it.
    pub message: String,
}

impl Failure {
    /// It could not run.
    pub fn new(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(format!("cannot write the output: {error}"))
    }
}

/// What a command returns.
pub type Outcome = Result<Exit, Failure>;

impl Io<'_> {
    /// Print one line of data.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.stdout, "{text}")?)
    }

    /// Print one JSON value, indented, with a line break.
    pub fn json(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Failure::new(e.to_string()))?;
        self.line(&text)
    }

    /// Tell the person something that is no data.
    pub fn note(&mut self, text: &str) {
        // Nobody is left to be told that standard error is closed.
        let _ = writeln!(self.stderr, "{text}");
    }

    /// All of standard input; `what` is asked for when somebody types there.
    pub fn read_all(&mut self, what: &str) -> Result<Secret<Vec<u8>>, Failure> {
        let bytes = self.read_start(what)?;
        if bytes.expose().len() as u64 > MAX_INPUT {
            return Err(Failure::new(format!("{what} on standard input is over 1 MiB")));
        }
        Ok(bytes)
    }

    /// Standard input up to and including the first byte over 1 MiB.
    pub fn read_start(&mut self, what: &str) -> Result<Secret<Vec<u8>>, Failure> {
        if self.stdin_is_terminal {
            self.note(&format!("Enter {what}, then press Ctrl-D on a line of its own:"));
        }
        let mut bytes = Vec::new();
        let read = (&mut *self.stdin).take(MAX_INPUT + 1).read_to_end(&mut bytes);
        let bytes = Secret::new(bytes);
        read.map_err(|e| Failure::new(format!("cannot read {what} from standard input: {e}")))?;
        Ok(bytes)
    }

    /// A value on standard input: text, without the one line break that editors and `echo` add.
    pub fn read_value(&mut self, what: &str) -> Result<Secret<String>, Failure> {
        let bytes = self.read_all(what)?;
        let text = std::str::from_utf8(bytes.expose())
            .map_err(|_| Failure::new(format!("{what} on standard input is not UTF-8 text")))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(Failure::new(format!("standard input is empty; give {what} there")));
        }
        Ok(Secret::new(text.to_owned()))
    }
}

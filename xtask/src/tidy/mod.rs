//! The house rules that no compiler checks: sizes, crate borders, banned crates and words, documented error codes and
//! attacks, generated files.

mod borders;
mod codes;
mod sizes;
mod words;

use std::path::PathBuf;

use crate::generate;
use crate::run::{Failure, fail, output, program, root, say, step, warn};
use crate::security;

/// A tracked text file.
#[derive(Debug)]
pub(crate) struct Source {
    /// The path from the root of the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// What follows the last dot of the name.
    pub(crate) fn extension(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(_, extension)| extension)
    }
}

/// What a rule found: breaches fail the task, remarks are only shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) breaches: Vec<String>,
    remarks: Vec<String>,
}

impl Findings {
    pub(crate) fn breach(&mut self, text: String) {
        self.breaches.push(text);
    }

    fn add(&mut self, other: Self) {
        self.breaches.extend(other.breaches);
        self.remarks.extend(other.remarks);
    }
}

/// Check every rule; all breaches are shown, not only the first.
pub(crate) fn run() -> Result<(), Failure> {
    let sources = sources()?;
    let mut found = Findings::default();
    found.add(sizes::check(&sources));
    found.add(words::check(&sources));
    found.add(codes::check(&sources));
    found.add(security::check(&sources));
    found.add(borders::check()?);
    step("Generated files");
    generate::stale()?.into_iter().for_each(|stale| found.breach(stale));

    found.remarks.iter().for_each(|remark| warn(&format!("remark: {remark}")));
    found.breaches.iter().for_each(|breach| warn(&format!("breach: {breach}")));
    if !found.breaches.is_empty() {
        return fail(format!("{} breaches of the house rules", found.breaches.len()));
    }
    say(&format!("tidy: {} files, no breach, {} remarks", sources.len(), found.remarks.len()));
    Ok(())
}

/// Every file that git tracks or would, as far as it is text.
pub(crate) fn sources() -> Result<Vec<Source>, Failure> {
    let list = output(&mut program("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let paths = list.split('\0').filter(|path| !path.is_empty());
    let read = |path: &str| {
        let file: PathBuf = root().join(path);
        // What is not UTF-8 is no text; what is deleted but not yet committed has none.
        std::fs::read_to_string(file).ok().map(|text| Source { path: path.to_owned(), text })
    };
    Ok(paths.filter_map(read).collect())
}

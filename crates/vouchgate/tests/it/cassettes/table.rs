//! Passed and tried per provider, and the reason of each exception.

use std::collections::BTreeMap;

/// The outcome of one question.
pub(super) struct Table {
    title: &'static str,
    rows: BTreeMap<String, (usize, usize)>,
    notes: BTreeMap<String, usize>,
    exceptions: Vec<String>,
}

impl Table {
    pub(super) fn new(title: &'static str) -> Self {
        Self { title, rows: BTreeMap::new(), notes: BTreeMap::new(), exceptions: Vec::new() }
    }

    /// One recording has been tried.
    pub(super) fn note(&mut self, row: &str, id: &str, outcome: Result<(), String>) {
        let (passed, tried) = self.rows.entry(row.to_owned()).or_default();
        *tried += 1;
        match outcome {
            Ok(()) => *passed += 1,
            Err(why) => self.exceptions.push(format!("{row} {id}: {why}")),
        }
    }

    /// Something worth counting that is no exception.
    pub(super) fn count(&mut self, what: &str) {
        *self.notes.entry(what.to_owned()).or_default() += 1;
    }

    /// Show it all, and fail the test unless the exceptions are exactly these, each known by how its line begins.
    pub(super) fn finish(mut self, least: usize, known: &[&str]) {
        self.exceptions.sort();
        let (passed, tried) = self.rows.values().fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        println!("{}: {passed} of {tried}", self.title);
        for (row, (passed, tried)) in &self.rows {
            println!("  {row:<28} {passed:>4} of {tried:>4}");
        }
        for (what, count) in &self.notes {
            println!("  {count:>4} x {what}");
        }
        for line in &self.exceptions {
            println!("  - {line}");
        }
        let new: Vec<&String> =
            self.exceptions.iter().filter(|line| !known.iter().any(|known| line.starts_with(known))).collect();
        let gone: Vec<&&str> =
            known.iter().filter(|known| !self.exceptions.iter().any(|line| line.starts_with(**known))).collect();
        assert!(new.is_empty(), "{}: not known: {new:#?}", self.title);
        assert!(gone.is_empty(), "{}: passes now, take it off the list: {gone:#?}", self.title);
        assert!(tried >= least, "{}: the data holds more than {tried} recordings", self.title);
    }
}

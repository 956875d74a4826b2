//! Passed and tried per provider, and the reason of each exception.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The outcome of one question.
pub(super) struct Table {
    title: &'static str,
    rows: BTreeMap<String, (usize, usize)>,
    notes: BTreeMap<String, usize>,
    exceptions: Vec<String>,
    excused: BTreeMap<&'static str, usize>,
}

/// Passed and tried, by provider and endpoint: through the endpoint here of the same dialect, and through `/providers/`.
#[derive(Default)]
pub(super) struct Figures(BTreeMap<(String, String), [(usize, usize); 2]>);

impl Figures {
    /// One recording has been tried, at its own endpoint only if there is one.
    pub(super) fn note(&mut self, (provider, endpoint): (&str, &str), own: Option<bool>, native: bool) {
        let row = self.0.entry((provider.to_owned(), endpoint.to_owned())).or_default();
        for (figure, outcome) in row.iter_mut().zip([own, Some(native)]) {
            if let Some(passed) = outcome {
                figure.0 += usize::from(passed);
                figure.1 += 1;
            }
        }
    }

    /// As a table of `docs/translation.md`.
    pub(super) fn markdown(&self) -> String {
        let mut text = "| Provider | Endpoint | Same dialect here | `/providers/` |\n|---|---|---|---|\n".to_owned();
        let mut sums = [(0, 0); 2];
        let shown = |(passed, tried): (usize, usize)| {
            if tried == 0 { String::new() } else { format!("{passed} of {tried}") }
        };
        for ((provider, endpoint), row) in &self.0 {
            let _ = writeln!(text, "| {provider} | {endpoint} | {} | {} |", shown(row[0]), shown(row[1]));
            for (sum, (passed, tried)) in sums.iter_mut().zip(row) {
                sum.0 += passed;
                sum.1 += tried;
            }
        }
        let _ = writeln!(text, "| all | | {} | {} |", shown(sums[0]), shown(sums[1]));
        text
    }
}

impl Table {
    pub(super) fn new(title: &'static str) -> Self {
        Self { title, rows: BTreeMap::new(), notes: BTreeMap::new(), exceptions: Vec::new(), excused: BTreeMap::new() }
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

    /// One recording that does not pass has been tried, and why that is meant.
    pub(super) fn excuse(&mut self, row: &str, reason: &'static str) {
        self.rows.entry(row.to_owned()).or_default().1 += 1;
        *self.excused.entry(reason).or_default() += 1;
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
        for (reason, count) in &self.excused {
            println!("  {count:>4} not passed: {reason}");
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

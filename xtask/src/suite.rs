//! Every test, and an account of those that were skipped.

use std::path::Path;

use crate::run::{self, Failure, cargo, fail, must_watching, say, step, target, variable};
use crate::setup;

/// Install what the tests need, run them all (documentation examples too), and sum up the skipped ones.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let parts = setup::everything()?;
    let log = target().join("skipped-tests.txt");
    run::save(&log, "")?;

    step("Tests");
    let mut tests = cargo(&["test", "--workspace", "--all-features", "--no-fail-fast"]);
    tests.args(args).env("VOUCHGATE_SKIP_LOG", &log);
    let names = [
        ("VOUCHGATE_TEST_PYTHON", parts.python),
        ("VOUCHGATE_TEST_NODE", parts.node),
        ("VOUCHGATE_TEST_MODEL", parts.model),
    ];
    for (name, path) in names {
        match path {
            Some(path) => tests.env(name, path),
            None => tests.env_remove(name),
        };
    }
    if let Ok(shared) = setup::shared() {
        tests.env("VOUCHGATE_SHARED", shared);
    }
    let mut count = Count::default();
    let outcome = must_watching(&mut tests, |line| count.add(line));

    let skipped = skipped(&log)?;
    if !skipped.is_empty() {
        say(&format!("\n{} skipped:", skipped.len()));
        for line in &skipped {
            say(&format!("  {line}"));
        }
    }
    say(&format!(
        "\n{} passed, {} failed, {} skipped",
        count.passed.saturating_sub(skipped.len()),
        count.failed,
        skipped.len()
    ));
    outcome?;
    if !skipped.is_empty() && variable("VOUCHGATE_NO_SKIP").is_some() {
        return fail("a skipped test is a failure here (VOUCHGATE_NO_SKIP is set)");
    }
    Ok(())
}

/// How many tests ran, over all test programs. A skipped test counts as passed there.
#[derive(Debug, Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    /// Take a line of `cargo test` into account: `test result: ok. 3 passed; 0 failed; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let number = |what: &str| {
            let before = result.split(what).next()?;
            before.rsplit([' ', '.']).find(|word| !word.is_empty())?.parse::<usize>().ok()
        };
        self.passed += number(" passed").unwrap_or(0);
        self.failed += number(" failed").unwrap_or(0);
    }
}

/// What the skipped tests noted, each once, in order.
fn skipped(log: &Path) -> Result<Vec<String>, Failure> {
    let mut lines: Vec<String> =
        run::read(log)?.lines().map(|line| line.strip_prefix("SKIPPED: ").unwrap_or(line).to_owned()).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_are_added_up() {
        let mut count = Count::default();
        count.add("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        count.add("test a ... ok");
        count.add("test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert_eq!((count.passed, count.failed), (15, 1));
    }
}

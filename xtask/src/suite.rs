//! Every test, and an account of those that were skipped.

use std::path::Path;

use crate::run::{self, Failure, cargo, fail, must, say, step, target, variable};
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
    let outcome = must(&mut tests);

    let skipped = skipped(&log)?;
    if !skipped.is_empty() {
        say(&format!("\n{} skipped:", skipped.len()));
        for line in &skipped {
            say(&format!("  {line}"));
        }
    }
    outcome?;
    if !skipped.is_empty() && variable("VOUCHGATE_NO_SKIP").is_some() {
        return fail("a skipped test is a failure here (VOUCHGATE_NO_SKIP is set)");
    }
    Ok(())
}

/// What the skipped tests noted, each once, in order.
fn skipped(log: &Path) -> Result<Vec<String>, Failure> {
    let mut lines: Vec<String> =
        run::read(log)?.lines().map(|line| line.strip_prefix("SKIPPED: ").unwrap_or(line).to_owned()).collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

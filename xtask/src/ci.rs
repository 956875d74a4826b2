//! Everything a change must pass, cheapest first, in one build profile.

use crate::run::{Failure, cargo, must, step};
use crate::{suite, tidy};

/// Format, lints, house rules with generated files, every test.
pub(crate) fn run() -> Result<(), Failure> {
    step("Format");
    must(&mut cargo(&["fmt", "--all", "--check"]))?;
    // The lints see what users build by default; the tests are built with every feature.
    step("Lints");
    lint(&["--workspace"])?;
    lint(&["--package", "vouchgate", "--all-features"])?;
    step("Tidy");
    tidy::run()?;
    suite::run(&["--locked".to_owned()])
}

fn lint(what: &[&str]) -> Result<(), Failure> {
    let warnings = ["--all-targets", "--locked", "--", "-D", "warnings"];
    must(cargo(&["clippy"]).args(what).args(warnings))
}

//! Everything a change must pass, cheapest first, in one build profile.

use crate::run::{Failure, cargo, must, step};
use crate::{suite, tidy};

/// Format, lints, house rules with generated files, every test.
pub(crate) fn run() -> Result<(), Failure> {
    step("Format");
    must(&mut cargo(&["fmt", "--all", "--check"]))?;
    step("Lints");
    must(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    step("Tidy");
    tidy::run()?;
    suite::run(&["--locked".to_owned()])
}

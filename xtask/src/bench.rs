//! The comparison with a bare proxy, on optimised builds.

use crate::run::{Failure, cargo, must, program, target};

/// Build the product and the bench program with optimisation, and run the comparison. `args` go to the program.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    must(&mut cargo(&["build", "--release", "--package", "vouchgate", "--package", "testkit", "--bins"]))?;
    let release = target().join("release");
    let mut bench = program(release.join("bench"), &["compare", "--vouchgate"]);
    must(bench.arg(release.join("vouchgate")).arg("--json").arg(target().join("bench.json")).args(args))
}

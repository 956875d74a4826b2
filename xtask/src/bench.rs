//! The comparison with a bare proxy, on optimised builds.

use crate::run::{Failure, cargo, must, program, target};

/// Build the product and the bench program with optimisation, and run the comparison. `args` go to the program.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    must(&mut cargo(&["build", "--release", "--package", "vouchgate", "--package", "testkit", "--bins"]))?;
    let release = target().join("release");
    // A thousand streams are two thousand sockets, more than many shells allow by default.
    let raise = "ulimit -n $(ulimit -Hn); exec \"$@\"";
    let mut bench = program("sh", &["-c", raise, "bench"]);
    bench.arg(release.join("bench")).arg("compare").arg("--vouchgate").arg(release.join("vouchgate"));
    must(bench.arg("--json").arg(target().join("bench.json")).args(args))
}

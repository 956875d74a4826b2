//! The comparison with a bare proxy, on optimised builds.

use crate::run::{Failure, cargo, must, program, target};

/// Build the product and the bench program with optimisation, and run the comparison. `args` go to the program.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    must(&mut cargo(&["build", "--release", "--package", "vouchgate", "--package", "testkit", "--bins"]))?;
    let release = target().join("release");
    // A thousand streams are two thousand sockets, more than many shells allow by default.
    let raise = "ulimit -n $(ulimit -Hn); exec \"$@\"";
    let mut bench = program("sh", &["-c", raise, "bench"]);
    // What attestation costs is measured by itself.
    let (of_attestation, others): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| *arg == "--attest");
    let (what, file) =
        if of_attestation.is_empty() { ("compare", "bench.json") } else { ("attest", "bench-attest.json") };
    bench.arg(release.join("bench")).arg(what).arg("--vouchgate").arg(release.join("vouchgate"));
    must(bench.arg("--json").arg(target().join(file)).args(others))
}

//! The fuzz targets, each for a while. libFuzzer's coverage is built in with the stable compiler: no nightly and no
//! sanitizer, which code without `unsafe` can do without.

use crate::run::{Failure, cargo, fail, must, output, program, root, step, target};

/// How long each target runs unless told.
const SECONDS: &str = "10";

/// Inputs are no longer than this many bytes.
const LONGEST: &str = "-max_len=16384";

/// What has rustc count the edges a run passes, as libFuzzer wants them.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

/// Build every target and run those named (or all) one after the other.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let (seconds, named) = match args {
        [flag, seconds, named @ ..] if flag == "--seconds" => (seconds.as_str(), named),
        named => (SECONDS, named),
    };
    if seconds.parse::<u32>().is_err() {
        return fail(format!("`{seconds}` is no number of seconds"));
    }
    let all = targets()?;
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        return fail(format!("there is no target `{unknown}`; there are {}", all.join(", ")));
    }
    let version = output(&mut program("rustc", &["-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let dir = target().join("fuzz");
    step("Fuzz targets");
    // With `--target`, the flags are for the targets and not for what builds them.
    let build = ["build", "--release", "--bins", "--manifest-path", "fuzz/Cargo.toml", "--target", host];
    must(cargo(&build).env("CARGO_TARGET_DIR", &dir).env("RUSTFLAGS", COVERAGE))?;
    for name in all.iter().filter(|name| named.is_empty() || named.contains(name)) {
        step(&format!("Fuzzing {name} for {seconds} s"));
        let (found, artifacts) = (dir.join("found").join(name), root().join("fuzz/artifacts").join(name));
        std::fs::create_dir_all(&found)?;
        std::fs::create_dir_all(&artifacts)?;
        let mut fuzzer = program(dir.join(host).join("release").join(name), &[LONGEST, "-timeout=10", "-verbosity=0"]);
        fuzzer.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
        fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display()));
        must(fuzzer.arg(&found).arg(root().join("fuzz/corpus").join(name)))?;
    }
    Ok(())
}

/// The names of the targets.
fn targets() -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        let path = file?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

//! Development tasks, run as `cargo xtask <task>`. No task needs anything but this repository, cargo and what it says
//! it installs (under `target/`).

mod bench;
mod ci;
mod fuzz;
mod generate;
mod package;
mod run;
mod security;
mod setup;
mod suite;
mod tidy;
mod torture;

use std::process::ExitCode;

use run::Failure;

const USAGE: &str = "\
usage: cargo xtask <task>

  test [ARGS]   install what the tests need (under target/), then run every test; ARGS go to `cargo test`
  ci            format, lints, tidy, generated files, every test: what .ci/run does
  tidy          the house rules: sizes, crate borders, banned crates, documented error codes and attacks, generated files
  schema        write docs/config.schema.json
  openapi       write docs/openapi-admin.json
  help-text     write docs/cli.md
  security-doc  write docs/security.md
  bench         build with optimisation, measure Vouchgate beside a bare proxy (and HAProxy where installed)
  fuzz [--seconds N] [TARGET...]   run the fuzz targets (all of them, ten seconds each), see fuzz/README.md
  package [--binary FILE]   a .deb, an archive for packaging/install.sh and their digests, in target/package/
  torture [--release] [--rounds N] [--seed N] [sqlite|postgres]   kill -9 under load (1,000 times on SQLite, 200 on PostgreSQL), and check the books
  torture [--release] --restart [--rounds N] [--rps N]   restart three nodes one after the other under 50 streams and so many requests a second
  torture [--release] --redis-stall [SECONDS]   Redis does not answer for so long (30)
  setup         only install what the tests need

  VOUCHGATE_SHARED   directory with the shared test data (default: ../shared); tests that need it are skipped without
  VOUCHGATE_NO_SKIP  when set, a skipped test is a failure";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next();
    let rest: Vec<String> = args.collect();
    let done = match task.as_deref() {
        Some("test") => suite::run(&rest),
        Some("ci") => ci::run(),
        Some("tidy") => tidy::run(),
        Some(task @ ("schema" | "openapi" | "help-text")) => generate::write(task),
        Some("security-doc") => security::write(),
        Some("bench") => bench::run(&rest),
        Some("fuzz") => fuzz::run(&rest),
        Some("package") => package::run(&rest),
        Some("torture") => torture::run(&rest),
        Some("setup") => setup::everything().map(drop),
        Some("help" | "-h" | "--help") => {
            run::say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            run::warn(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(why)) => {
            run::warn(&format!("error: {why}"));
            ExitCode::FAILURE
        }
    }
}

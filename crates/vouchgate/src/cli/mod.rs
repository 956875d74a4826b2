//! The command line: every command but those that run a server.
//!
//! A command is a function from its arguments and an [`Io`] to an exit status. Data goes to standard output, messages
//! to standard error; 0 done, 1 the answer is no, 2 wrong usage or could not run.

mod anomaly;
mod app;
pub mod args;
mod attest;
mod audit;
mod backup;
mod budget;
mod check;
mod dpop;
mod examples;
mod io;
mod jwt;
mod kept;
mod manage;
mod models;
mod pins;
mod place;
mod policy;
mod print;
mod remote;
mod risk;
mod rotate;
mod route;
mod table;
#[cfg(test)]
mod tests;
mod usage;

use std::process::ExitCode;

pub use args::{CacheCommand, Cli, Command};
pub use examples::{command, parse};
pub use io::{Exit, Failure, Io, Outcome};
pub use place::{COMMAND_LINE, DEV_CONFIG, Place, read_config};

/// Run a command and say what went wrong, if anything did. `dev`, `serve` and `doctor` are run by `main`.
pub async fn run(command: Command, io: &mut Io<'_>) -> ExitCode {
    let outcome = match command {
        Command::Dev(_) | Command::Serve(_) | Command::Doctor(_) => {
            Err(Failure::new("this command runs a server and is started elsewhere"))
        }
        Command::Check(args) => check::run(&args, io),
        Command::Token(command) => manage::token(command, io).await,
        Command::Jwt(command) => jwt::run(command, io),
        Command::Dpop(command) => dpop::run(command, io),
        Command::Attest(command) => attest::run(command, io).await,
        Command::Client(command) => manage::client(command, io).await,
        Command::Secret(command) => manage::secret(command, io).await,
        Command::Key(command) => manage::key(command, io).await,
        Command::Pins(command) => pins::run(command, io).await,
        Command::Cert(command) => pins::cert(command, io).await,
        Command::Apikey(command) => manage::apikey(command, io).await,
        Command::Admin(command) => manage::admin(command, io).await,
        Command::Budget(command) => budget::run(command, io).await,
        Command::Rotate(command) => rotate::run(command, io).await,
        Command::Anomaly(command) => anomaly::run(command, io).await,
        Command::Risk(command) => risk::run(command, io).await,
        Command::App(command) => app::app(command, io).await,
        Command::Device(command) => app::device(command, io).await,
        Command::Arc(command) => app::arc(command, io).await,
        Command::Policy(command) => policy::run(command, io).await,
        Command::Route(command) => route::run(command, io).await,
        Command::Models(args) => models::run(&args, io).await,
        Command::Cache(CacheCommand::Clear(state)) => manage::clear_cache(&state, io).await,
        Command::Backup(args) => backup::backup(&args, io).await,
        Command::Restore(args) => backup::restore(&args, io).await,
        Command::Audit(command) => audit::run(command, io).await,
        Command::Usage(args) => usage::run(&args, io).await,
        Command::Openapi => io.json(&control::admin::openapi_document()).map(|()| Exit::Done),
        Command::Schema => io.json(&config::schema()).map(|()| Exit::Done),
        Command::Completions { shell } => completions(shell, io),
        Command::Version(args) => version(args.json, io),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            io.note(&format!("vouchgate: {}", failure.message));
            failure.exit.into()
        }
    }
}

/// How many of the newest 200 revocations of the server behind `socket` are in force, and whether there are no others.
pub async fn newest_revocations(socket: std::path::PathBuf) -> Result<(usize, bool), Failure> {
    let newest = remote::Api::Running(socket).call(http::Method::GET, "/revocations?limit=200", None).await?;
    let items = newest.get("items").and_then(serde_json::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let in_force = items.iter().filter(|item| item.get("lifted_at").is_none()).count();
    Ok((in_force, newest.get("next_cursor").is_none_or(serde_json::Value::is_null)))
}

/// How the server at a socket is, ready or not.
pub async fn readiness(socket: &std::path::Path) -> Result<serde_json::Value, Failure> {
    remote::readiness(socket).await
}

fn completions(shell: clap_complete::Shell, io: &mut Io<'_>) -> Outcome {
    // Written to memory first: a closed pipe is an error to report, not one to panic about.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "vouchgate", &mut script);
    io.stdout.write_all(&script)?;
    Ok(Exit::Done)
}

fn version(json: bool, io: &mut Io<'_>) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        io.json(&serde_json::json!({ "name": "vouchgate", "version": version }))?;
    } else {
        io.line(&format!("vouchgate {version}"))?;
    }
    Ok(Exit::Done)
}

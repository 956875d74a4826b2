//! The `vouchgate` program.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use base::{SystemClock, SystemRng};
use vouchgate::cli::{self, Command, Failure, Io, Outcome};
use vouchgate::dev::Setup;
use vouchgate::{doctor, serve};

fn main() -> ExitCode {
    let command = cli::parse(std::env::args_os()).unwrap_or_else(|error| error.exit()).command;
    let (mut stdin, mut stdout, mut stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    if matches!(command, Command::Serve(_) | Command::Dev(_) | Command::Doctor(_))
        && let Err(error) = vouchgate::process::keep_memory_private()
    {
        let _ = writeln!(stderr, "vouchgate: the kernel does not keep this process's memory out of dumps: {error}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(stderr, "vouchgate: the runtime does not start: {error}");
            return ExitCode::from(2);
        }
    };
    let outcome: Outcome = match command {
        Command::Serve(args) => runtime.block_on(serve::serve(&args.config, &mut stderr)),
        Command::Dev(args) => {
            let setup = Setup {
                data_dir: &args.data_dir,
                listen: args.listen,
                admin_listen: args.admin_listen,
                providers: Vec::new(),
                region: None,
                app: args.app,
            };
            runtime.block_on(serve::dev(setup, &mut stdout, &mut stderr))
        }
        Command::Doctor(args) => runtime.block_on(doctor::run(&args, &mut stdout)),
        other => {
            let mut io = Io {
                stdin_is_terminal: stdin.is_terminal(),
                stdin: &mut stdin,
                stdout: &mut stdout,
                stderr: &mut stderr,
                clock: Arc::new(SystemClock),
                rng: Arc::new(SystemRng),
            };
            return runtime.block_on(cli::run(other, &mut io));
        }
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(Failure { exit, message }) => {
            let _ = writeln!(stderr, "vouchgate: {message}");
            exit.into()
        }
    }
}

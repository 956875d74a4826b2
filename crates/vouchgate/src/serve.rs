//! `vouchgate serve` and `vouchgate dev`: start, say so, follow signals, leave in order.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use base::{SystemClock, SystemRng};
use config::{Config, Fault, LogFormat, LogLevel};
use control::operations::MintToken;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;
use vault::KeyFileError;

use crate::cli::{Exit, Failure, Outcome};
use crate::dev::{self, Setup};
use crate::log::{self, Format};
use crate::server::{Options, Server, StartError};
use crate::spans::{self, Exporter};
use crate::wire::BuildError;
use crate::{preflight, references, simulate};

/// `vouchgate serve`: run what the file says until told to stop.
pub async fn serve(path: &Path, stderr: &mut dyn Write) -> Outcome {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    let config = match preflight::read(&text) {
        Ok(config) => config,
        Err(found) => return refused(path, &found, stderr),
    };
    let exporter = start_log(&config)?;
    let signals = Signals::take()?;
    let options = Options {
        config,
        file: Some(path.to_owned()),
        create_master_key: false,
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
    };
    match Server::start(options).await {
        Ok(server) => until_told(server, signals, exporter).await,
        Err(StartError::Build(BuildError::Config(found))) => refused(path, &found, stderr),
        Err(StartError::MasterKey(KeyFileError::Missing(key))) => {
            let message = format!(
                "not started: there is no master key at {}\nA new installation: let a command make it, then start again:\n    \
                 vouchgate key list --config {}\nOtherwise put the one back that the data was made with: nothing sealed opens \
                 without it.",
                key.display(),
                path.display()
            );
            Err(Failure { exit: Exit::No, message })
        }
        Err(error) => Err(Failure { exit: Exit::No, message: format!("not started: {error}") }),
    }
}

/// `vouchgate dev`: everything by default. Prints a request that works when pasted.
pub async fn dev(mut setup: Setup<'_>, stdout: &mut dyn Write, stderr: &mut dyn Write) -> Outcome {
    setup.providers = dev::find_providers(|name| references::variable(name).is_some()).await;
    setup.region = dev::REGION.into_iter().find_map(references::variable).map(|region| region.expose().clone());
    if setup.app {
        simulate::prepare(setup.data_dir)?;
    }
    let text = dev::configuration(&setup);
    let file = setup.data_dir.join("dev.toml");
    let config = match preflight::read(&text) {
        Ok(config) => config,
        Err(found) => return refused(&file, &found, stderr),
    };
    let exporter = start_log(&config)?;
    let signals = Signals::take()?;
    let options =
        Options { config, file: None, create_master_key: true, clock: Arc::new(SystemClock), rng: Arc::new(SystemRng) };
    let server = Server::start(options).await.map_err(|error| Failure::new(format!("not started: {error}")))?;
    std::fs::write(&file, &text).map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))?;

    let mint = MintToken { client: dev::CLIENT.to_owned(), subject: None, scope: None, ttl: None, jkt: None };
    let token = server.operations().token_mint(&mint, "local").await;
    let token = token.map_err(|error| Failure::new(format!("no token for the example: {error}")))?;
    let public = format!("http://{}", server.public_addr());
    let admin = format!("http://{}", server.admin_addr());
    write!(stdout, "{}", dev::banner(&public, &admin, token.access_token.expose(), &setup))?;
    stdout.flush()?;
    until_told(server, signals, exporter).await
}

/// The signals that steer a server.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Take them over: before anything says that the server runs, or a signal sent in answer would just kill it.
    fn take() -> Result<Self, Failure> {
        let take = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot follow signals: {error}")));
        Ok(Self {
            hangup: take(SignalKind::hangup())?,
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
        })
    }

    /// Until told to stop.
    async fn stop(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Terminate,
            _ = self.interrupt.recv() => Told::Interrupt,
        }
    }
}

/// How a server was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// By whoever runs it: a load balancer may still be sending.
    Terminate,
    /// By somebody at a terminal (Ctrl-C), who waits.
    Interrupt,
}

/// Follow signals: HUP reloads, TERM and INT drain and stop, a second one stops at once. Only after TERM connections are
/// taken for a while longer.
async fn until_told(server: Server, mut signals: Signals, exporter: Option<Exporter>) -> Outcome {
    let told = loop {
        let Signals { hangup, terminate, interrupt } = &mut signals;
        tokio::select! {
            // The server has logged what came of it.
            _ = hangup.recv() => drop(server.reload().await),
            _ = terminate.recv() => break Told::Terminate,
            _ = interrupt.recv() => break Told::Interrupt,
        }
    };
    let leaving = async {
        match told {
            Told::Terminate => server.shut_down().await,
            Told::Interrupt => server.shut_down_now().await,
        }
        if let Some(exporter) = exporter {
            exporter.shut_down().await;
        }
    };
    tokio::select! {
        () = leaving => Ok(Exit::Done),
        _ = signals.stop() => {
            tracing::warn!("told again: stopping at once");
            Ok(Exit::Done)
        }
    }
}

fn refused(path: &Path, found: &[Fault], stderr: &mut dyn Write) -> Outcome {
    for fault in found {
        writeln!(stderr, "{}:{fault}", path.display())?;
    }
    Ok(Exit::No)
}

/// Start logging, and with it the export of spans if one is asked for.
fn start_log(config: &Config) -> Result<Option<Exporter>, Failure> {
    let level = match config.log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let format = match config.log.format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr()) && references::variable("NO_COLOR").is_none();
    let (exporter, layer) = spans::start().map_err(|error| Failure::new(error.to_string()))?.unzip();
    log::start(level, format, color, layer);
    spans::warn_if_absent();
    Ok(exporter)
}

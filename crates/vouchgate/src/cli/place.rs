//! Where the state is, and how to get at it: through the server that runs there, or by taking its lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::Recorder;
use config::Config;
use control::admin::{Admin, Hosts, LocalApi, SOCKET_NAME};
use control::recording::{self, Recording};
use control::{Operations, Parts};
use net::{Egress, EgressConfig};
use store::{Ledger, LedgerSettings, Store};
use vault::{MasterKey, Vault};

use crate::master_keys;
use crate::references;
use crate::wire;

use super::args::StateArgs;
use super::io::{Exit, Failure, Io};
use super::remote::{Api, answers};

/// The configuration `dev` leaves in its data directory.
pub const DEV_CONFIG: &str = "dev.toml";

/// What the ledger of budgets knows commands as: they look at accounts and take nothing from them.
pub const COMMAND_LINE: &str = "command-line";

/// A data directory and the configuration that goes with it.
#[derive(Debug)]
pub struct Place {
    /// The configuration.
    pub config: Arc<Config>,
    /// The file it was read from, if there is one.
    pub file: Option<PathBuf>,
}

/// The operations on a place, and the store to close after them.
pub(super) struct Opened {
    /// What to ask.
    pub(super) api: Api,
    store: Option<Store>,
    recorder: Recorder,
}

impl Place {
    /// What `--config` or `--data-dir` name; without either, the directory `dev` uses.
    pub fn find(args: &StateArgs, io: &mut Io<'_>) -> Result<Self, Failure> {
        if let Some(file) = &args.config {
            return Ok(Self { config: Arc::new(read_config(file, io)?), file: Some(file.clone()) });
        }
        let default = Config::empty().server.data_dir;
        let data_dir = args.data_dir.clone().unwrap_or(default);
        let dev = data_dir.join(DEV_CONFIG);
        if dev.is_file() {
            let mut config = read_config(&dev, io)?;
            // The directory may have been moved since.
            config.server.data_dir = data_dir;
            return Ok(Self { config: Arc::new(config), file: Some(dev) });
        }
        let mut config = Config::empty();
        config.server.data_dir = data_dir;
        Ok(Self { config: Arc::new(config), file: None })
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.config.server.data_dir
    }

    /// Ask the server that runs here, or take the lock and do it in this process.
    pub(super) async fn open(&self, io: &mut Io<'_>) -> Result<Opened, Failure> {
        let socket = self.data_dir().join(SOCKET_NAME);
        if answers(&socket).await {
            return Ok(Opened { api: Api::Running(socket), store: None, recorder: Recorder::off() });
        }
        let store = self.store(io).await?;
        let opened = Box::pin(self.here(store.clone(), io)).await;
        if opened.is_err() {
            store.close().await;
        }
        opened
    }

    async fn here(&self, store: Store, io: &mut Io<'_>) -> Result<Opened, Failure> {
        let vault = Arc::new(self.vault(&store, io).await?);
        let url = control::external_url(&self.config.server);
        let recording =
            Recording { config: &self.config, store: &store, vault: &vault, clock: &io.clock, rng: &io.rng };
        let recorder = recording::open(recording, None).await.map_err(failure)?;
        let operations = Operations::new(Parts {
            store: store.clone(),
            vault,
            clock: Arc::clone(&io.clock),
            rng: Arc::clone(&io.rng),
            file: Arc::clone(&self.config),
            external_url: url.clone(),
        })
        .recorded_by(recorder.clone())
        .with_ledger(Ledger::open(&store, LedgerSettings::new(COMMAND_LINE)).await.map_err(failure)?)
        .priced_by(crate::wire::figures)
        .probed_by(Arc::new(wire::AskProviders::new(
            Egress::new(EgressConfig::default()).map_err(failure)?,
            Arc::clone(&io.clock),
        )))
        .tried_by(move |config| wire::obstacle(config, &url));
        operations.signing_key_ensure().await.map_err(failure)?;
        let limit = self.config.limits.admin_body.as_usize();
        let admin = Admin::new(Arc::new(operations), None, Hosts::default(), limit);
        Ok(Opened { api: Api::Here(Box::new(LocalApi::new(&admin))), store: Some(store), recorder })
    }

    /// The vault. Its key is made on first use: where nothing has been sealed, none can be missing.
    async fn vault(&self, store: &Store, io: &mut Io<'_>) -> Result<Vault, Failure> {
        let unused = store.signing_keys().list().await.map_err(failure)?.is_empty();
        let mut made = None;
        let missing = |path: &Path| {
            if !unused {
                return Ok(None);
            }
            let key = MasterKey::generate(&*io.rng)?;
            key.create_file(path)?;
            made = Some(path.to_owned());
            Ok(Some(key))
        };
        let vault = master_keys::vault(&self.config, missing, Arc::clone(&io.rng)).map_err(failure)?;
        if let Some(path) = made {
            io.note(&format!("Made a new master key: {}. Keep a copy: without it no secret opens.", path.display()));
        }
        master_keys::agree(&vault, store).await.map_err(failure)?;
        Ok(vault)
    }

    /// Where the database is.
    pub(super) fn store_url(&self) -> Result<store::StoreUrl, Failure> {
        references::store_url(&self.config).map_err(failure)
    }

    async fn store(&self, io: &Io<'_>) -> Result<Store, Failure> {
        let url = self.store_url()?;
        Store::open(&url, self.data_dir(), Arc::clone(&io.clock), Arc::clone(&io.rng)).await.map_err(failure)
    }
}

impl Opened {
    /// Give the lock back. Only then is what was written safe from a command that follows at once.
    pub(super) async fn close(self) {
        if let Some(log) = self.recorder.log() {
            log.close();
        }
        if let Some(store) = self.store {
            store.close().await;
        }
    }
}

/// Read and check a configuration file; its faults go to standard error.
pub fn read_config(file: &Path, io: &mut Io<'_>) -> Result<Config, Failure> {
    let text = read_text(file)?;
    config::parse(&text).map_err(|faults| {
        for fault in &faults {
            io.note(&format!("{}:{fault}", file.display()));
        }
        Failure { exit: Exit::Failed, message: format!("{} is not a valid configuration", file.display()) }
    })
}

/// Read a configuration file as text.
pub(super) fn read_text(file: &Path) -> Result<String, Failure> {
    let failed = |why: String| Failure::new(format!("cannot read {}: {why}", file.display()));
    let length = std::fs::metadata(file).map_err(|e| failed(e.to_string()))?.len();
    if length > config::MAX_TEXT as u64 {
        return Err(failed(format!("it is over {} bytes", config::MAX_TEXT)));
    }
    std::fs::read_to_string(file).map_err(|e| failed(e.to_string()))
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

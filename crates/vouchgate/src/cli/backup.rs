//! `vouchgate backup` and `vouchgate restore`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use config::SecretRef;
use control::admin::SOCKET_NAME;
use control::backup::{Database, Found, Reader, RestoreError};
use serde_json::{Value, json};
use store::{Store, StoreError, StoreUrl};
use vault::{MasterKey, Vault};

use super::args::{BackupArgs, RestoreArgs};
use super::io::{Exit, Failure, Io, Outcome};
use super::place::Place;
use super::remote::answers;
use crate::server::master_key_path;

/// Write a backup to a new file.
pub(super) async fn backup(args: &BackupArgs, io: &mut Io<'_>) -> Outcome {
    let place = Place::find(&args.state, io)?;
    let opened = place.open(io).await?;
    let made = if args.file == Path::new("-") {
        opened.api.download("/backup", io.stdout).await
    } else {
        to_file(&args.file, async |file| opened.api.download("/backup", file).await).await
    };
    opened.close().await;
    let bytes = made?;
    io.note(&format!("{bytes} bytes. It opens with the master key only: keep a copy of that apart from it."));
    Ok(Exit::Done)
}

/// The file is there whole, or not at all.
async fn to_file(path: &Path, write: impl AsyncFnOnce(&mut dyn Write) -> Result<u64, Failure>) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    if path.exists() {
        let message = format!("{} is there already; a backup never replaces a file", path.display());
        return Err(Failure { exit: Exit::No, message });
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
    let written = match write(&mut file).await {
        Ok(bytes) => file.sync_all().and_then(|()| std::fs::rename(&part, path)).map(|()| bytes).map_err(failed),
        Err(error) => Err(error),
    };
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Put a backup back: into a new data directory, or with `--drill` into one that is thrown away.
pub(super) async fn restore(args: &RestoreArgs, io: &mut Io<'_>) -> Outcome {
    let place = Place::find(&args.state, io)?;
    if !args.drill && answers(&place.data_dir().join(SOCKET_NAME)).await {
        let message = "a server runs in this data directory: stop it, or name another data directory";
        return Err(Failure { exit: Exit::No, message: message.to_owned() });
    }
    let SecretRef::File(configured) = &place.config.vault.key else {
        return Err(Failure::new("[vault] key must be a file"));
    };
    let key = MasterKey::read_file(&master_key_path(place.data_dir(), configured)).map_err(failure)?;
    let vault = Arc::new(Vault::new(key, Arc::clone(&io.rng)).map_err(failure)?);
    let mut file = File::open(&args.file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", args.file.display())))?;

    // All of it is read once before anything is written: what is damaged or cut restores nothing.
    let sound = read_through(&mut file, &vault).map_err(|error| no(&error))?;
    file.rewind().map_err(|error| Failure::new(error.to_string()))?;
    let drill = args.drill.then(|| Drill::new(place.data_dir(), &*io.rng)).transpose()?;
    let (data_dir, url) = match &drill {
        Some(drill) => (drill.0.clone(), StoreUrl::default()),
        None => (place.data_dir().to_owned(), place.store_url()?),
    };
    let told = put_back(file, (&vault, &url, &data_dir), &sound, io).await;
    drop(drill);
    let told = told?;
    if args.state.json {
        io.json(&told)?;
    } else {
        let count = |member: &str| told.get(member).and_then(Value::as_u64).unwrap_or_default();
        let what = if args.drill { "The backup can be restored" } else { "Restored" };
        io.line(&format!("{what}: {} rows, {} files of the audit log.", count("rows"), count("audit_files")))?;
    }
    Ok(Exit::Done)
}

/// What a first reading of a backup found.
struct Sound {
    version: String,
    made_at: i64,
    /// Of the database in it.
    schema: u64,
    files: u64,
}

fn read_through(file: &mut File, vault: &Arc<Vault>) -> Result<Sound, RestoreError> {
    let reader = Reader::open(file, Arc::clone(vault))?;
    let manifest = reader.manifest().clone();
    let mut sound = Sound { version: manifest.version, made_at: manifest.made_at, schema: 0, files: 0 };
    let shared = Arc::new(Mutex::new(reader));
    let mut database = Database(Arc::clone(&shared));
    let mut first = None;
    while let Ok(Some(piece)) = store::Source::next(&mut database) {
        first.get_or_insert_with(|| store::schema_of(&piece).unwrap_or_default());
    }
    sound.schema = first.unwrap_or_default();
    let mut reader = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = reader.failed() {
        return Err(error);
    }
    loop {
        match reader.part()? {
            Found::File(_) => sound.files += 1,
            Found::Content(_) => {}
            Found::End => return Ok(sound),
        }
    }
}

async fn put_back(
    file: File,
    (vault, url, data_dir): (&Arc<Vault>, &StoreUrl, &Path),
    sound: &Sound,
    io: &Io<'_>,
) -> Result<Value, Failure> {
    let log = data_dir.join(audit::DIR);
    if log.exists() {
        let message = format!("{} is there already: restore into a new data directory", log.display());
        return Err(Failure { exit: Exit::No, message });
    }
    let reader = Reader::open(file, Arc::clone(vault)).map_err(|error| no(&error))?;
    let shared = Arc::new(Mutex::new(reader));
    let by = (Arc::clone(&io.clock), Arc::clone(&io.rng));
    let loaded = Store::restore((url, data_dir), by, sound.schema, Box::new(Database(Arc::clone(&shared)))).await;
    let rows = loaded.map_err(|error| {
        let mut reader = shared.lock().unwrap_or_else(PoisonError::into_inner);
        reader.failed().map_or_else(|| not_loaded(&error), |error| no(&error))
    })?;
    {
        let mut reader = shared.lock().unwrap_or_else(PoisonError::into_inner);
        files(&mut *reader, &log, sound.files > 0)?;
    }
    // As the server will find it, and brought up to date where it is of an older version.
    let store = open(url, data_dir, io).await?;
    let complaints = store.check().await;
    store.close().await;
    let complaints = complaints.map_err(failure)?;
    if !complaints.is_empty() {
        return Err(Failure {
            exit: Exit::No,
            message: format!("what was restored is not sound: {}", complaints.join("; ")),
        });
    }
    Ok(json!({ "rows": rows, "audit_files": sound.files, "made_at_ms": sound.made_at, "made_by": sound.version }))
}

async fn open(url: &StoreUrl, data_dir: &Path, io: &Io<'_>) -> Result<Store, Failure> {
    Store::open(url, data_dir, Arc::clone(&io.clock), Arc::clone(&io.rng)).await.map_err(failure)
}

/// Write the audit log beside its place, and put it there once it is whole.
fn files<R: Read + Send>(reader: &mut Reader<R>, log: &Path, any: bool) -> Result<(), Failure> {
    let part = log.with_extension("part");
    let failed = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", part.display()));
    let mut open: Option<File> = None;
    loop {
        match reader.part().map_err(|error| no(&error))? {
            Found::File(path) => {
                let path = part.join(path);
                if let Some(dir) = path.parent() {
                    std::fs::DirBuilder::new().recursive(true).create(dir).map_err(failed)?;
                }
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
                if let Some(done) = open.replace(file) {
                    done.sync_all().map_err(failed)?;
                }
            }
            Found::Content(bytes) => {
                open.as_mut().map_or(Ok(()), |file| file.write_all(&bytes)).map_err(failed)?;
            }
            Found::End => break,
        }
    }
    if let Some(done) = open {
        done.sync_all().map_err(failed)?;
    }
    if any {
        std::fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(failed)?;
        std::fs::rename(&part, log).map_err(failed)?;
    }
    Ok(())
}

/// A data directory that is thrown away.
struct Drill(PathBuf);

impl Drill {
    fn new(data_dir: &Path, rng: &dyn base::Rng) -> Result<Self, Failure> {
        let name = format!(".restore-drill-{}", base::RequestId::new(rng));
        let dir = data_dir.join(name);
        std::fs::create_dir_all(&dir)
            .map_err(|error| Failure::new(format!("cannot make {}: {error}", dir.display())))?;
        Ok(Self(dir))
    }
}

impl Drop for Drill {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The backup is not one that can be restored here.
fn no(error: &RestoreError) -> Failure {
    Failure { exit: Exit::No, message: error.to_string() }
}

/// Of the backup and where it was to go, or of a database that cannot be used at all.
fn not_loaded(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Row(_) | StoreError::NotNew(_) | StoreError::NewerSchema { .. } => Exit::No,
        _ => return failure(error),
    };
    Failure { exit, message: error.to_string() }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(error.to_string())
}

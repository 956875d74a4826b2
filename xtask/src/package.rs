//! What a machine without a compiler installs: a Debian package, an archive for `packaging/install.sh`, and the digests
//! of both, in `target/package/`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::run::{Failure, cargo, fail, must, output, program, read, root, save, step, target};

/// The C library a package is made for, and no older: that of Debian 12.
const GLIBC: &str = "2.36";

/// A file of the package: where it comes from, where it goes, its mode.
type Placed<'a> = (PathBuf, &'a str, u32);

/// Build with optimisation (or take `--binary FILE`), and pack.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let binary = match args {
        [] => {
            step("An optimised build");
            must(&mut cargo(&["build", "--release", "--locked", "--package", "vouchgate"]))?;
            target().join("release/vouchgate")
        }
        [flag, file] if flag == "--binary" => PathBuf::from(file),
        _ => return fail("usage: cargo xtask package [--binary FILE]"),
    };
    let out = target().join("package");
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    std::fs::create_dir_all(&out)?;
    let version = version(&binary)?;
    step(&format!("Packages of vouchgate {version}"));
    let packed = [archive(&binary, &out)?, debian(&binary, &version, &out)?];
    let names = packed.iter().filter_map(|path| path.file_name());
    let sums = output(program("sha256sum", &[]).args(names).current_dir(&out))?;
    save(&out.join("SHA256SUMS"), &sums)
}

/// What the program says its version is: a package of another name than its contents would mislead.
fn version(binary: &Path) -> Result<String, Failure> {
    let said = output(&mut program(binary, &["version"]))?;
    match said.trim().strip_prefix("vouchgate ") {
        Some(version) => Ok(version.to_owned()),
        None => fail(format!("{} is not vouchgate: it says {said:?}", binary.display())),
    }
}

/// The machine as release archives name it, and as Debian does.
fn machine() -> Result<(&'static str, &'static str), Failure> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(("x86_64", "amd64")),
        "aarch64" => Ok(("aarch64", "arm64")),
        other => fail(format!("there is no package for {other}")),
    }
}

fn archive(binary: &Path, out: &Path) -> Result<PathBuf, Failure> {
    let tree = out.join("archive");
    place(&tree, &[(binary.to_owned(), "vouchgate", 0o755), (root().join("LICENSE"), "LICENSE", 0o644)])?;
    let packed = out.join(format!("vouchgate-{}-linux-gnu.tar.gz", machine()?.0));
    let reproducible = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-czf"];
    must(program("tar", &reproducible).arg(&packed).arg("-C").arg(&tree).args(["vouchgate", "LICENSE"]))?;
    std::fs::remove_dir_all(&tree)?;
    Ok(packed)
}

fn debian(binary: &Path, version: &str, out: &Path) -> Result<PathBuf, Failure> {
    let tree = out.join("debian");
    let packaging = root().join("packaging");
    place(
        &tree,
        &[
            (binary.to_owned(), "usr/bin/vouchgate", 0o755),
            (packaging.join("systemd/vouchgate.service"), "usr/lib/systemd/system/vouchgate.service", 0o644),
            (packaging.join("debian/vouchgate.toml"), "etc/vouchgate/vouchgate.toml", 0o640),
            (packaging.join("debian/postinst"), "DEBIAN/postinst", 0o755),
            (packaging.join("debian/prerm"), "DEBIAN/prerm", 0o755),
            (packaging.join("debian/postrm"), "DEBIAN/postrm", 0o755),
            (packaging.join("debian/copyright"), "usr/share/doc/vouchgate/copyright", 0o644),
            (root().join("CHANGELOG.md"), "usr/share/doc/vouchgate/CHANGELOG.md", 0o644),
            (root().join("docs/config.schema.json"), "usr/share/vouchgate/config.schema.json", 0o644),
        ],
    )?;
    for (shell, file) in [
        ("bash", "usr/share/bash-completion/completions/vouchgate"),
        ("zsh", "usr/share/zsh/vendor-completions/_vouchgate"),
        ("fish", "usr/share/fish/vendor_completions.d/vouchgate.fish"),
    ] {
        let script = output(&mut program(binary, &["completions", shell]))?;
        put(&tree.join(file), script.as_bytes(), 0o644)?;
    }
    put(&tree.join("DEBIAN/conffiles"), b"/etc/vouchgate/vouchgate.toml\n", 0o644)?;
    let machine = machine()?.1;
    let size = std::fs::metadata(binary)?.len() / 1024;
    let control = format!(
        "{}Version: {version}\nArchitecture: {machine}\nInstalled-Size: {size}\n\
         Depends: libc6 (>= {GLIBC}), libgcc-s1, passwd, util-linux\n",
        read(&packaging.join("debian/control"))?
    );
    put(&tree.join("DEBIAN/control"), control.as_bytes(), 0o644)?;
    let packed = out.join(format!("vouchgate_{version}_{machine}.deb"));
    must(program("dpkg-deb", &["--build", "--root-owner-group", "-Zxz"]).arg(&tree).arg(&packed))?;
    std::fs::remove_dir_all(&tree)?;
    Ok(packed)
}

fn place(tree: &Path, files: &[Placed<'_>]) -> Result<(), Failure> {
    for (from, to, mode) in files {
        let bytes = std::fs::read(from).map_err(|error| Failure(format!("{}: {error}", from.display())))?;
        put(&tree.join(to), &bytes, *mode)?;
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, bytes)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(())
}

#[cfg(test)]
mod tests;

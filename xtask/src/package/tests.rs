//! What is in the package, what its scripts do to a machine, and what the unit takes away from the process.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use tempfile::TempDir;

use super::*;
use crate::run::warn;

/// A program that says its version, writes completions, and makes a master key where it is asked to list keys.
const PROGRAM: &str = r##"#!/bin/sh
case "$1" in
    version) echo "vouchgate 9.9.9" ;;
    completions) echo "# completions for $2" ;;
    key) [ -z "$FAILS" ] && echo key > "$(dirname "$4")/master.key" ;;
esac
"##;

/// A package of that program; nothing (said) where packages cannot be made.
fn packed() -> Option<(TempDir, PathBuf)> {
    if !std::process::Command::new("dpkg-deb").arg("--version").output().is_ok_and(|said| said.status.success()) {
        warn("SKIPPED: dpkg-deb is not installed");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("vouchgate");
    put(&binary, PROGRAM.as_bytes(), 0o755).unwrap();
    assert_eq!(version(&binary).map_err(|failure| failure.0), Ok("9.9.9".to_owned()));
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let packed = debian(&binary, "9.9.9", &out).map_err(|failure| failure.0).unwrap();
    Some((dir, packed))
}

fn said(command: &str, args: &[&str], of: &Path) -> String {
    output(program(command, args).arg(of)).map_err(|failure| failure.0).unwrap()
}

#[test]
fn the_package_has_these_files_for_root_to_change_and_nobody_else() {
    let Some((_dir, packed)) = packed() else { return };
    let mut files = BTreeMap::new();
    for line in said("dpkg-deb", &["--contents"], &packed).lines() {
        let mut words = line.split_whitespace();
        let (mode, owner) = (words.next().unwrap().to_owned(), words.next().unwrap());
        assert_eq!(owner, "root/root", "{line}");
        let path = words.nth(3).unwrap().trim_start_matches('.').to_owned();
        assert!(mode.as_bytes()[8] == b'-' || mode.starts_with('l'), "others may write: {line}");
        if !path.ends_with('/') {
            files.insert(path, mode);
        }
    }
    let wanted = [
        ("/etc/vouchgate/vouchgate.toml", "-rw-r-----"),
        ("/usr/bin/vouchgate", "-rwxr-xr-x"),
        ("/usr/lib/systemd/system/vouchgate.service", "-rw-r--r--"),
        ("/usr/share/bash-completion/completions/vouchgate", "-rw-r--r--"),
        ("/usr/share/doc/vouchgate/CHANGELOG.md", "-rw-r--r--"),
        ("/usr/share/doc/vouchgate/copyright", "-rw-r--r--"),
        ("/usr/share/fish/vendor_completions.d/vouchgate.fish", "-rw-r--r--"),
        ("/usr/share/vouchgate/config.schema.json", "-rw-r--r--"),
        ("/usr/share/zsh/vendor-completions/_vouchgate", "-rw-r--r--"),
    ];
    let wanted = wanted.map(|(path, mode)| (path.to_owned(), mode.to_owned()));
    assert_eq!(files, BTreeMap::from(wanted));

    let field = |name: &str| output(program("dpkg-deb", &["--field"]).arg(&packed).arg(name)).unwrap_or_default();
    assert_eq!((field("Package").trim(), field("Version").trim()), ("vouchgate", "9.9.9"));
    assert!(field("Depends").contains(&format!("libc6 (>= {GLIBC})")), "{}", field("Depends"));
    let machine = machine().map_err(|failure| failure.0).unwrap().1;
    assert_eq!(field("Architecture").trim(), machine);
}

/// A machine the package's scripts run on: its root is a directory, and who would change the real one only takes notes.
struct Machine {
    dir: TempDir,
    scripts: PathBuf,
}

impl Machine {
    fn new(packed: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, scripts, stubs) = (dir.path().join("root"), dir.path().join("scripts"), dir.path().join("stubs"));
        must(program("dpkg-deb", &["--extract"]).arg(packed).arg(&root)).map_err(|failure| failure.0).unwrap();
        must(program("dpkg-deb", &["--control"]).arg(packed).arg(&scripts)).map_err(|failure| failure.0).unwrap();
        assert_eq!(read(&scripts.join("conffiles")).unwrap_or_default(), "/etc/vouchgate/vouchgate.toml\n");
        for name in ["postinst", "prerm", "postrm"] {
            let file = scripts.join(name);
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755, "{name}");
            let mut text = std::fs::read_to_string(&file).unwrap();
            for place in ["/etc/vouchgate", "/var/lib/vouchgate", "/run/systemd/system", "/usr/bin/vouchgate"] {
                text = text.replace(place, &format!("{}{place}", root.display()));
            }
            std::fs::write(&file, text).unwrap();
        }
        let note = "#!/bin/sh\necho \"$(basename \"$0\") $*\" >> \"$NOTES\"\n";
        for (name, does) in [
            ("getent", "grep -q '^useradd' \"$NOTES\" && ! grep -q '^userdel' \"$NOTES\"\n"),
            ("useradd", ""),
            ("userdel", ""),
            ("chown", ""),
            ("systemctl", ""),
            ("install", "for last; do :; done; mkdir -p \"$last\" && chmod 0700 \"$last\"\n"),
            ("setpriv", "shift 5; exec \"$@\"\n"),
        ] {
            put(&stubs.join(name), format!("{note}{does}").as_bytes(), 0o755).unwrap();
        }
        std::fs::write(dir.path().join("notes"), "").unwrap();
        Self { dir, scripts }
    }

    fn root(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn run(&self, script: &str, args: &[&str], fails: &str) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.dir.path().join("stubs").display());
        let mut command = std::process::Command::new(self.scripts.join(script));
        command.args(args).env("PATH", path).env("NOTES", self.dir.path().join("notes")).env("FAILS", fails);
        command.output().unwrap()
    }

    /// What a script that has to succeed did to the machine, without the directory the machine is in.
    fn does(&self, script: &str, args: &[&str]) -> Vec<String> {
        let before = self.notes().len();
        let done = self.run(script, args, "");
        assert!(done.status.success(), "{script} {args:?}: {done:?}");
        self.notes().split_off(before)
    }

    fn notes(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("notes")).unwrap();
        let root = self.dir.path().join("root").display().to_string();
        text.lines().filter(|line| !line.starts_with("getent")).map(|line| line.replace(&root, "")).collect()
    }

    fn mode(&self, path: &str) -> u32 {
        std::fs::metadata(self.root(path)).unwrap().permissions().mode() & 0o777
    }
}

#[test]
fn the_package_makes_a_user_a_key_and_private_places_once_and_an_upgrade_leaves_them() {
    let Some((_dir, packed)) = packed() else { return };
    let machine = Machine::new(&packed);
    let first = machine.does("postinst", &["configure", ""]);
    assert!(first[0].starts_with("useradd --system") && first[0].contains("--shell /usr/sbin/nologin"), "{first:?}");
    assert_eq!(first[1], "install -d -o vouchgate -g vouchgate -m 0700 /var/lib/vouchgate");
    assert_eq!(first[2], "chown vouchgate:vouchgate /etc/vouchgate /etc/vouchgate/vouchgate.toml");
    assert!(first[3].starts_with("setpriv --reuid vouchgate --regid vouchgate --clear-groups"), "as root: {first:?}");
    assert_eq!(first.len(), 4, "no service manager is asked where none runs: {first:?}");
    assert_eq!((machine.mode("etc/vouchgate"), machine.mode("etc/vouchgate/vouchgate.toml")), (0o750, 0o640));
    let key = std::fs::read(machine.root("etc/vouchgate/master.key")).unwrap();

    std::fs::create_dir_all(machine.root("run/systemd/system")).unwrap();
    let upgraded = machine.does("postinst", &["configure", "9.9.8"]);
    assert!(!upgraded.iter().any(|note| note.starts_with("useradd") || note.starts_with("setpriv")), "{upgraded:?}");
    assert_eq!(upgraded.last().map(String::as_str), Some("systemctl try-restart vouchgate.service"));
    assert_eq!(std::fs::read(machine.root("etc/vouchgate/master.key")).unwrap(), key, "nothing opens without it");

    assert_eq!(machine.does("prerm", &["upgrade", "9.9.10"]), Vec::<String>::new(), "it goes on until it is replaced");
    assert_eq!(machine.does("prerm", &["remove"]), ["systemctl disable --now vouchgate.service"]);
    assert_eq!(machine.does("postrm", &["remove"]), ["systemctl daemon-reload"]);
    assert!(machine.root("etc/vouchgate/master.key").exists() && machine.root("var/lib/vouchgate").exists());
    assert!(machine.does("postrm", &["purge"]).contains(&"userdel vouchgate".to_owned()));
    assert!(!machine.root("etc/vouchgate").exists() && !machine.root("var/lib/vouchgate").exists());
}

#[test]
fn an_installation_that_cannot_make_its_key_fails_and_starts_nothing() {
    let Some((_dir, packed)) = packed() else { return };
    let machine = Machine::new(&packed);
    std::fs::create_dir_all(machine.root("run/systemd/system")).unwrap();
    let failed = machine.run("postinst", &["configure", ""], "yes");
    assert!(!failed.status.success(), "{failed:?}");
    assert!(!machine.notes().iter().any(|note| note.starts_with("systemctl")), "{:?}", machine.notes());
    // Whoever puts it right and configures again goes on.
    let again = machine.does("postinst", &["configure", ""]);
    let service: Vec<&String> = again.iter().filter(|note| note.starts_with("systemctl")).collect();
    assert_eq!(
        service,
        ["systemctl daemon-reload", "systemctl enable vouchgate.service", "systemctl start vouchgate.service"]
    );
}

#[test]
fn the_unit_runs_what_the_package_installs_and_takes_away_what_it_does_not_need() {
    let unit = read(&root().join("packaging/systemd/vouchgate.service")).map_err(|failure| failure.0).unwrap();
    let set: Vec<(&str, &str)> =
        unit.lines().filter(|line| !line.starts_with('#')).filter_map(|l| l.split_once('=')).collect();
    for directive in [
        ("User", "vouchgate"),
        ("ExecStart", "/usr/bin/vouchgate serve --config /etc/vouchgate/vouchgate.toml"),
        ("ExecStartPre", "/usr/bin/vouchgate check --config /etc/vouchgate/vouchgate.toml"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("StateDirectory", "vouchgate"),
        ("StateDirectoryMode", "0700"),
        ("UMask", "0077"),
        ("LimitCORE", "0"),
        ("MemorySwapMax", "0"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("ProtectProc", "invisible"),
        ("PrivateDevices", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateUsers", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallArchitectures", "native"),
        ("SystemCallFilter", "@system-service"),
        ("SystemCallFilter", "~@privileged @resources"),
    ] {
        assert!(set.contains(&directive), "{directive:?}");
    }
    // Its data directory is the one that the configuration of the package names, and the unit makes.
    let config = read(&root().join("packaging/debian/vouchgate.toml")).map_err(|failure| failure.0).unwrap();
    assert!(config.contains("data_dir = \"/var/lib/vouchgate\""));

    let file = root().join("packaging/systemd/vouchgate.service");
    let asked = std::process::Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=20"])
        .arg(&file)
        .output();
    let Ok(judged) = asked else { return warn("SKIPPED: systemd-analyze is not installed") };
    let text = String::from_utf8_lossy(&judged.stdout).into_owned() + &String::from_utf8_lossy(&judged.stderr);
    if text.contains("unrecognized option") || text.contains("Unknown option") {
        return warn("SKIPPED: systemd-analyze knows no offline judgement");
    }
    assert!(judged.status.success(), "the process is more exposed than 2.0 of 10:\n{text}");
}

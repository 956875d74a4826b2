//! What the compose file and the chart deploy: their configurations are checked by the program, and nothing they refer to is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::program;

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(packaging(path)).unwrap()
}

fn check(dir: &Path, config: &str, environment: &BTreeMap<String, String>) -> Output {
    std::fs::write(dir.join("vouchgate.toml"), config).unwrap();
    let mut command = Command::new(program());
    command.args(["check", "--config", "vouchgate.toml"]).current_dir(dir).env_clear().envs(environment);
    command.output().unwrap()
}

/// The secrets that `prepare.sh` makes, in a directory of their own: nobody becomes their owner here.
fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(packaging("compose/prepare.sh"), dir.path().join("prepare.sh")).unwrap();
    let stubs = dir.path().join("stubs");
    std::fs::create_dir(&stubs).unwrap();
    std::fs::write(stubs.join("chown"), "#!/bin/sh\necho \"$@\" >> ../owners\n").unwrap();
    std::fs::set_permissions(stubs.join("chown"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", stubs.display(), "/usr/bin:/bin");
    let run = || Command::new("sh").arg(dir.path().join("prepare.sh")).env("PATH", &path).output().unwrap();
    let made = run();
    assert!(made.status.success(), "{made:?}");
    let again = run();
    assert!(!again.status.success(), "what is there is never overwritten: {again:?}");
    dir
}

#[test]
fn the_nodes_of_the_compose_file_start_with_what_its_script_makes() {
    let dir = prepared();
    let secrets = dir.path().join("secrets");
    for entry in std::fs::read_dir(&secrets).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?} is for its owner only");
    }
    let environment = std::fs::read_to_string(secrets.join("environment")).unwrap();
    let environment: BTreeMap<String, String> =
        environment.lines().map(|line| line.split_once('=').unwrap()).map(|(a, b)| (a.into(), b.into())).collect();
    let config = text("compose/vouchgate.toml");
    let named: BTreeSet<&str> = config.split("env = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(named, environment.keys().map(String::as_str).collect(), "every variable is made, and used");

    let key = secrets.join("master.key");
    let placed = config.replace("/run/secrets/vouchgate/master.key", key.to_str().unwrap());
    assert_ne!(placed, config);
    let checked = check(dir.path(), &placed, &environment);
    assert!(checked.status.success(), "{checked:?}");
    let checked = check(dir.path(), &placed.replace("[vault]", "[vauld]"), &environment);
    assert_eq!(checked.status.code(), Some(1), "a fault is found: {checked:?}");
}

#[test]
fn every_service_of_the_compose_file_gives_up_what_it_can_and_mounts_what_there_is() {
    let compose = text("compose/compose.yaml");
    let dir = prepared();
    let mut sources = BTreeSet::new();
    for line in compose.lines() {
        if let Some((source, _)) = line.trim().strip_prefix("- ./").and_then(|mount| mount.split_once(':')) {
            sources.insert(source.to_owned());
        }
    }
    assert!(sources.len() >= 5, "{sources:?}");
    for source in sources {
        let there = packaging("compose").join(&source).is_file() || dir.path().join(&source).is_file();
        assert!(there, "{source} is neither here nor made by prepare.sh");
    }
    // The nodes and the balancer, which talk to others: nothing to write to, no capability, nothing to gain.
    for head in ["x-node: &node\n", "  balancer:\n"] {
        let (_, rest) = compose.split_once(head).unwrap();
        let indent = rest.len() - rest.trim_start().len();
        let block: Vec<&str> = rest.lines().take_while(|line| line.len() - line.trim_start().len() >= indent).collect();
        for line in ["read_only: true", "cap_drop: [\"ALL\"]", "security_opt: [\"no-new-privileges:true\"]"] {
            assert!(block.iter().any(|own| own.trim() == line), "{head:?} has not {line:?}");
        }
    }
    // Only the balancer can be reached, and only from this machine.
    assert_eq!(compose.matches("ports:").count(), 1);
    assert!(compose.contains("ports: [\"127.0.0.1:8080:8080\"]") && compose.contains("internal: true"));
    assert!(text("compose/haproxy.cfg").contains("node-1:8080") && text("compose/haproxy.cfg").contains("node-2:8080"));
}

/// The keys of a YAML file of plain maps, as paths (`image.tag`), and what stands at them on the same line.
fn keys(yaml: &str) -> BTreeMap<String, String> {
    let (mut found, mut path, mut block) = (BTreeMap::new(), Vec::<(usize, String)>::new(), None);
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        let is_comment = line.trim_start().starts_with('#') || line.trim().is_empty();
        if block.is_some_and(|of| is_comment || indent > of) {
            continue;
        }
        block = None;
        let Some((key, value)) = line.trim().split_once(':').filter(|_| !is_comment && !line.trim().starts_with('-'))
        else {
            continue;
        };
        path.retain(|(deep, _)| *deep < indent);
        path.push((indent, key.to_owned()));
        block = (value.trim() == "|").then_some(indent);
        let name: Vec<&str> = path.iter().map(|(_, key)| key.as_str()).collect();
        found.insert(name.join("."), value.trim().to_owned());
    }
    found
}

#[test]
fn the_chart_s_templates_use_values_that_there_are_and_every_value_is_used() {
    let values = keys(&text("helm/vouchgate/values.yaml"));
    assert_eq!(values["replicas"], "1");
    let mut used = BTreeSet::new();
    let mut all = String::new();
    for entry in std::fs::read_dir(packaging("helm/vouchgate/templates")).unwrap() {
        let template = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert_eq!(template.matches("{{").count(), template.matches("}}").count());
        let opened = ["{{- if", "{{- with", "{{- range", "{{- define"].map(|word| template.matches(word).count());
        let ended = template.matches("{{- end").count();
        assert_eq!(opened.iter().sum::<usize>(), ended, "{template}");
        for rest in template.split(".Values.").skip(1) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
            used.insert(rest[..end].trim_end_matches('.').to_owned());
        }
        all += &template;
    }
    for name in &used {
        assert!(values.contains_key(name), "{name} is no value of the chart");
    }
    let leaf = |name: &&String| !values.keys().any(|other| other.starts_with(&format!("{name}.")));
    for name in values.keys().filter(leaf) {
        let whole = used.iter().any(|used| name == used || name.starts_with(&format!("{used}.")));
        assert!(whole, "nothing uses {name}");
    }
    for directive in [
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "drop: [\"ALL\"]",
        "automountServiceAccountToken: false",
        "type: RuntimeDefault",
        "defaultMode: 0440",
    ] {
        assert!(all.contains(directive), "{directive}");
    }
}

#[test]
fn the_chart_s_configuration_is_a_good_one_once_its_key_is_there() {
    let values = text("helm/vouchgate/values.yaml");
    let (_, block) = values.split_once("\nconfig: |\n").unwrap();
    let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("  "));
    let config = lines.map(|line| line.get(2..).unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let dir = prepared();
    let key = dir.path().join("secrets/master.key");
    let placed = config.replace("/run/secrets/vouchgate/master.key", key.to_str().unwrap());
    assert_ne!(placed, config);
    let checked = check(dir.path(), &placed, &BTreeMap::new());
    assert!(checked.status.success(), "{checked:?}");
    // The ports of the chart are those of the configuration.
    let values = keys(&values);
    assert!(config.contains(&format!("admin_listen = \"0.0.0.0:{}\"", values["admin.port"])));
    assert!(config.contains("listen = \"0.0.0.0:8080\""));
}

//! Crates depend downwards only, and some crates of the world are not to be had at all.

use serde_json::Value;

use super::Findings;
use crate::run::{Failure, cargo, output};

/// The product's crates, lowest first: each may use those before it.
const ORDER: [&str; 12] =
    ["base", "config", "llm", "proof", "policy", "vault", "audit", "net", "store", "gateway", "control", "vouchgate"];

/// Pairs that keep apart although one is lower: they meet in `store` and the snapshot.
const APART: [(&str, &str); 1] = [("control", "gateway")];

/// Crates that only tests may use.
const TESTS_ONLY: [&str; 2] = ["testkit", "vectors"];

/// What apps link: it uses none of the product's crates, and of those only the program uses it.
const CLIENT: &str = "vouchgate-client";

/// Each with the reason, for whoever adds one.
const BANNED: [(&str, &str); 11] = [
    ("openssl", "TLS and cryptography are rustls and aws-lc-rs"),
    ("openssl-sys", "TLS and cryptography are rustls and aws-lc-rs"),
    ("native-tls", "TLS is rustls"),
    ("ring", "one provider of cryptography: aws-lc-rs"),
    ("rsa", "RUSTSEC-2023-0071; RSA is aws-lc-rs"),
    ("reqwest", "redirects, proxies and decompression are policy: crates/net is the only way out"),
    ("jsonwebtoken", "it accepts what a gateway must refuse: crates/proof"),
    ("serde_yaml", "unmaintained; configuration is TOML"),
    ("sea-orm", "SQL is written, not hidden"),
    ("diesel", "SQL is written, not hidden"),
    ("pingora-core", "a server of its own beside hyper"),
];

pub(super) fn check() -> Result<Findings, Failure> {
    let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let mut found = direction(&serde_json::from_str(&metadata)?);
    // A lock file lists options nobody builds; the tree shows what is built.
    let tree = ["tree", "--workspace", "--all-features", "--edges", "all", "--prefix", "none", "--format", "{p}"];
    found.add(banned(&output(&mut cargo(&tree))?));
    Ok(found)
}

fn direction(metadata: &Value) -> Findings {
    let mut found = Findings::default();
    let packages = metadata.get("packages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for package in packages {
        let name = text(package, "name");
        let rank = ORDER.iter().position(|known| *known == name);
        if rank.is_none() && !TESTS_ONLY.contains(&name) && ![CLIENT, "xtask"].contains(&name) {
            found.breach(format!("crate `{name}` has no place in the order of crates (xtask/src/tidy/borders.rs)"));
        }
        let dependencies = package.get("dependencies").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for dependency in dependencies {
            let used = text(dependency, "name");
            let built = dependency.get("kind").is_none_or(|kind| kind.as_str() != Some("dev"));
            let own = dependency.get("path").is_some_and(Value::is_string);
            if !own || !built || TESTS_ONLY.contains(&name) || (name, used) == ("vouchgate", CLIENT) {
                continue;
            }
            let below = ORDER.iter().position(|known| *known == used);
            let upwards = match (rank, below) {
                (Some(rank), Some(below)) => below >= rank,
                _ => true,
            };
            if upwards || APART.contains(&(name, used)) || APART.contains(&(used, name)) {
                found.breach(format!("crate `{name}` must not depend on `{used}`"));
            }
        }
    }
    found
}

fn banned(tree: &str) -> Findings {
    let mut found = Findings::default();
    let built = |name: &str| tree.lines().any(|line| line.split_whitespace().next() == Some(name));
    for (name, why) in BANNED {
        if built(name) {
            found.breach(format!("crate `{name}` is built: {why} (`cargo tree --invert {name}` shows who brings it)"));
        }
    }
    found
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(name: &str, used: &str, kind: Option<&str>) -> Value {
        json!({"packages": [{"name": name, "dependencies": [{"name": used, "path": "p", "kind": kind}]}]})
    }

    #[test]
    fn a_crate_depends_on_lower_ones_only() {
        assert!(direction(&workspace("proof", "base", None)).breaches.is_empty());
        assert_eq!(direction(&workspace("base", "proof", None)).breaches.len(), 1);
        assert_eq!(direction(&workspace("control", "gateway", None)).breaches.len(), 1);
    }

    #[test]
    fn test_crates_are_for_tests() {
        assert_eq!(direction(&workspace("proof", "testkit", None)).breaches.len(), 1);
        assert!(direction(&workspace("proof", "testkit", Some("dev"))).breaches.is_empty());
        assert!(direction(&workspace("testkit", "vouchgate", None)).breaches.is_empty());
    }

    #[test]
    fn the_client_uses_no_crate_of_ours_and_only_the_program_uses_it() {
        assert_eq!(direction(&workspace(CLIENT, "base", None)).breaches.len(), 1);
        assert_eq!(direction(&workspace("control", CLIENT, None)).breaches.len(), 1);
        assert!(direction(&workspace("vouchgate", CLIENT, None)).breaches.is_empty());
        assert!(direction(&workspace("proof", CLIENT, Some("dev"))).breaches.is_empty());
    }

    #[test]
    fn an_unknown_crate_has_to_be_given_a_place() {
        assert_eq!(direction(&json!({"packages": [{"name": "new", "dependencies": []}]})).breaches.len(), 1);
    }

    #[test]
    fn a_banned_crate_is_found_by_its_whole_name() {
        assert_eq!(banned("base v0.1.0\nring v0.17.14\n").breaches.len(), 1);
        assert!(banned("base v0.1.0\nring-buffer v1.0.0\n").breaches.is_empty());
    }
}

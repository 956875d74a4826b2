//! The examples that every help text begins with.

use clap::{Command, CommandFactory, FromArgMatches};

use super::args::Cli;

/// The command line, with examples first in every help text.
pub fn command() -> Command {
    with_examples(Cli::command(), "")
}

/// Read a command line; asked-for help counts as an error, as it does for clap.
pub fn parse<I, T>(arguments: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

fn with_examples(command: Command, path: &str) -> Command {
    let lines = EXAMPLES.iter().find(|(of, _)| *of == path).map_or(&[] as &[&str], |(_, lines)| *lines);
    let text = lines.iter().fold("Examples:".to_owned(), |text, line| format!("{text}\n  {line}"));
    let below = |sub: Command| {
        let path = format!("{path} {}", sub.get_name());
        with_examples(sub, path.trim_start())
    };
    command.before_help(text).mut_subcommands(below)
}

/// For each command, by the words that lead to it, in the order the commands are listed.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "vouchgate dev                                   try it: all defaults, state in ./vouchgate-data",
            "vouchgate check --config vouchgate.toml         is the configuration right?",
            "vouchgate serve --config vouchgate.toml         run it",
            "vouchgate token mint --client NAME              a token for a client",
        ],
    ),
    (
        "dev",
        &[
            "vouchgate dev",
            "OPENAI_API_KEY=... vouchgate dev                registers the provider openai",
            "vouchgate dev --listen 127.0.0.1:0              on a free port",
            "vouchgate dev --app                             with an app for phones made of software",
        ],
    ),
    ("serve", &["vouchgate serve --config vouchgate.toml"]),
    ("check", &["vouchgate check --config vouchgate.toml", "vouchgate check --config vouchgate.toml --json"]),
    ("doctor", &["vouchgate doctor --config vouchgate.toml", "vouchgate doctor --config vouchgate.toml --json"]),
    ("token", &["vouchgate token mint --client batch-jobs", "vouchgate token revoke --subject alice --issuer corp"]),
    (
        "token mint",
        &[
            "vouchgate token mint --client batch-jobs",
            "vouchgate token mint --client batch-jobs --scope \"chat embed\" --ttl 5m --config vouchgate.toml",
            "TOKEN=$(vouchgate token mint --client batch-jobs)",
        ],
    ),
    (
        "token revoke",
        &[
            "vouchgate token revoke --token-stdin < token                       one token",
            "vouchgate token revoke --subject alice --issuer corp               a person, up to now",
            "vouchgate token revoke --client batch-jobs --before 2h             what it got until two hours ago",
            "vouchgate token revoke --all --reason drill                        everything, up to now",
        ],
    ),
    ("token revocations", &["vouchgate token revocations", "vouchgate token revocations --json"]),
    ("token lift", &["vouchgate token lift 17"]),
    ("jwt", &["vouchgate jwt verify --jwks keys.json < token"]),
    (
        "jwt verify",
        &[
            "vouchgate jwt verify --jwks keys.json < token",
            "echo \"$TOKEN\" | vouchgate jwt verify --jwks keys.json --iss https://id.example.com/ --aud api",
            "vouchgate jwt verify --secret-file secret.txt --alg HS256 < token",
        ],
    ),
    ("dpop", &["vouchgate dpop verify --method POST --url https://ai.example.com/v1/chat/completions < proof"]),
    (
        "dpop verify",
        &[
            "vouchgate dpop verify --method POST --url https://ai.example.com/v1/chat/completions < proof",
            "vouchgate dpop verify --method GET --url https://example.com/v1/models --token-file token < proof",
        ],
    ),
    ("attest", &["vouchgate attest verify attestation.json", "vouchgate attest simulate"]),
    (
        "attest verify",
        &[
            "vouchgate attest verify attestation.json",
            "vouchgate attest verify cases.json --root test-root.pem --now 1795219200",
            "vouchgate attest verify chain.pem --status status.json --app com.example.app --challenge 9w11c_H1kgfx",
        ],
    ),
    (
        "attest simulate",
        &[
            "vouchgate attest simulate                          against a running vouchgate dev --app",
            "vouchgate attest simulate --device android --defect repackaged",
            "vouchgate attest simulate --defect list",
        ],
    ),
    ("client", &["vouchgate client create batch-jobs --scope chat", "vouchgate client list"]),
    (
        "client create",
        &[
            "vouchgate client create batch-jobs --scope chat",
            "vouchgate client create batch-jobs --scope \"chat embed\" --token-ttl 5m --config vouchgate.toml",
            "vouchgate client create ci --jwks ci.json --require dpop           signs its own assertions",
            "vouchgate client create app --public --require dpop --grant authorization-code --redirect-uri com.example.app:/cb",
        ],
    ),
    ("client list", &["vouchgate client list", "vouchgate client list --config vouchgate.toml --json"]),
    ("client show", &["vouchgate client show batch-jobs"]),
    ("client disable", &["vouchgate client disable batch-jobs"]),
    ("client enable", &["vouchgate client enable batch-jobs"]),
    (
        "client rotate",
        &[
            "vouchgate client rotate batch-jobs",
            "vouchgate client rotate batch-jobs --overlap 0s      the old secret leaked",
        ],
    ),
    ("client delete", &["vouchgate client delete batch-jobs"]),
    (
        "client hash",
        &[
            "vouchgate client hash                           a new secret and its hash",
            "vouchgate client hash --stdin < secret.txt      the hash of a secret you have",
        ],
    ),
    ("secret", &["vouchgate secret set openai-key < key.txt", "vouchgate secret list"]),
    (
        "secret set",
        &[
            "vouchgate secret set openai-key < key.txt",
            "vouchgate secret set maps-key --origin https://maps.example.com < key.txt",
        ],
    ),
    ("secret list", &["vouchgate secret list", "vouchgate secret list --config vouchgate.toml --json"]),
    (
        "secret rotate",
        &[
            "vouchgate secret rotate openai-key < new-key.txt",
            "vouchgate secret rotate openai-key --next < new-key.txt       used once the provider refuses the other",
            "vouchgate secret rotate openai-key --keep-old 0s < new-key.txt       the old one leaked",
        ],
    ),
    ("secret activate", &["vouchgate secret activate openai-key"]),
    ("secret retire", &["vouchgate secret retire openai-key", "vouchgate secret retire openai-key --next"]),
    ("secret delete", &["vouchgate secret delete openai-key"]),
    ("secret runtime", &["vouchgate secret runtime set tiles-key < key.txt", "vouchgate secret runtime list"]),
    ("secret runtime set", &["vouchgate secret runtime set tiles-key < key.txt"]),
    ("secret runtime list", &["vouchgate secret runtime list", "vouchgate secret runtime list --json"]),
    (
        "secret runtime rotate",
        &[
            "vouchgate secret runtime rotate tiles-key --overlap 1h < new-key.txt",
            "vouchgate secret runtime rotate tiles-key --after 1d --overlap 1h < new-key.txt",
        ],
    ),
    (
        "secret runtime retire",
        &["vouchgate secret runtime retire tiles-key", "vouchgate secret runtime retire tiles-key --version 1"],
    ),
    ("secret runtime delete", &["vouchgate secret runtime delete tiles-key"]),
    ("key", &["vouchgate key list", "vouchgate key rotate"]),
    ("key list", &["vouchgate key list", "vouchgate key list --config vouchgate.toml --json"]),
    (
        "key rotate",
        &[
            "vouchgate key rotate                              published now, signs later",
            "vouchgate key rotate --compromised KID            refuse a key and all it signed",
        ],
    ),
    (
        "pins",
        &[
            "vouchgate pins root new --out root.pem > root.jwk                  once, offline; and a spare",
            "vouchgate pins key > key.jwk                                       on the server",
            "vouchgate pins delegate --root root.pem < key.jwk > delegation     offline",
            "vouchgate pins accept < delegation                                 on the server",
            "vouchgate pins publish chat-ios",
            "vouchgate pins verify ai.example.com --config vouchgate.toml       from outside",
        ],
    ),
    ("pins show", &["vouchgate pins show", "vouchgate pins show chat-ios --json"]),
    (
        "pins publish",
        &[
            "vouchgate pins publish chat-ios",
            "vouchgate pins publish chat-ios chat-android --drop sha256/MTEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        ],
    ),
    (
        "pins kill",
        &[
            "vouchgate pins kill chat-ios --pinning off       apps stop comparing keys",
            "vouchgate pins kill chat-ios --pinning on",
        ],
    ),
    (
        "pins verify",
        &[
            "vouchgate pins verify ai.example.com --config vouchgate.toml",
            "vouchgate pins verify ai.example.com --app chat-ios --root root.jwk --root spare.jwk",
            "vouchgate pins verify ai.example.com --config vouchgate.toml --connect 192.0.2.10:443    one node",
        ],
    ),
    ("pins hash", &["vouchgate pins hash next.pem"]),
    ("pins root", &["vouchgate pins root new --out root.pem > root.jwk"]),
    ("pins root new", &["vouchgate pins root new --out root.pem > root.jwk"]),
    ("pins key", &["vouchgate pins key > key.jwk"]),
    ("pins delegate", &["vouchgate pins delegate --root root.pem --days 90 < key.jwk > delegation"]),
    ("pins accept", &["vouchgate pins accept < delegation"]),
    ("cert", &["vouchgate cert plan --config vouchgate.toml"]),
    ("cert plan", &["vouchgate cert plan --config vouchgate.toml", "vouchgate cert plan --json"]),
    ("apikey", &["vouchgate apikey create laptop --scope chat", "vouchgate apikey list"]),
    (
        "apikey create",
        &[
            "vouchgate apikey create laptop --scope chat",
            "vouchgate apikey create ci --scope \"chat embed\" --expires 90d",
        ],
    ),
    ("apikey list", &["vouchgate apikey list", "vouchgate apikey list --config vouchgate.toml --json"]),
    ("apikey revoke", &["vouchgate apikey revoke laptop"]),
    ("admin", &["vouchgate admin token create me --role owner"]),
    ("admin token", &["vouchgate admin token create me --role owner", "vouchgate admin token list"]),
    (
        "admin token create",
        &[
            "vouchgate admin token create me --role owner",
            "vouchgate admin token create prometheus --role viewer --expires 365d",
        ],
    ),
    ("admin token list", &["vouchgate admin token list", "vouchgate admin token list --config vouchgate.toml --json"]),
    ("admin token revoke", &["vouchgate admin token revoke prometheus"]),
    (
        "budget",
        &[
            "vouchgate budget list --config vouchgate.toml",
            "vouchgate budget raise team --by \"5 USD\" --for 2h --reason launch",
        ],
    ),
    ("budget list", &["vouchgate budget list", "vouchgate budget list --config vouchgate.toml --json"]),
    ("budget show", &["vouchgate budget show team"]),
    (
        "budget raise",
        &[
            "vouchgate budget raise team --by \"5 USD\" --for 2h",
            "vouchgate budget raise calls --by 1000 --unit requests --for 1d --whom client=vouchgate/app",
        ],
    ),
    ("budget raises", &["vouchgate budget raises", "vouchgate budget raises --config vouchgate.toml --json"]),
    ("budget end-raise", &["vouchgate budget end-raise 3"]),
    ("rotate", &["vouchgate rotate status --config vouchgate.toml"]),
    ("rotate status", &["vouchgate rotate status", "vouchgate rotate status --config vouchgate.toml --json"]),
    ("rotate new-vault-key", &["vouchgate rotate new-vault-key /etc/vouchgate/master-2027.key"]),
    ("rotate vault-key", &["vouchgate rotate vault-key --config vouchgate.toml"]),
    ("anomaly", &["vouchgate anomaly list --config vouchgate.toml", "vouchgate anomaly restore 3"]),
    ("anomaly list", &["vouchgate anomaly list", "vouchgate anomaly list --config vouchgate.toml --json"]),
    ("anomaly restore", &["vouchgate anomaly restore 3", "vouchgate anomaly restore key=ci-bot"]),
    ("risk", &["vouchgate risk simulate --config vouchgate.toml", "vouchgate risk passes"]),
    ("risk decisions", &["vouchgate risk decisions --since 1d", "vouchgate risk decisions --app chat-ios --json"]),
    (
        "risk simulate",
        &[
            "vouchgate risk simulate --config vouchgate.toml",
            "vouchgate risk simulate --config vouchgate.toml --rules changed.toml --app chat-ios --since 7d",
        ],
    ),
    (
        "risk force",
        &["vouchgate risk force chat-ios 0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I --for 7d --reason test-phone"],
    ),
    ("risk passes", &["vouchgate risk passes", "vouchgate risk passes --config vouchgate.toml --json"]),
    ("risk end", &["vouchgate risk end fp_1k3h"]),
    ("app", &["vouchgate app list", "vouchgate app show chat-ios"]),
    ("app list", &["vouchgate app list", "vouchgate app list --config vouchgate.toml --json"]),
    ("app show", &["vouchgate app show chat-ios"]),
    ("device", &["vouchgate device list --status quarantined", "vouchgate device revoke in_1k3h --reason stolen"]),
    ("device list", &["vouchgate device list --app chat-ios", "vouchgate device list --status quarantined --json"]),
    ("device show", &["vouchgate device show in_1k3h"]),
    ("device quarantine", &["vouchgate device quarantine in_1k3h --reason odd"]),
    ("device release", &["vouchgate device release in_1k3h --reason looked-at"]),
    ("device revoke", &["vouchgate device revoke in_1k3h --reason stolen"]),
    ("device delete", &["vouchgate device delete in_1k3h"]),
    ("arc", &["vouchgate arc show K7QX2M4P"]),
    ("arc show", &["vouchgate arc show K7QX2M4P", "vouchgate arc show K7QX2M4P --config vouchgate.toml"]),
    ("policy", &["vouchgate policy explain --config vouchgate.toml --claims claims.json --model fast"]),
    (
        "policy explain",
        &[
            "vouchgate policy explain --config vouchgate.toml --claims claims.json --model fast",
            "vouchgate policy explain --config vouchgate.toml --claims - --service analyzing --ip 192.0.2.1",
        ],
    ),
    ("route", &["vouchgate route explain --config vouchgate.toml --model fast"]),
    (
        "route explain",
        &[
            "vouchgate route explain --config vouchgate.toml --model fast",
            "vouchgate route explain --model fast --input-tokens 20000 --tools --header x-tier=gold --json",
        ],
    ),
    (
        "models",
        &[
            "vouchgate models --config vouchgate.toml",
            "vouchgate models --all --provider openai",
            "vouchgate models --all --json",
        ],
    ),
    ("cache", &["vouchgate cache clear --config vouchgate.toml"]),
    ("cache clear", &["vouchgate cache clear --config vouchgate.toml"]),
    (
        "backup",
        &[
            "vouchgate backup vouchgate.backup --config vouchgate.toml     also while the server runs",
            "vouchgate backup - --config vouchgate.toml > copy.backup       on standard output, for a pipe",
        ],
    ),
    (
        "restore",
        &[
            "vouchgate restore vouchgate.backup --config vouchgate.toml",
            "vouchgate restore vouchgate.backup --drill --config vouchgate.toml     can it be restored? changes nothing",
            "vouchgate restore vouchgate.backup --checkpoint /elsewhere/vouchgate.checkpoints --config vouchgate.toml",
        ],
    ),
    ("audit", &["vouchgate audit verify", "vouchgate audit export audit.jsonl"]),
    (
        "audit verify",
        &[
            "vouchgate audit verify",
            "vouchgate audit verify --checkpoint kept-elsewhere --key log.vkey",
            "vouchgate audit verify --export audit.jsonl --key log.vkey",
        ],
    ),
    (
        "audit export",
        &[
            "vouchgate audit export audit.jsonl",
            "vouchgate audit export november.jsonl --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z",
        ],
    ),
    ("audit checkpoint", &["vouchgate audit checkpoint > kept-elsewhere"]),
    ("audit proof", &["vouchgate audit proof 1234"]),
    ("audit keys", &["vouchgate audit keys > /elsewhere/log.vkeys"]),
    (
        "audit rotate-key",
        &[
            "vouchgate audit rotate-key                   both keys sign for 7 days, then the new one alone",
            "vouchgate audit rotate-key --compromised     the old one leaked: it signs nothing more",
        ],
    ),
    ("audit erase-subject", &["vouchgate audit erase-subject alice --issuer corp"]),
    (
        "usage",
        &[
            "vouchgate usage                                             by model, of the last 24 hours",
            "vouchgate usage --by client,model --since 30d --bucket day --csv",
            "vouchgate usage --by subject --only client=batch-jobs --since 7d",
        ],
    ),
    (
        "usage requests",
        &[
            "vouchgate usage requests --since 1h                         one JSON object a line",
            "vouchgate usage requests --since 30d --only policy=ios-app --csv",
        ],
    ),
    (
        "usage rerate",
        &[
            "vouchgate usage rerate --since 30d --dry-run                what would change?",
            "vouchgate usage rerate --since 30d --provider openai",
        ],
    ),
    ("openapi", &["vouchgate openapi > openapi-admin.json"]),
    ("schema", &["vouchgate schema > vouchgate.schema.json"]),
    (
        "completions",
        &[
            "vouchgate completions bash > /etc/bash_completion.d/vouchgate",
            "vouchgate completions zsh > ~/.zfunc/_vouchgate",
        ],
    ),
    ("version", &["vouchgate version", "vouchgate version --json"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command below this one, by the words that lead to it.
    fn paths(command: &Command, path: &str, into: &mut Vec<String>) {
        into.push(path.to_owned());
        for sub in command.get_subcommands() {
            paths(sub, format!("{path} {}", sub.get_name()).trim_start(), into);
        }
    }

    #[test]
    fn every_help_text_begins_with_examples_and_every_example_is_of_a_command() {
        let mut all = Vec::new();
        paths(&Cli::command(), "", &mut all);
        let known: Vec<&str> = EXAMPLES.iter().map(|(path, _)| *path).collect();
        assert_eq!(all, known, "the table follows the order of the commands");
        for path in &all {
            let words = std::iter::once("vouchgate").chain(path.split_whitespace()).chain(["--help"]);
            let help = parse(words).unwrap_err().to_string();
            assert!(help.starts_with("Examples:\n  "), "{path}: {help}");
        }
    }

    #[test]
    fn every_example_is_understood() {
        for line in EXAMPLES.iter().flat_map(|(_, lines)| lines.iter()) {
            let line = line.split("   ").next().unwrap().trim_end_matches(')').replace("\"chat embed\"", "chat");
            let line = line.replace("\"5 USD\"", "5USD");
            let typed = line.split("vouchgate ").skip(1).collect::<Vec<_>>().join("vouchgate ");
            let typed = typed.split(['<', '>']).next().unwrap();
            if let Err(error) = parse(std::iter::once("vouchgate").chain(typed.split_whitespace())) {
                panic!("{line}: {error}");
            }
        }
    }
}

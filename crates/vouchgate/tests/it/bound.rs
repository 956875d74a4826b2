//! The official SDKs with tokens bound to a key, as `examples/dpop` shows it: those very files are run here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Program, command, copy_into, write_config};

/// The example's configuration.
const CONFIG: &str = include_str!("../../../../examples/dpop/vouchgate.toml");

/// Run an example with its client's secret; what it prints.
async fn run(program: PathBuf, script: PathBuf, dir: &Path, url: String, secret: String) -> String {
    let mut command = Command::new(program);
    command.arg(script).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("VOUCHGATE_URL", url).env("CLIENT_ID", "my-program").env("CLIENT_SECRET", secret);
    command.env("MODEL", "vouchgate/echo").env("PYTHONDONTWRITEBYTECODE", "1");
    // What a developer may have set must not reach the SDKs.
    for name in ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY", "OPENAI_BASE_URL"] {
        command.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(Duration::from_mins(2), output).await.expect("the example ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_examples_make_bound_calls_with_every_sdk_streams_included() {
    let test = "the_examples_make_bound_calls_with_every_sdk_streams_included";
    let (Some(python), Some(node)) = (vectors::python(), vectors::node_project()) else {
        vectors::skip(test, "the official SDKs are not installed (cargo xtask test installs them)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // The example's own configuration, but for where it listens and keeps its state.
    let (_, rest) = CONFIG.split_once("[[policy]]").unwrap();
    write_config(dir.path(), "", &format!("[[policy]]{rest}"));
    let program = Program::serve(dir.path(), &[]).await;
    let secret = command(dir.path(), &["client", "create", "my-program", "--scope", "chat", "--require", "dpop"], b"");
    let url = format!("http://{}", program.public);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/dpop");
    let expected = "Hello from a bound token\n".repeat(4);
    let said = run(python, examples.join("chat.py"), &examples, url.clone(), secret.clone()).await;
    assert_eq!(said, expected, "Python");
    copy_into(&node, &examples.join("dpop.mjs"));
    let script = copy_into(&node, &examples.join("chat.mjs"));
    let said = run("node".into(), script, &node, url, secret).await;
    assert_eq!(said, expected, "Node");
}

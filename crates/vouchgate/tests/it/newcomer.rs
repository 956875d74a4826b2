//! What somebody who has just cloned the repository sees.

use std::path::Path;

use testkit::process::Process;

use crate::support::program;

/// `vouchgate dev` prints a request; pasted into a shell, it streams an answer of the built-in model.
#[tokio::test]
async fn the_request_that_dev_prints_works_when_pasted() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut dev = Process::start(program(), &args, dir.path(), &[]);
    dev.line("That token works").await;
    let printed = dev.output();
    let start = printed.find("curl -N").expect("a request");
    let command = &printed[start..start + printed[start..].find("\n\n").expect("its end")];
    let pasted = tokio::process::Command::new("sh").args(["-c", command]).output().await.unwrap();
    let pasted = String::from_utf8(pasted.stdout).unwrap();
    assert!(pasted.contains("chat.completion.chunk"), "{pasted}");
    assert!(pasted.contains("Hell") && pasted.trim_end().ends_with("data: [DONE]"), "{pasted}");
    dev.signal("INT");
    assert!(dev.ended().await.success(), "{}", dev.output());
    assert!(Path::new(dir.path()).join("vouchgate-data/dev.toml").is_file());
}

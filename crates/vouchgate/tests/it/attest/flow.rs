//! `vouchgate dev --app` and `vouchgate attest simulate`: the flow a developer without a phone sees.

use testkit::process::Process;

use crate::support::{program, run};

#[tokio::test]
async fn a_developer_without_a_phone_sees_the_whole_flow() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["dev", "--app", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut dev = Process::start(program(), &args, dir.path(), &[]);
    let line = dev.line("vouchgate attest simulate --gateway").await;
    let simulate = |more: &[&str]| {
        let printed: Vec<&str> = line.split_whitespace().skip(1).collect();
        run(&[printed.as_slice(), more].concat(), dir.path(), b"")
    };
    for device in ["ios", "web"] {
        let (exit, out, said) = simulate(&["--device", device]);
        assert_eq!(exit, 0, "{device}: {out}{said}");
        for step in [
            "enrol",
            "token",
            "request   signed: 200",
            "replay    the same again: 401",
            "altered",
            "stolen",
            "refresh   the next token",
            "leave     the installation is deleted",
        ] {
            assert!(out.contains(step), "{step:?} in\n{out}");
        }
    }
    // A rule asks for work besides, and the client does it.
    let (exit, out, said) = simulate(&["--report", "vpn"]);
    assert_eq!(exit, 0, "{out}{said}");
    assert!(out.contains("step-up") && out.contains("altcha"), "{out}");
    let (exit, out, _) = simulate(&["--defect", "own-root"]);
    assert!(exit == 1 && out.contains("enrol     refused (401)"), "{out}");
    let (exit, out, _) = simulate(&["--device", "android", "--defect", "list"]);
    assert!(exit == 0 && out.contains("own-root") && out.contains("chain_unknown_root"), "{out}");
    let (exit, _, said) = simulate(&["--defect", "no-such"]);
    assert!(exit == 2 && said.contains("--defect list"), "{said}");
    dev.signal("INT");
    assert!(dev.ended().await.success(), "{}", dev.output());
}

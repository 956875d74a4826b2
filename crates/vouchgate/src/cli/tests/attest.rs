//! `attest verify` as somebody types it.

use serde_json::{Value, json};

use super::vouchgate;

#[tokio::test]
async fn each_case_is_a_line_and_one_that_is_refused_is_a_no() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cases.json");
    let file_name = file.to_str().unwrap();
    let case = |name: &str| json!({"name": name, "attestation_b64": "oA=="});
    std::fs::write(&file, json!({"cases": [case("one"), case("two")]}).to_string()).unwrap();
    let done = vouchgate(&["attest", "verify", file_name, "--app", "A.b", "--challenge", "AQI="]).await;
    assert_eq!(done.exit, 1, "{done:?}");
    let lines: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["case"], "two");
    assert_eq!(lines[1]["valid"], false);
    assert_eq!(lines[1]["reason"], "unexpected_members");

    std::fs::write(&file, json!({"cases": []}).to_string()).unwrap();
    assert_eq!(vouchgate(&["attest", "verify", file_name]).await.exit, 0);
}

#[tokio::test]
async fn what_cannot_be_judged_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("it.json");
    let file_name = file.to_str().unwrap();
    std::fs::write(&file, json!({"attestation_b64": "oA=="}).to_string()).unwrap();
    let done = vouchgate(&["attest", "verify", file_name]).await;
    assert_eq!((done.exit, done.out.as_str()), (2, ""));
    assert!(done.err.contains("--app"), "{done:?}");
    for wrong in [
        &["--challenge", "%"][..],
        &["--root", file_name],
        &["--status", file_name],
        &["--root", "missing.pem"],
        &["--now", "yesterday"],
    ] {
        let done = vouchgate(&[&["attest", "verify", file_name, "--app", "A.b"], wrong].concat()).await;
        assert_eq!(done.exit, 2, "{wrong:?}: {done:?}");
    }
    assert_eq!(vouchgate(&["attest", "verify", "missing.json"]).await.exit, 2);
    assert_eq!(vouchgate(&["attest", "verify"]).await.exit, 2);
}

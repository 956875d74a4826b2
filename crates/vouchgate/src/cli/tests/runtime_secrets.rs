//! `secret runtime ...`.

use super::{vouchgate, vouchgate_with};

#[tokio::test]
async fn a_runtime_secret_is_set_rotated_and_retired_and_its_values_are_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vouchgate.toml");
    let text = format!(
        "[server]\ndata_dir = {:?}\n[[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"https://maps.example.com/\"\n\
         [[runtime_secret]]\nname = \"maps-key\"\napps = [\"tool\"]\nminimum_level = \"none\"\nupstreams = [\"maps\"]\nquery = [\"key\"]\n",
        dir.path().join("data")
    );
    std::fs::write(&path, text).unwrap();
    let config = path.to_str().unwrap();
    let canary = "canary-7d0f3b1a9c5e2468aa";
    let set = vouchgate_with(&["secret", "runtime", "set", "maps-key", "--config", config], canary).await;
    assert!(set.exit == 0 && set.err.contains("Kept version 1"), "{set:?}");
    let rotate = ["secret", "runtime", "rotate", "maps-key", "--after", "1d", "--config", config];
    let rotated = vouchgate_with(&rotate, canary).await;
    assert!(rotated.exit == 0 && rotated.err.contains("in force from"), "{rotated:?}");
    let listed = vouchgate(&["secret", "runtime", "list", "--config", config]).await;
    let lines: Vec<&str> = listed.out.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("next") && lines[2].contains("current"), "{listed:?}");
    let json = vouchgate(&["secret", "runtime", "list", "--config", config, "--json"]).await.json();
    assert_eq!((&json[0]["name"], &json[0]["current"]), (&"maps-key".into(), &1.into()));
    let none = vouchgate(&["secret", "runtime", "retire", "maps-key", "--config", config]).await;
    assert_eq!(none.exit, 1, "no version is older than the one in force: {none:?}");
    let retired = vouchgate(&["secret", "runtime", "retire", "maps-key", "--version", "1", "--config", config]).await;
    assert!(retired.exit == 0 && retired.err.contains("Version 1"), "{retired:?}");
    let deleted = vouchgate(&["secret", "runtime", "delete", "maps-key", "--config", config]).await;
    assert_eq!(deleted.exit, 0);
    for done in [set, rotated, listed, none, retired, deleted] {
        assert!(!done.out.contains(canary) && !done.err.contains(canary), "{done:?}");
    }
    let by_flag = vouchgate(&["secret", "runtime", "set", "maps-key", "--value", canary]).await;
    assert_eq!(by_flag.exit, 2);
}

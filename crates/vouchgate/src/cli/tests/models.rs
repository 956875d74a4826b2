//! `models`.

use serde_json::json;

use super::*;

const MODELS: &str = "
[[provider]]
name = \"main\"
kind = \"openai\"
api_key = { env = \"K\" }

[[provider]]
name = \"local\"
kind = \"ollama\"

[[model]]
name = \"fast\"
targets = [{ provider = \"main\", model = \"gpt-5-mini-2025-08-07\" }, { provider = \"local\", model = \"qwen3:8b\" }]

[[model]]
name = \"long\"
targets = [{ provider = \"main\", model = \"gpt-5.4\" }, { provider = \"vouchgate\", model = \"echo\" }]

[[price]]
provider = \"local\"
model = \"*\"
input = \"0 USD\"
output = \"0 USD\"
context = 32768
";

fn place() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vouchgate.toml");
    let data = dir.path().join("data").display().to_string();
    std::fs::write(&file, format!("[server]\ndata_dir = {data:?}\n{MODELS}")).unwrap();
    let file = file.display().to_string();
    (dir, file)
}

#[tokio::test]
async fn models_are_listed_with_each_targets_price_and_where_it_is_from() {
    let (dir, config) = place();
    let listed = vouchgate(&["models", "--config", &config, "--json"]).await;
    assert_eq!(listed.exit, 0, "{listed:?}");
    let rows = listed.json();
    let brief: Vec<Value> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| json!([row["name"], row["model"], row["price_from"], row["price"]["input"], row["context"]]))
        .collect();
    assert_eq!(
        Value::Array(brief),
        json!([
            ["fast", "gpt-5-mini-2025-08-07", "table", "0.25 USD", 400_000],
            ["fast", "qwen3:8b", "configuration", "0.00 USD", 32_768],
            ["long", "gpt-5.4", "table", "2.50 USD", 1_050_000],
            ["long", "echo", null, null, null],
        ])
    );
    assert!(!dir.path().join("data").exists(), "looking makes no state");
    let table = vouchgate(&["models", "--config", &config, "--provider", "main"]).await;
    let lines: Vec<Vec<&str>> = table.out.lines().map(words).collect();
    assert_eq!(lines[1], ["fast", "main", "gpt-5-mini-2025-08-07", "0.25", "2.00", "table", "400000", "128000"]);
    assert_eq!(lines[2], ["long", "main", "gpt-5.4", "2.50+", "15.00+", "table", "1050000", "128000"]);
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn the_table_is_listed_whole_or_for_one_kind_of_provider() {
    let (_dir, config) = place();
    let all = vouchgate(&["models", "--all", "--json", "--config", &config]).await.json();
    assert!(all.as_array().unwrap().len() > 800);
    for provider in ["main", "openai"] {
        let some = vouchgate(&["models", "--all", "--json", "--config", &config, "--provider", provider]).await.json();
        let some = some.as_array().unwrap();
        assert!(some.iter().all(|row| row["kind"] == "openai") && some.len() > 40, "{provider}");
        let mini = some.iter().find(|row| row["model"] == "gpt-5-mini").unwrap();
        assert_eq!(mini["price"], json!({"input": "0.25 USD", "output": "2.00 USD", "cache_read": "0.025 USD"}));
        assert_eq!((mini["as_of"].as_str(), mini["source"].as_str()), (Some("2026-07-02"), Some("https://models.dev")));
    }
    let none = vouchgate(&["models", "--all", "--provider", "nobody", "--config", &config]).await;
    assert_eq!((none.exit, none.out.as_str()), (0, ""), "{none:?}");
}

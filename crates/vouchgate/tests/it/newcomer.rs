//! What somebody who has just cloned the repository sees.

use std::path::Path;

use testkit::mock::{Answer, Mock};
use testkit::process::Process;
use testkit::raw;

use crate::support::{program, run};

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

/// A provider's usual key in the environment is all it takes. What `dev` wrote down is a configuration of one's own to
/// begin with: with the provider's address changed to another one, `serve` answers from there, with that key.
#[tokio::test]
async fn a_providers_key_in_the_environment_registers_it() {
    const KEY: &str = "fake-key-from-the-environment";
    let dir = tempfile::tempdir().unwrap();
    let args = ["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut dev = Process::start(program(), &args, dir.path(), &[("MISTRAL_API_KEY", KEY)]);
    dev.line("That token works").await;
    let printed = dev.output();
    let listed = printed.lines().find(|line| line.starts_with("Providers:")).expect("the providers");
    assert!(listed.contains("mistral"), "{listed}");
    assert!(!printed.contains(KEY), "the key is not repeated");
    dev.signal("INT");
    assert!(dev.ended().await.success(), "{}", dev.output());

    let written = std::fs::read_to_string(dir.path().join("vouchgate-data/dev.toml")).unwrap();
    assert!(written.contains("api_key = { env = \"MISTRAL_API_KEY\" }") && !written.contains(KEY), "{written}");
    let mock = Mock::start().await;
    let found = "kind = \"mistral\"\n";
    assert!(written.contains(found), "{written}");
    let mine = written.replace(found, &format!("{found}base_url = \"{}/v1\"\nallow_private = true\n", mock.url()));
    std::fs::write(dir.path().join("vouchgate.toml"), mine).unwrap();

    let args = ["serve", "--config", "vouchgate.toml"];
    let mut serve = Process::start(program(), &args, dir.path(), &[("MISTRAL_API_KEY", KEY)]);
    let line = serve.line("listening public=").await;
    let public = line.split("public=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let (status, token, said) =
        run(&["token", "mint", "--config", "vouchgate.toml", "--client", "dev"], dir.path(), b"");
    assert_eq!(status, 0, "{said}");
    let chunk = |text: &str, finish: Option<&str>| {
        serde_json::json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "small",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})
    };
    mock.push(Answer::openai_stream(&[chunk("Bon", None), chunk("jour", Some("stop"))]));
    let authorization = format!("Bearer {}", token.trim());
    let body = br#"{"model": "mistral/small", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}"#;
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let answer = raw::request(public.parse().unwrap(), "POST", "/v1/chat/completions", &headers, body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(answer.text().contains("Bon") && answer.text().trim_end().ends_with("data: [DONE]"), "{}", answer.text());
    let received = mock.request(0).await;
    assert_eq!(received.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!((received.path(), &received.json()["model"]), ("/v1/chat/completions", &serde_json::json!("small")));
    serve.signal("TERM");
    assert!(!serve.output().contains(KEY), "the key is not logged");
}

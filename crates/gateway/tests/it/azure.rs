//! Azure OpenAI and Azure AI Foundry behind the gateway: where requests go, with which key, and every recording of them.

use serde_json::{Value, json};
use testkit::mock::{Answer, Cassette, Mock};

use crate::compare;
use crate::harness::{PROVIDER_KEY, World};

fn config(mock: &Mock, providers: &[(&str, &str)]) -> String {
    let each = providers.iter().map(|(name, more)| {
        let (base, keys) = more.split_once(' ').unwrap_or((more, ""));
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"azure\"\nbase_url = \"{}{base}\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n{keys}\n",
            mock.url()
        )
    });
    format!(
        "{}[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"*\"] }}\n",
        each.collect::<String>()
    )
}

fn hi(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

fn said(text: &str) -> Answer {
    let message = json!({"role": "assistant", "content": text});
    Answer::json(
        200,
        &json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt", "choices":
            [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}),
    )
}

#[tokio::test]
async fn requests_go_to_the_surface_that_is_configured_with_azures_own_key_field() {
    let mock = Mock::start_with(|_| said("hello")).await;
    let world = World::new(&config(
        &mock,
        &[
            ("plain", ""),
            ("written", "/openai/v1/"),
            ("preview", " api_version = \"preview\""),
            ("dated", " api_version = \"2024-10-21\""),
            ("fixed", " api_version = \"2024-10-21\"\ndeployment = \"prod\""),
            ("named", " deployment = \"prod\""),
            ("foundry", "/models"),
        ],
    ));
    for (at, (provider, target, model)) in [
        ("plain", "/openai/v1/chat/completions", "gpt-5"),
        ("written", "/openai/v1/chat/completions", "gpt-5"),
        ("preview", "/openai/v1/chat/completions?api-version=preview", "gpt-5"),
        ("dated", "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21", "gpt-5"),
        ("fixed", "/openai/deployments/prod/chat/completions?api-version=2024-10-21", "prod"),
        ("named", "/openai/v1/chat/completions", "prod"),
        ("foundry", "/models/chat/completions?api-version=2024-05-01-preview", "gpt-5"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = world.post("/v1/chat/completions", &hi(&format!("{provider}/gpt-5"))).await;
        assert_eq!(answer.status, 200, "{provider}: {}", answer.text());
        let got = mock.request(at).await;
        assert_eq!((got.target.as_str(), &got.json()["model"]), (target, &json!(model)), "{provider}");
        assert_eq!((got.header("api-key"), got.header("authorization")), (Some(PROVIDER_KEY), None));
    }
}

#[tokio::test]
async fn no_models_name_leads_to_another_path() {
    let mock = Mock::start_with(|_| said("hello")).await;
    let world = World::new(&config(&mock, &[("dated", " api_version = \"2024-10-21\"")]));
    for (model, target) in [
        ("a b?c=d#e", Some("/openai/deployments/a%20b%3Fc%3Dd%23e/chat/completions?api-version=2024-10-21")),
        ("..", None),
        ("../../files", None),
        ("a\\b", None),
    ] {
        let before = mock.count();
        let answer = world.post("/v1/chat/completions", &hi(&format!("dated/{model}"))).await;
        match target {
            Some(target) => assert_eq!(mock.request(before).await.target, target),
            None => assert_eq!((answer.status.as_u16(), mock.count()), (400, before), "{model}"),
        }
    }
}

#[tokio::test]
async fn members_that_a_version_does_not_know_are_not_added() {
    let mock = Mock::start().await;
    let world = World::new(
        &config(
            &mock,
            &[
                ("old", " api_version = \"2024-02-01\""),
                ("new", " api_version = \"2024-10-21\""),
                ("foundry", "/models"),
            ],
        )
        .replace("models = [\"*\"]", "models = [\"*\"], max_output_tokens = 9"),
    );
    for (provider, cap, options) in
        [("old", "max_tokens", false), ("new", "max_completion_tokens", true), ("foundry", "max_tokens", true)]
    {
        mock.push(Answer::openai_stream(&[
            json!({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}),
        ]));
        let mut body = hi(&format!("{provider}/m"));
        body["stream"] = true.into();
        world.post("/v1/chat/completions", &body).await;
        let got = mock.request(mock.count() - 1).await.json();
        assert_eq!((got[cap].as_u64(), got["stream_options"].is_object()), (Some(9), options), "{provider}: {got}");
    }
}

#[tokio::test]
async fn azures_own_paths_work_as_its_sdk_writes_them_and_the_path_decides_on_the_model() {
    let mock = Mock::start_with(|_| said("hello")).await;
    let listed =
        "passthrough = [{ provider = \"dated\", methods = [\"POST\"], paths = [\"/openai/**\"], models = [\"good\"] }]";
    let config = config(&mock, &[("dated", " api_version = \"2024-10-21\""), ("plain", "")]);
    let world = World::new(&config.replace("providers = [\"*\"]", listed));
    let path = |deployment: &str| {
        format!("/providers/dated/openai/deployments/{deployment}/chat/completions?api-version=2024-06-01")
    };
    let answer = world.post(&path("good"), &hi("good")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = mock.request(0).await;
    assert_eq!(got.target, "/openai/deployments/good/chat/completions?api-version=2024-06-01");
    assert_eq!(world.record().output_tokens, Some(1));
    // Whatever the body says: the deployment in the path is what would answer.
    for (deployment, model) in [("evil", "good"), ("good", "evil"), ("%65vil", "good")] {
        let answer = world.post(&path(deployment), &hi(model)).await;
        assert!(answer.status == 403 || answer.status == 400, "{deployment} {model}: {}", answer.text());
    }
    assert_eq!(mock.count(), 1);

    let world = World::new(&config);
    for (path, target) in [
        ("/providers/plain/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/providers/plain/chat/completions", "/openai/v1/chat/completions"),
        ("/providers/plain/openai/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/providers/plain/openai/v1/responses?api-version=preview", "/openai/v1/responses?api-version=preview"),
        ("/providers/dated/openai/responses", "/openai/responses?api-version=2024-10-21"),
        (
            "/providers/dated/openai/deployments/d/completions",
            "/openai/deployments/d/completions?api-version=2024-10-21",
        ),
    ] {
        let before = mock.count();
        let answer = world.post(path, &hi("m")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(mock.request(before).await.target, target, "{path}");
    }
    for (method, path) in [("POST", "/providers/plain/openai/v1/files"), ("GET", "/providers/dated/openai/files/f")] {
        let token = format!("Bearer {}", world.token("alice"));
        let answer = world.send(method, path, &[("authorization", &token)], "").await;
        assert_eq!(answer.status, 403, "{path}");
    }
}

/// The provider and the path a recording belongs to.
fn place(cassette: &Cassette) -> Option<(&'static str, &'static str)> {
    let path = cassette.path.trim_start_matches('/');
    let provider = if path.starts_with("openai/v1/") {
        "v1"
    } else if path.starts_with("models/") {
        "foundry"
    } else if path.ends_with("2023-07-01-preview") {
        "y23"
    } else if path.ends_with("2024-02-01") {
        "y24"
    } else {
        "y24-10"
    };
    match cassette.endpoint.as_str() {
        "chat.completions" => Some((provider, "/v1/chat/completions")),
        "embeddings" => Some((provider, "/v1/embeddings")),
        _ => None,
    }
}

#[tokio::test]
async fn every_recording_of_azure_comes_out_as_it_was_from_where_it_was_and_says_the_same_to_others() {
    let Some(cassettes) = Cassette::all() else {
        vectors::skipped("every_recording_of_azure");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(
        &mock,
        &[
            ("v1", ""),
            ("foundry", "/models"),
            ("y23", " api_version = \"2023-07-01-preview\""),
            ("y24", " api_version = \"2024-02-01\""),
            ("y24-10", " api_version = \"2024-10-21\""),
        ],
    ));
    let (mut exact, mut translated, mut keys) = (0, 0, 0);
    for cassette in cassettes.iter().filter(|cassette| cassette.provider == "azure") {
        let Some((provider, path)) = place(cassette) else { continue };
        let recorded = format!("/{}", cassette.path.trim_start_matches('/'));
        let deployment = recorded.strip_prefix("/openai/deployments/").and_then(|rest| rest.split('/').next());
        let mut body = cassette.request_json();
        let model = deployment.or(body["model"].as_str()).unwrap_or("m").to_owned();
        body["model"] = format!("{provider}/{model}").into();
        if cassette.is_stream {
            // The very bytes, with the chunk that tells the usage where there is one.
            body["stream_options"] = json!({"include_usage": true});
        }
        mock.push(Answer::cassette(cassette).pieces(997));
        let answer = world.post(path, &body).await;
        assert_eq!(mock.request(mock.count() - 1).await.target, recorded, "{}", cassette.id);
        if cassette.status == 401 {
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "provider_key_refused"));
            keys += 1;
            continue;
        }
        assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
        assert_eq!(answer.body, cassette.response_body, "{}", cassette.id);
        exact += 1;
        if cassette.endpoint != "chat.completions" {
            continue;
        }
        for anthropic in [true, false] {
            mock.push(Answer::cassette(cassette).pieces(41));
            let name = format!("{provider}/{model}");
            let answer = if anthropic {
                let body = json!({"model": name, "max_tokens": 500, "stream": cassette.is_stream,
                    "messages": [{"role": "user", "content": "Go on."}]});
                world.post("/v1/messages", &body).await
            } else {
                let method = if cassette.is_stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
                let body = json!({"contents": [{"role": "user", "parts": [{"text": "Go on."}]}]});
                world.post(&format!("/v1beta/models/{name}:{method}"), &body).await
            };
            assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
            translated += 1;
            if cassette.status >= 400 {
                assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", cassette.id);
                continue;
            }
            let text = String::from_utf8_lossy(&cassette.response_body).into_owned();
            let original = if cassette.is_stream {
                compare::openai_stream(&text)
            } else {
                compare::openai(&cassette.response_json())
            };
            let told = match (anthropic, cassette.is_stream) {
                (true, true) => compare::anthropic_stream(&answer.text()),
                (true, false) => compare::anthropic(&answer.json()),
                (false, true) => compare::gemini(&compare::payloads(&answer.text())),
                (false, false) => compare::gemini(&[answer.json()]),
            };
            assert_eq!(compare::difference(&original, &told), None, "{} anthropic: {anthropic}", cassette.id);
        }
    }
    println!("azure: {exact} byte for byte, {keys} about the key, {translated} translated");
    assert!(exact >= 29 && keys >= 1 && translated >= 54, "{exact} {keys} {translated}");
}

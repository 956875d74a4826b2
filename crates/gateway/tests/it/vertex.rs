//! Vertex AI behind the gateway: access tokens, whose model is asked where, and every recording of it.

use std::time::Duration;

use proof::jose::{Alg, KeySet};
use serde_json::{Value, json};
use testkit::keys::{TestKey, header, unverified};
use testkit::mock::{Answer, Cassette, Gate, Mock};

use crate::compare;
use crate::harness::World;

const RESOURCE: &str = "/projects/my-project/locations/us-central1";

fn config(mock: &Mock, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"v\"\nkind = \"vertex\"\nproject = \"my-project\"\nlocation = \"us-central1\"\n\
         base_url = \"{0}\"\ntoken_url = \"{0}/token\"\nallow_private = true\napi_key = {{ env = \"K\" }}\n{more}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"v\"] }}\n",
        mock.url()
    )
}

fn account(key: &TestKey, token_uri: &str) -> String {
    json!({"type": "service_account", "project_id": "my-project", "private_key_id": "key-1",
        "private_key": key.private_pem(), "client_email": "robot@my-project.iam.gserviceaccount.com",
        "client_id": "1", "token_uri": token_uri})
    .to_string()
}

fn token(text: &str, seconds: u64) -> Answer {
    Answer::json(200, &json!({"access_token": text, "token_type": "Bearer", "expires_in": seconds}))
}

fn gemini(text: &str) -> Answer {
    Answer::json(
        200,
        &json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}),
    )
}

fn ask() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
}

const PATH: &str = "/v1beta/models/v/gemini-2.5-pro:generateContent";

#[tokio::test]
async fn a_service_account_asks_for_a_token_once_and_shows_it_until_shortly_before_its_end() {
    let mock = Mock::start().await;
    let key = TestKey::generate("RS256");
    let world = World::with_provider_key(&config(&mock, ""), &account(&key, "https://elsewhere.example/token"));
    mock.push(token("ya29.one", 3600));
    for _ in 0..3 {
        mock.push(gemini("hello"));
        let answer = world.post(PATH, &ask()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(mock.count(), 4);
    let asked = mock.request(0).await;
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&asked.body).into_owned().collect();
    assert_eq!(form[0], ("grant_type".to_owned(), "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()));
    let claims = unverified(&form[1].1);
    assert_eq!(claims["iss"], "robot@my-project.iam.gserviceaccount.com");
    assert_eq!(claims["aud"], format!("{}/token", mock.url()));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert_eq!(header(&form[1].1), json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"}));
    // What Google would do: check it with the public key.
    let set = KeySet::from_operator(testkit::keys::key_set(&[&key]).to_string().as_bytes()).unwrap();
    let (signed, signature) = form[1].1.rsplit_once('.').unwrap();
    let signature = proof::jose::base64url_decode(signature).unwrap();
    set.keys()[0].verify(Alg::Rs256, signed.as_bytes(), &signature).expect("a good signature");
    let got = mock.request(1).await;
    assert_eq!(got.header("authorization"), Some("Bearer ya29.one"));
    assert_eq!(got.header("x-goog-api-key"), None);
    assert_eq!(got.target, format!("/v1beta1{RESOURCE}/publishers/google/models/gemini-2.5-pro:generateContent"));
    // Nothing of the key itself goes to the provider.
    assert!(
        !String::from_utf8_lossy(&got.head).contains("PRIVATE")
            && !String::from_utf8_lossy(&got.body).contains("PRIVATE")
    );

    world.clock.advance(Duration::from_secs(3600 - 59));
    mock.push(token("ya29.two", 3600));
    mock.push(gemini("hello"));
    assert_eq!(world.get_token_again().await, 200);
    assert_eq!(mock.request(5).await.header("authorization"), Some("Bearer ya29.two"));
}

impl World {
    /// Ask once more, with a token of the caller's that the clock has not outrun.
    async fn get_token_again(&self) -> u16 {
        let now = base::Clock::now(&self.clock).as_secs();
        let token = format!("Bearer {}", self.token_with(&json!({"iat": now, "exp": now + 300})));
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        self.send("POST", PATH, &headers, ask().to_string()).await.status.as_u16()
    }
}

#[tokio::test]
async fn many_requests_at_once_ask_for_one_token() {
    let mock =
        Mock::start_with(|request| if request.path() == "/token" { token("t", 3600) } else { gemini("x") }).await;
    let world = World::with_provider_key(&config(&mock, ""), &account(&TestKey::generate("RS256"), "x"));
    let body = ask();
    let asked = futures_util::future::join_all((0..20).map(|_| world.post(PATH, &body))).await;
    assert!(asked.iter().all(|answer| answer.status == 200));
    assert_eq!(mock.requests().iter().filter(|request| request.path() == "/token").count(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_while_the_token_is_asked_for_leaves_nothing_stuck() {
    let mock = Mock::start().await;
    let world = World::with_provider_key(&config(&mock, ""), &account(&TestKey::generate("RS256"), "x"));
    let gate = Gate::closed();
    mock.push(token("never", 3600).hold_head(&gate));
    {
        let body = ask();
        let first = world.post(PATH, &body);
        futures_util::pin_mut!(first);
        let asked = async {
            while mock.count() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut first => panic!("there is no token yet"),
            () = asked => {}
        }
    }
    mock.push(token("second", 3600));
    mock.push(gemini("hello"));
    assert_eq!(world.post(PATH, &ask()).await.status, 200);
    assert_eq!(mock.request(2).await.header("authorization"), Some("Bearer second"));
}

#[tokio::test]
async fn a_token_that_google_refuses_is_asked_for_anew_once_and_a_fresh_one_is_not() {
    let mock = Mock::start().await;
    let world = World::with_provider_key(&config(&mock, ""), &account(&TestKey::generate("RS256"), "x"));
    let refused = || Answer::json(401, &json!({"error": {"code": 401, "message": "no", "status": "UNAUTHENTICATED"}}));
    mock.push(token("one", 3600));
    mock.push(refused());
    let answer = world.post(PATH, &ask()).await;
    assert_eq!((answer.status.as_u16(), mock.count()), (502, 2), "{}", answer.text());
    world.clock.advance(Duration::from_mins(1));
    for answer in [refused(), token("two", 3600), gemini("hello")] {
        mock.push(answer);
    }
    let answer = world.post(PATH, &ask()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let shown: Vec<Option<String>> =
        [2, 4].iter().map(|at| mock.requests()[*at].header("authorization").map(str::to_owned)).collect();
    assert_eq!(shown, [Some("Bearer one".to_owned()), Some("Bearer two".to_owned())]);
    world.clock.advance(Duration::from_mins(1));
    for answer in [refused(), token("three", 3600), refused()] {
        mock.push(answer);
    }
    let answer = world.post(PATH, &ask()).await;
    assert_eq!((answer.status.as_u16(), mock.count()), (502, 8), "once only: {}", answer.text());
}

#[tokio::test]
async fn what_the_token_endpoint_says_no_to_is_nobodys_to_call_and_tells_no_secrets() {
    for (answer, reason) in [
        (
            Answer::json(400, &json!({"error": "invalid_grant", "error_description": "secret stuff"})),
            "provider_token_refused",
        ),
        (Answer::json(200, &json!({"token_type": "Bearer", "expires_in": 3600})), "provider_token_unavailable"),
        (
            Answer::json(200, &json!({"access_token": "a\r\nb", "token_type": "Bearer", "expires_in": 3600})),
            "provider_token_unavailable",
        ),
        (
            Answer::json(200, &json!({"access_token": "a", "token_type": "mac", "expires_in": 3600})),
            "provider_token_unavailable",
        ),
        (Answer::bytes(200, "text/html", "<html>"), "provider_token_unavailable"),
        (Answer::redirect(302, "https://evil.example/token"), "provider_token_unavailable"),
        (Answer::json(500, &json!({})), "provider_token_unavailable"),
        (
            Answer::json(200, &json!({"access_token": "x".repeat(100_000), "token_type": "Bearer", "expires_in": 1})),
            "provider_token_unavailable",
        ),
    ] {
        let mock = Mock::start().await;
        let world = World::with_provider_key(&config(&mock, ""), &account(&TestKey::generate("RS256"), "x"));
        mock.push(answer);
        for _ in 0..3 {
            let answer = world.post(PATH, &ask()).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["error"]["details"][0]["reason"]),
                (502, &json!(reason))
            );
            assert!(
                !answer.text().contains("secret stuff") && !answer.text().contains("token endpoint"),
                "{}",
                answer.text()
            );
        }
        // A failure is remembered for a moment: the endpoint is not asked by each request.
        assert_eq!(mock.count(), 1, "{reason}");
        world.clock.advance(Duration::from_secs(6));
        mock.push(token("t", 3600));
        mock.push(gemini("hello"));
        assert_eq!(world.post(PATH, &ask()).await.status, 200);
    }
}

#[tokio::test]
async fn a_key_file_that_sends_us_elsewhere_or_is_none_is_refused_before_anything_is_sent() {
    let mock = Mock::start().await;
    let key = TestKey::generate("RS256");
    let plain = config(&mock, "").lines().filter(|line| !line.starts_with("token_url")).collect::<Vec<_>>().join("\n");
    for (config, key, reason) in [
        (&plain, account(&key, "https://evil.example/token"), "provider_token_endpoint"),
        (&plain, account(&key, &format!("{}/token", mock.url())), "provider_token_endpoint"),
        (&plain, json!({"type": "authorized_user", "refresh_token": "r"}).to_string(), "provider_key_form"),
        (
            &plain,
            json!({"type": "service_account", "client_email": "e", "private_key": "none"}).to_string(),
            "provider_key_form",
        ),
        (&plain, "{".to_owned(), "provider_key_form"),
    ] {
        let world = World::with_provider_key(config, &key);
        let answer = world.post(PATH, &ask()).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["details"][0]["reason"]),
            (502, &json!(reason)),
            "{key}"
        );
    }
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn an_api_key_is_shown_in_googles_own_field_and_express_mode_knows_no_project() {
    let mock = Mock::start_with(|_| gemini("hello")).await;
    let world = World::with_provider_key(&config(&mock, ""), "AIza-fake");
    assert_eq!(world.post(PATH, &ask()).await.status, 200);
    let express = format!(
        "[[provider]]\nname = \"v\"\nkind = \"vertex\"\nexpress = true\nbase_url = \"{}\"\nallow_private = true\n\
         api_key = {{ env = \"K\" }}\n[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n",
        mock.url()
    );
    let world = World::with_provider_key(&express, "AIza-fake");
    assert_eq!(world.post(PATH, &ask()).await.status, 200);
    for (at, target) in [(0, RESOURCE), (1, "")] {
        let got = mock.request(at).await;
        assert_eq!(got.target, format!("/v1beta1{target}/publishers/google/models/gemini-2.5-pro:generateContent"));
        assert_eq!((got.header("x-goog-api-key"), got.header("authorization")), (Some("AIza-fake"), None));
    }
}

#[tokio::test]
async fn each_makers_models_are_asked_in_their_own_form_at_their_own_place() {
    let mock = Mock::start().await;
    let world = World::with_provider_key(&config(&mock, ""), "AIza-fake");
    let claude = json!({"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "hello"}], "usage": {"input_tokens": 1, "output_tokens": 1}});
    mock.push(Answer::json(200, &claude));
    let token = format!("Bearer {}", world.token("alice"));
    let headers = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
        ("anthropic-beta", "b-1"),
        ("anthropic-version", "2023-06-01"),
    ];
    let sent = "{\"model\":\"v/claude-sonnet-4-5@20250929\",\"x_unknown\":1.0, \"max_tokens\":5,\"messages\":[]}";
    let answer = world.send("POST", "/v1/messages", &headers, sent).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, claude.to_string()));
    let got = mock.request(0).await;
    assert_eq!(got.target, format!("/v1{RESOURCE}/publishers/anthropic/models/claude-sonnet-4-5@20250929:rawPredict"));
    let body = "{\"anthropic_version\":\"vertex-2023-10-16\",\"x_unknown\":1.0,\"max_tokens\":5,\"messages\":[]}";
    assert_eq!(String::from_utf8_lossy(&got.body), body);
    assert_eq!((got.header("anthropic-beta"), got.header("anthropic-version")), (Some("b-1"), None));

    mock.push(Answer::anthropic_stream(&[
        json!({"type": "message_start", "message": {"id": "m1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
        json!({"type": "message_stop"}),
    ]));
    let chat = |model: &str, stream: bool| json!({"model": format!("v/{model}"), "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.post("/v1/chat/completions", &chat("anthropic/claude-opus-4-1", true)).await;
    assert_eq!(compare::openai_stream(&answer.text()).text, "hello");
    let got = mock.request(1).await;
    assert_eq!(got.target, format!("/v1{RESOURCE}/publishers/anthropic/models/claude-opus-4-1:streamRawPredict"));
    assert_eq!((&got.json()["model"], &got.json()["stream"]), (&Value::Null, &json!(true)));

    let openai = json!({"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}]});
    for (model, target) in [
        ("meta/llama-4-maverick-17b-128e-instruct-maas", "/endpoints/openapi/chat/completions"),
        ("openai/1234", "/endpoints/1234/chat/completions"),
        ("openai/gpt-oss-120b-maas", "/endpoints/openapi/chat/completions"),
    ] {
        mock.push(Answer::json(200, &openai));
        let answer = world.post("/v1/chat/completions", &chat(model, false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let got = mock.request(mock.count() - 1).await;
        assert_eq!((got.target.clone(), got.json()["model"].as_str()), (format!("/v1{RESOURCE}{target}"), Some(model)));
    }
    for (model, target) in [
        ("endpoints/77", "/endpoints/77:generateContent"),
        ("google/gemini-x", "/publishers/google/models/gemini-x:generateContent"),
    ] {
        mock.push(gemini("hello"));
        assert_eq!(world.post("/v1/chat/completions", &chat(model, false)).await.status, 200);
        assert_eq!(mock.request(mock.count() - 1).await.target, format!("/v1beta1{RESOURCE}{target}"));
    }
    let before = mock.count();
    for model in ["google/../x", "anthropic/a/b", "endpoints/..", "claude/../../x"] {
        let answer = world.post("/v1/chat/completions", &chat(model, false)).await;
        let got = mock.requests().get(before).map(|got| got.target.clone());
        assert!(
            got.is_none_or(|target| target == format!("/v1{RESOURCE}/endpoints/openapi/chat/completions")),
            "{model}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn googles_own_paths_work_as_its_sdk_writes_them_and_lead_to_no_other_project() {
    let mock = Mock::start_with(|_| gemini("hello")).await;
    let config = config(&mock, "");
    let world = World::with_provider_key(&config, "AIza-fake");
    let model = "publishers/google/models/gemini-2.5-pro:generateContent";
    for (path, target) in [
        (format!("v1beta1{RESOURCE}/{model}"), format!("/v1beta1{RESOURCE}/{model}")),
        (format!("v1{RESOURCE}/{model}"), format!("/v1{RESOURCE}/{model}")),
        (model.to_owned(), format!("/v1beta1{RESOURCE}/{model}")),
        ("v1/models/gemini-2.5-pro:generateContent".to_owned(), format!("/v1{RESOURCE}/{model}")),
    ] {
        let before = mock.count();
        let answer = world.post(&format!("/providers/v/{path}"), &ask()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(mock.request(before).await.target, target, "{path}");
        assert_eq!(world.record().output_tokens, Some(1));
    }
    let before = mock.count();
    for path in [
        "/providers/v/v1/projects/other/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent",
        "/providers/v/v1/projects/my-project/locations/us-central1/cachedContents",
        "/providers/v/v1/projects/my-project/locations/us-central1/endpoints/77:predict",
    ] {
        assert_eq!(world.post(path, &ask()).await.status, 403, "{path}");
    }
    assert_eq!(mock.count(), before);
    let listed = "passthrough = [{ provider = \"v\", methods = [\"POST\"], paths = [\"/**\"], models = [\"gemini-2.5-flash\", \"gemini-x\"] }]";
    let world = World::with_provider_key(&config.replace("providers = [\"v\"]", listed), "AIza-fake");
    for (path, body, status) in [
        ("/providers/v/v1/publishers/google/models/gemini-2.5-flash:generateContent", ask(), 200),
        ("/providers/v/v1/publishers/google/models/gemini-2.5-pro:generateContent", ask(), 403),
        (
            "/providers/v/v1/publishers/google/models/gemini-2.5-pro:countTokens",
            json!({"model": "gemini-2.5-flash"}),
            403,
        ),
        ("/providers/v/v1/publishers/anthropic/models/claude:rawPredict", json!({"model": "gemini-x"}), 403),
        ("/providers/v/v1/endpoints/9:rawPredict", json!({"model": "gemini-x"}), 403),
    ] {
        let answer = world.post(path, &body).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
    }
}

#[tokio::test]
async fn azure_with_entra_id_shows_a_token_and_the_secret_goes_to_the_token_endpoint_only() {
    let mock = Mock::start().await;
    let config = format!(
        "[[provider]]\nname = \"a\"\nkind = \"azure\"\nbase_url = \"{0}\"\nallow_private = true\napi_key = {{ env = \"K\" }}\n\
         entra = {{ tenant = \"contoso\", client_id = \"app-1\" }}\ntoken_url = \"{0}/contoso/oauth2/v2.0/token\"\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n",
        mock.url()
    );
    let world = World::with_provider_key(&config, "fake-client-secret~x");
    mock.push(token("eyJ.entra", 3600));
    mock.push(Answer::json(200, &json!({"choices": [{"message": {"content": "hello"}}]})));
    let body = json!({"model": "a/gpt-5", "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&mock.request(0).await.body).into_owned().collect();
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", "app-1"),
        ("client_secret", "fake-client-secret~x"),
        ("scope", "https://cognitiveservices.azure.com/.default"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let got = mock.request(1).await;
    assert_eq!((got.header("authorization"), got.header("api-key")), (Some("Bearer eyJ.entra"), None));
    assert!(!String::from_utf8_lossy(&got.head).contains("fake-client-secret"));
}

#[tokio::test]
async fn every_recording_of_vertex_comes_out_as_it_was() {
    let Some(cassettes) = Cassette::all() else {
        vectors::skipped("every_recording_of_vertex");
        return;
    };
    let mock = Mock::start().await;
    let world = World::with_provider_key(&config(&mock, ""), "AIza-fake");
    let (mut exact, mut native) = (0, 0);
    for cassette in cassettes.iter().filter(|cassette| cassette.provider == "vertex") {
        let (path, query) = cassette.path.split_once('?').unwrap_or((&cassette.path, ""));
        let (_, name) = path.split_once("/publishers/google/models/").expect("one of Google's");
        let recorded = cassette.request_json();
        let stored = recorded.to_string();
        let named = ["cachedContent", "gs://", "generativelanguage"].iter().any(|name| stored.contains(name));
        let body = if recorded.is_object() && !named { recorded } else { ask() };
        if cassette.endpoint.starts_with("generateContent") {
            let query = if cassette.is_stream { "?alt=sse" } else { "" };
            mock.push(Answer::cassette(cassette).pieces(997));
            let answer = world.post(&format!("/v1beta/models/v/{name}{query}"), &body).await;
            assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
            assert_eq!(answer.body, cassette.response_body, "{}", cassette.id);
            let got = mock.request(mock.count() - 1).await;
            assert_eq!(
                got.target,
                format!("/v1beta1{RESOURCE}/publishers/google/models/{name}{query}"),
                "{}",
                cassette.id
            );
            exact += 1;
        }
        // And as Google's SDK calls it, on the provider's own path.
        let version = path.split('/').nth(1).unwrap_or_default();
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        mock.push(Answer::cassette(cassette).pieces(41));
        let answer = world
            .post(&format!("/providers/v/{version}{RESOURCE}/publishers/google/models/{name}{query}"), &body)
            .await;
        assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
        assert_eq!(answer.body, cassette.response_body, "{}", cassette.id);
        native += 1;
    }
    println!("vertex: {exact} byte for byte, {native} on the provider's own path");
    assert!(exact >= 54 && native >= 58, "{exact} {native}");
}

#[tokio::test]
async fn a_users_refresh_token_is_exchanged_where_google_says() {
    let mock = Mock::start().await;
    let user = json!({"type": "authorized_user", "client_id": "id-1", "client_secret": "s", "refresh_token": "1//r",
        "token_uri": "https://evil.example/token"});
    let world = World::with_provider_key(&config(&mock, ""), &user.to_string());
    mock.push(token("ya29.user", 3600));
    for _ in 0..2 {
        mock.push(gemini("hello"));
        assert_eq!(world.post(PATH, &ask()).await.status, 200);
    }
    let asked = mock.request(0).await;
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&asked.body).into_owned().collect();
    let expected =
        [("grant_type", "refresh_token"), ("client_id", "id-1"), ("client_secret", "s"), ("refresh_token", "1//r")];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(mock.request(1).await.header("authorization"), Some("Bearer ya29.user"));
    assert_eq!(mock.count(), 3, "asked for once");
}

fn partners(mock: &Mock) -> String {
    let open = "passthrough = [{ provider = \"v\", methods = [\"POST\"], paths = [\"/**\"] }], ";
    config(mock, "").replace("providers = [\"v\"]", &format!("{open}providers = [\"v\"], max_output_tokens = 500"))
}

fn chat(text: &str) -> Value {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "mistral-medium-3", "choices":
        [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
}

#[tokio::test]
async fn mistrals_and_ai21s_models_are_asked_by_raw_predict_in_openais_form() {
    let mock = Mock::start().await;
    let world = World::with_provider_key(&partners(&mock), "api-key");
    for (path, body) in [
        (
            "/v1/chat/completions",
            json!({"model": "v/mistralai/mistral-medium-3@001", "messages": [{"role": "user", "content": "hi"}]}),
        ),
        (
            "/v1/messages",
            json!({"model": "v/mistralai/mistral-medium-3@001", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "v/ai21/jamba-1.5-mini", "seed": 7, "messages": [{"role": "user", "content": "hi"}]}),
        ),
    ] {
        mock.push(Answer::json(200, &chat("hello")));
        let answer = world.post(path, &body).await;
        assert!(answer.status == 200 && answer.text().contains("hello"), "{}", answer.text());
        assert_eq!(world.record().output_tokens, Some(4));
    }
    let first = mock.request(0).await;
    assert_eq!(first.target, format!("/v1{RESOURCE}/publishers/mistralai/models/mistral-medium-3@001:rawPredict"));
    assert_eq!((&first.json()["model"], &first.json()["max_tokens"]), (&json!("mistral-medium-3"), &json!(500)));
    assert_eq!(mock.request(1).await.json()["max_tokens"], 50);
    assert_eq!(mock.request(2).await.target, format!("/v1{RESOURCE}/publishers/ai21/models/jamba-1.5-mini:rawPredict"));
    let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices":
        [{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}});
    mock.push(Answer::openai_stream(&[chunk]));
    let streamed = json!({"model": "v/mistralai/mistral-medium-3", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    assert!(world.post("/v1/chat/completions", &streamed).await.text().contains("[DONE]"));
    let got = mock.request(3).await;
    assert!(got.target.ends_with("/mistral-medium-3:streamRawPredict"), "{}", got.target);
    assert!(got.json().get("stream_options").is_none(), "it takes none");
    assert_eq!(world.record().output_tokens, Some(4));
}

#[tokio::test]
async fn what_a_native_raw_predict_took_is_read_and_its_bounds_hold() {
    let mock = Mock::start().await;
    let world = World::with_provider_key(&partners(&mock), "api-key");
    let path = |model: &str| format!("/providers/v/v1{RESOURCE}/publishers/{model}:rawPredict");
    mock.push(Answer::json(
        200,
        &json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 5, "output_tokens": 6}}),
    ));
    let claude = json!({"anthropic_version": "vertex-2023-10-16", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9});
    let answer = world.post(&path("anthropic/models/claude-sonnet-4@20250514"), &claude).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((world.record().input_tokens, world.record().output_tokens), (Some(5), Some(6)));
    assert_eq!(mock.request(0).await.json(), claude);
    mock.push(Answer::json(200, &chat("hello")));
    let mistral = json!({"model": "mistral-medium-3", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(world.post(&path("mistralai/models/mistral-medium-3"), &mistral).await.status, 200);
    assert_eq!(world.record().output_tokens, Some(4));
    assert_eq!(mock.request(1).await.json()["max_tokens"], 500);
    let mut much = claude.clone();
    much["max_tokens"] = 501.into();
    assert_eq!(world.post(&path("anthropic/models/claude-x"), &much).await.status, 403);
    let mut other = mistral;
    other["model"] = "mistral-large".into();
    let closed = World::with_provider_key(
        &partners(&mock)
            .replace("models = [\"*\"]", "models = [\"mistral-medium-*\"]")
            .replace("[\"/**\"] }", "[\"/**\"], models = [\"mistral-medium-*\"] }"),
        "api-key",
    );
    assert_eq!(closed.post(&path("mistralai/models/mistral-medium-3"), &other).await.status, 403);
    assert_eq!(mock.count(), 2);
}

//! A provider's own API: the listed paths, and for each caller only what that caller made.

use serde_json::json;
use testkit::mock::{Answer, Mock, Received};

use crate::harness::{PROVIDER_KEY, World};

fn world(mock: &Mock, may: &str) -> World {
    World::new(&format!(
        "[[provider]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"{}/v1\"\nallow_private = true\napi_key = {{ env = \"K\" }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ {may} }}\n",
        mock.url()
    ))
}

const FILES: &str = "passthrough = [{ provider = \"openai\", methods = [\"GET\", \"POST\", \"DELETE\"], \
                     paths = [\"/v1/files\", \"/v1/files/**\", \"/v1/responses/**\", \"/v1/responses\"] }]";

/// A provider that keeps files and responses.
fn provider(request: &Received) -> Answer {
    match (request.method.as_str(), request.path()) {
        ("POST", "/v1/files") => Answer::json(200, &json!({"id": "file-1", "object": "file"})),
        ("GET", "/v1/files") => {
            let data = json!([{"id": "file-0"}, {"id": "file-1"}, {"id": "file-9"}]);
            Answer::json(
                200,
                &json!({"object": "list", "data": data, "first_id": "file-0", "last_id": "file-9", "has_more": false}),
            )
        }
        ("POST", "/v1/responses") => match request.json()["stream"].as_bool() {
            Some(true) => {
                let events = [
                    json!({"type": "response.created", "response": {"id": "resp_s"}}),
                    json!({"type": "response.completed", "response": {"id": "resp_s"}}),
                ];
                Answer::anthropic_stream(&events).pieces(9)
            }
            _ => Answer::json(200, &json!({"id": "resp_1", "output": []})),
        },
        _ => Answer::bytes(200, "text/plain", "content"),
    }
}

#[tokio::test]
async fn only_inference_is_open_unless_a_policy_lists_more() {
    let mock = Mock::start_with(|_| {
        Answer::json(200, &json!({"id": "x", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}))
    })
    .await;
    let world = world(&mock, "providers = [\"openai\"]");
    let chat = json!({"model": "gpt-x", "messages": []});
    for path in ["/providers/openai/v1/chat/completions", "/providers/openai/chat/completions"] {
        assert_eq!(world.post(path, &chat).await.status, 200, "{path}");
        assert_eq!(world.record().output_tokens, Some(2));
    }
    let got = mock.request(1).await;
    assert_eq!((got.target.as_str(), got.body.as_slice()), ("/v1/chat/completions", chat.to_string().as_bytes()));
    assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    for path in [
        "/providers/openai/v1/files",
        "/providers/openai/v1/organization/users",
        "/providers/openai/v1/chat/completions/",
    ] {
        let answer = world.get_as("alice", path).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "path_not_allowed"), "{path}");
    }
    assert_eq!(world.get_as("alice", "/providers/other/v1/models").await.status, 404);
    for trick in
        ["/providers/openai/v1/chat/../files", "/providers/openai/v1/chat%2f..%2ffiles", "/providers/openai//v1/files"]
    {
        assert_eq!(world.get_as("alice", trick).await.status, 400, "{trick}");
    }
    assert_eq!(world.post("/providers/openai/v1/chat/completions?key=mine", &chat).await.status, 400);
    assert_eq!(mock.count(), 2);
}

#[tokio::test]
async fn what_a_caller_stored_is_that_callers_alone() {
    let mock = Mock::start_with(provider).await;
    let world = world(&mock, FILES);
    let file = "/providers/openai/v1/files/file-1";
    assert_eq!(world.get_as("alice", file).await.status, 404, "nobody's yet");
    assert_eq!(world.post("/providers/openai/v1/files", &json!({"purpose": "x"})).await.json()["id"], "file-1");
    assert_eq!(world.get_as("alice", file).await.text(), "content");
    assert_eq!(world.get_as("alice", &format!("{file}/content")).await.status, 200);
    for (subject, path) in [
        ("bob", file),
        ("bob", "/providers/openai/v1/files/file-1/content"),
        ("alice", "/providers/openai/v1/files/file-9"),
    ] {
        let before = mock.count();
        let answer = world.get_as(subject, path).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "object_not_found"), "{subject} {path}");
        assert_eq!(mock.count(), before);
    }
    let mine = world.get_as("alice", "/providers/openai/v1/files").await.json();
    assert_eq!((&mine["data"], &mine["first_id"]), (&json!([{"id": "file-1"}]), &json!("file-1")));
    assert_eq!(world.get_as("bob", "/providers/openai/v1/files").await.json()["data"], json!([]));
    let bearer = format!("Bearer {}", world.token("alice"));
    assert_eq!(world.send("DELETE", file, &[("authorization", &bearer)], "").await.status, 200);
    assert_eq!(world.get_as("alice", file).await.status, 404, "forgotten");
}

#[tokio::test]
async fn a_response_is_claimed_before_its_id_is_told_also_in_a_stream() {
    let mock = Mock::start_with(provider).await;
    let world = world(&mock, FILES);
    let answer =
        world.post("/providers/openai/v1/responses", &json!({"model": "m", "input": "x", "stream": true})).await;
    assert!(answer.text().contains("response.completed"), "{}", answer.text());
    assert_eq!(world.get_as("alice", "/providers/openai/v1/responses/resp_s").await.status, 200);
    assert_eq!(world.get_as("bob", "/providers/openai/v1/responses/resp_s").await.status, 404);
    let follow = |id: &str| json!({"model": "m", "input": "y", "previous_response_id": id});
    assert_eq!(world.post("/providers/openai/v1/responses", &follow("resp_s")).await.status, 200);
    assert_eq!(world.post_as("bob", "/providers/openai/v1/responses", &follow("resp_s")).await.status, 404);
    assert_eq!(
        world.post("/providers/openai/v1/responses", &json!({"model": "m", "input": "x", "store": false})).await.status,
        200
    );
    assert_eq!(
        world.get_as("alice", "/providers/openai/v1/responses/resp_1").await.status,
        200,
        "claimed by the follow-up"
    );
}

#[tokio::test]
async fn limits_on_tokens_and_tools_hold_for_bodies_that_cannot_be_seen_into() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"id": "x"}))).await;
    let world = world(&mock, "providers = [\"openai\"], max_output_tokens = 10, tools = false");
    let chat = json!({"model": "m", "messages": []});
    assert_eq!(world.post("/providers/openai/v1/chat/completions", &chat).await.status, 200);
    assert_eq!(mock.request(0).await.json()["max_completion_tokens"], 10);
    let greedy = json!({"model": "m", "messages": [], "max_tokens": 11});
    assert_eq!(world.post("/providers/openai/v1/chat/completions", &greedy).await.status, 403);
    let picture = json!({"model": "m", "prompt": "x"});
    assert_eq!(world.post("/providers/openai/v1/images/generations", &picture).await.status, 403);
    assert_eq!(mock.count(), 1);
    assert_eq!(world.post("/providers/openai/v1/responses", &json!({"model": "m", "input": "x"})).await.status, 200);
    assert_eq!(mock.request(1).await.json()["max_output_tokens"], 10);
}

#[tokio::test]
async fn an_opaque_answer_that_is_cut_breaks_the_connection() {
    let mock = Mock::start().await;
    let world = world(&mock, FILES);
    let owner = store::Owner { issuer: "corp".to_owned(), subject: "alice".to_owned(), client: Some("app".to_owned()) };
    world.objects.0.lock().unwrap().insert((base::Name::new("openai").unwrap(), "file-1".to_owned()), owner.into());
    mock.push(Answer::bytes(200, "application/octet-stream", vec![7; 5000]).cut_after(1000));
    let answer = world.get_as("alice", "/providers/openai/v1/files/file-1/content").await;
    assert!(answer.broken);
}

#[tokio::test]
async fn a_body_that_cannot_be_searched_is_not_sent() {
    let mock = Mock::start_with(provider).await;
    let world = world(&mock, FILES);
    let bearer = format!("Bearer {}", world.token("alice"));
    let post = async |kind: &str, body: Vec<u8>| {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        world.send("POST", "/providers/openai/v1/responses", &headers, body).await.status.as_u16()
    };
    let stolen = r#"{"model":"m","previous_response_id":"resp_9"}"#;
    let wide: Vec<u8> = stolen.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [wide, format!("\u{feff}{stolen}").into_bytes(), b"[]".to_vec(), b"{\"a\":1,\"a\":2}".to_vec()] {
        assert_eq!(post("application/json", body).await, 400);
    }
    for beside in [r#""\ud800""#, "1e400"] {
        let hidden = format!(r#"{{"model":"m","previous_response_id":"resp_9","tools":[{{"x":{beside}}}]}}"#);
        assert_eq!(post("application/json", hidden.into_bytes()).await, 404, "{beside}");
    }
    assert_eq!(post("text/plain", stolen.into()).await, 415);
    assert_eq!(post("application/x-www-form-urlencoded", b"file_id=file-9".to_vec()).await, 415);
    let form = b"--b\r\nContent-Disposition: form-data; name=\"file_id\"\r\n\r\nfile-9\r\n--b--".to_vec();
    assert_eq!(post("multipart/form-data; boundary=b", form).await, 404);
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn a_list_of_models_holds_for_every_model_and_spelling_that_a_body_of_another_api_names() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"id": "x"}))).await;
    let world = world(
        &mock,
        "tools = true, passthrough = [{ provider = \"openai\", methods = [\"POST\"], paths = [\"/v1/**\"], models = [\"small-*\"] }]",
    );
    let ask = async |body: &str| {
        let bearer = format!("Bearer {}", world.token("alice"));
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        world.send("POST", "/providers/openai/v1/completions", &headers, body.to_owned()).await.status.as_u16()
    };
    assert_eq!(ask(r#"{"model":"small-1","prompt":"x","tools":[{"type":"function","name":"f"}]}"#).await, 200);
    assert_eq!(ask(r#"{"model":"large","prompt":"x"}"#).await, 403);
    // Readers that ignore case take the last; others route to what stands in `models`.
    for body in [
        r#"{"model":"small-1","Model":"large","prompt":"x"}"#,
        r#"{"model":"small-1","models":["large"],"prompt":"x"}"#,
        r#"{"model":"small-1","fallbacks":["large"],"prompt":"x"}"#,
    ] {
        assert_eq!(ask(body).await, 400, "{body}");
    }
    for body in [
        r#"{"model":"small-1","input":"x","tools":[{"type":"image_generation","model":"large"}]}"#,
        r#"{"model":"small-1","requests":[{"params":{"model":"large"}}]}"#,
        r#"{"model":"small-1","requests":[{"params":{"MODEL":"large"}}]}"#,
        r#"{"model":"small-1","requests":[{"params":{"mod\u0065l":"large"}}]}"#,
    ] {
        assert_eq!(ask(body).await, 403, "{body}");
    }
    assert_eq!(ask(r#"{"model":"small-1","input":"x","metadata":{"model":"of a phone"}}"#).await, 200);
    assert_eq!(mock.count(), 2);
}

#[tokio::test]
async fn a_collection_is_known_in_any_case() {
    let mock = Mock::start_with(provider).await;
    let world =
        world(&mock, "passthrough = [{ provider = \"openai\", methods = [\"GET\", \"POST\"], paths = [\"/v1/**\"] }]");
    for path in ["Files/file-9", "FILES/file-9/content", "Responses/resp_9"] {
        let answer = world.get_as("bob", &format!("/providers/openai/v1/{path}")).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (404, "object_not_found"), "{path}");
    }
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn a_list_that_comes_as_a_stream_is_not_passed_on() {
    let mock = Mock::start_with(|_| Answer::anthropic_stream(&[json!({"type": "file", "id": "file-of-bob"})])).await;
    let world = world(&mock, FILES);
    let answer = world.get_as("alice", "/providers/openai/v1/files?stream=true").await;
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("file-of-bob"));
}

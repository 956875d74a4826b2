//! What a provider's code tools make inside an answer: the caller's own from then on, and nobody else's.

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock, Received};

use crate::harness::World;

fn world(mock: &Mock) -> World {
    World::new(&format!(
        "[[provider]]\nname = \"a\"\nkind = \"anthropic\"\nbase_url = \"{0}\"\nallow_private = true\n\
         [[provider]]\nname = \"o\"\nkind = \"openai\"\nbase_url = \"{0}/v1\"\nallow_private = true\n\
         [[model]]\nname = \"big\"\ntargets = [{{ provider = \"a\", model = \"big-1\" }}]\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"big\"], providers = [\"a\", \"o\"], passthrough = [\
         {{ provider = \"a\", methods = [\"GET\"], paths = [\"/v1/files/**\"] }},\
         {{ provider = \"o\", methods = [\"GET\", \"POST\"], paths = [\"/v1/responses\", \"/v1/responses/**\", \"/v1/containers/**\"] }}] }}\n",
        mock.url()
    ))
}

fn result() -> Value {
    json!({"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {
        "type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0,
        "content": [{"type": "bash_code_execution_output", "file_id": "file_made"}]}})
}

fn message(content: &[Value]) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "big-1", "stop_reason": "end_turn",
        "content": content, "usage": {"input_tokens": 1, "output_tokens": 1},
        "container": {"id": "container_made", "expires_at": "2026-01-01T00:00:00Z"}})
}

fn events() -> Vec<Value> {
    vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [],
            "model": "big-1", "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": result()}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "container": {"id": "container_made"}},
            "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ]
}

fn provider(request: &Received) -> Answer {
    match (request.path(), request.json()["stream"].as_bool()) {
        ("/v1/messages", Some(true)) => Answer::anthropic_stream(&events()).pieces(7),
        ("/v1/messages", _) => Answer::json(200, &message(&[result()])),
        ("/v1/responses", _) => Answer::json(
            200,
            &json!({"id": "resp_1", "output": [{"type": "code_interpreter_call", "container_id": "cntr_made"}]}),
        ),
        _ => Answer::bytes(200, "text/plain", "content"),
    }
}

fn question(stream: bool) -> Value {
    json!({"model": "big", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "code_execution_20250825", "name": "code_execution"}]})
}

/// Whether `subject` may fetch the file and go on in the container.
async fn may_use(world: &World, subject: &str) -> (bool, bool) {
    let file = world.get_as(subject, "/providers/a/v1/files/file_made/content").await.status.as_u16();
    let mut next = question(false);
    next["container"] = json!("container_made");
    let container = world.post_as(subject, "/v1/messages", &next).await.status.as_u16();
    assert!([200, 404].contains(&file) && [200, 404].contains(&container), "{file} {container}");
    (file == 200, container == 200)
}

#[tokio::test]
async fn what_an_answer_made_is_its_callers_alone() {
    for (path, stream) in [
        ("/v1/messages", false),
        ("/v1/messages", true),
        ("/providers/a/v1/messages", false),
        ("/providers/a/v1/messages", true),
    ] {
        let mock = Mock::start_with(provider).await;
        let world = world(&mock);
        assert_eq!(may_use(&world, "alice").await, (false, false), "nobody's yet");
        let answer = world.post(path, &question(stream)).await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        if stream {
            let sent = mock.request(0).await;
            assert!(answer.text().contains("message_stop"), "{sent:?}: {}", answer.text());
        } else {
            assert_eq!(answer.json(), message(&[result()]));
        }
        assert_eq!(may_use(&world, "bob").await, (false, false), "{path} {stream}");
        assert_eq!(may_use(&world, "alice").await, (true, true), "{path} {stream}");
    }
}

#[tokio::test]
async fn a_container_of_the_responses_api_is_its_callers_alone() {
    let mock = Mock::start_with(provider).await;
    let world = world(&mock);
    let ask =
        json!({"model": "m", "input": "x", "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]});
    assert_eq!(world.post("/providers/o/v1/responses", &ask).await.status, 200);
    let file = "/providers/o/v1/containers/cntr_made/files/cfile_1/content";
    assert_eq!(world.get_as("bob", file).await.status, 404);
    assert_eq!(world.get_as("alice", file).await.text(), "content");
}

#[tokio::test]
async fn a_file_that_a_model_only_names_stays_whose_it_was() {
    let mock = Mock::start().await;
    let world = world(&mock);
    let named = json!({"type": "tool_use", "id": "toolu_1", "name": "t", "input": {"file_id": "file_made", "container": {"id": "x"}}});
    mock.push(Answer::json(200, &message(&[named])));
    assert_eq!(world.post("/v1/messages", &question(false)).await.status, 200);
    assert_eq!(world.get_as("alice", "/providers/a/v1/files/file_made").await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_noted_is_not_told() {
    for stream in [false, true] {
        let mock = Mock::start_with(provider).await;
        let world = world(&mock);
        let owner = store::Owner { issuer: "corp".to_owned(), subject: "bob".to_owned(), client: None };
        world
            .objects
            .0
            .lock()
            .unwrap()
            .insert((base::Name::new("a").unwrap(), "container_made".to_owned()), owner.into());
        let answer = world.post("/v1/messages", &question(stream)).await;
        let text = answer.text();
        assert!(!text.contains("container_made"), "{text}");
        if stream {
            assert!(text.contains("content_block_stop"), "what came before goes out: {text}");
            assert!(text.contains("event: error") && !text.contains("message_stop"), "{text}");
        } else {
            assert_eq!(answer.status, 503);
        }
    }
}

//! What of the operator's storage, and of what Google keeps for others, requests may name: in whichever dialect they do.

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};

use crate::harness::World;

fn config(mock: &Mock) -> String {
    let provider = |name: &str, kind: &str, more: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n{more}",
            mock.url()
        )
    };
    let vertex = "project = \"p\"\nlocation = \"us-central1\"\n";
    format!(
        "{}{}{}{}[[model]]\nname = \"both\"\ntargets = [{{ provider = \"closed\", model = \"gemini-2.5-pro\" }}, {{ provider = \"open\", model = \"gemini-2.5-pro\" }}]\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"*\"] }}\n",
        provider("open", "vertex", &format!("{vertex}buckets = [\"gs://shared/pictures\"]\n")),
        provider("closed", "vertex", vertex),
        provider("g", "gemini", ""),
        provider("aws", "bedrock", "region = \"us-east-1\"\nbuckets = [\"s3://shared\"]\n"),
    )
}

async fn start() -> (Mock, World) {
    let mock = Mock::start_with(|request| {
        if request.path().ends_with("/converse") {
            return Answer::json(
                200,
                &json!({"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}, "stopReason": "end_turn",
                    "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}}),
            );
        }
        Answer::json(
            200,
            &json!({"candidates": [{"content": {"parts": [{"text": "hi"}], "role": "model"}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}),
        )
    })
    .await;
    let world = World::with_provider_key(&config(&mock), "AIza-fake");
    (mock, world)
}

/// The same question in every dialect, about what is at `address`.
fn questions(model: &str, address: &str) -> Vec<(String, Value)> {
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "What is it?"},
        {"fileData": {"mimeType": "image/png", "fileUri": address}}]}]});
    vec![
        (
            "/v1/chat/completions".to_owned(),
            json!({"model": model, "messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": address}}]}]}),
        ),
        (
            "/v1/responses".to_owned(),
            json!({"model": model, "store": false, "input": [{"role": "user", "content": [
                {"type": "input_image", "image_url": address, "detail": "auto"}]}]}),
        ),
        (
            "/v1/messages".to_owned(),
            json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": [
                {"type": "image", "source": {"type": "url", "url": address}}]}]}),
        ),
        (format!("/v1beta/models/{model}:generateContent"), gemini.clone()),
    ]
}

#[tokio::test]
async fn nobody_names_a_bucket_that_the_operator_has_not_opened_in_whatever_dialect() {
    let (mock, world) = start().await;
    for (model, address) in [
        ("closed/gemini-2.5-pro", "gs://shared/pictures/a.png"),
        ("g/gemini-2.5-pro", "gs://shared/pictures/a.png"),
        ("open/gemini-2.5-pro", "gs://shared/secrets/a.png"),
        ("open/gemini-2.5-pro", "gs://shared/pictures/../secrets/a.png"),
        ("open/gemini-2.5-pro", "gs://shared/pictures-of-others/a.png"),
        ("open/gemini-2.5-pro", "GS://shared/secrets/a.png"),
        ("open/gemini-2.5-pro", " gs://shared/pictures/a.png"),
        ("g/gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/files/of-somebody-else"),
        ("g/gemini-2.5-pro", "HTTPS://generativelanguage.googleapis.com/v1beta/files/of-somebody-else"),
    ] {
        for (path, body) in questions(model, address) {
            let answer = world.post(&path, &body).await;
            assert_eq!(answer.status, 404, "{path} {model} {address}: {}", answer.text());
            // As some encoders write it.
            let escaped = body.to_string().replace("://", r":\/\/");
            let token = format!("Bearer {}", world.token("alice"));
            let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
            assert_eq!(world.send("POST", &path, &headers, escaped).await.status, 404, "{path} {model} {address}");
        }
    }
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn what_is_in_a_bucket_that_is_open_is_asked_about_in_every_dialect_at_the_provider_that_opens_it() {
    let (mock, world) = start().await;
    for model in ["open/gemini-2.5-pro", "both"] {
        for (path, body) in questions(model, "gs://shared/pictures/a.png") {
            let answer = world.post(&path, &body).await;
            assert_eq!(answer.status, 200, "{path} {model}: {}", answer.text());
            assert_eq!(answer.header("x-vouchgate-target"), "open/gemini-2.5-pro", "{path} {model}");
            let sent = mock.request(mock.count() - 1).await.json().to_string();
            assert!(sent.contains("gs://shared/pictures/a.png"), "{path} {model}: {sent}");
        }
    }
    let native = "/providers/open/v1beta1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent";
    let (_, body) = questions("", "gs://shared/pictures/a.png").pop().unwrap();
    assert_eq!(world.post(native, &body).await.status, 200);
    let (_, body) = questions("", "gs://shared/other/a.png").pop().unwrap();
    assert_eq!(world.post(native, &body).await.status, 404);
}

#[tokio::test]
async fn a_bucket_is_read_from_and_never_written_to_and_tools_read_nothing_of_the_operators() {
    let (mock, world) = start().await;
    let predict = "/providers/open/v1/projects/p/locations/us-central1/publishers/google/models/imagen-4:predict";
    let picture = json!({"instances": [{"prompt": "the same", "image": {"gcsUri": "gs://shared/secrets/a.png"}}]});
    let written = json!({"instances": [{"prompt": "a cat"}], "parameters": {"storageUri": "gs://shared/pictures/"}});
    for body in [picture, written] {
        assert_eq!(world.post(predict, &body).await.status, 404, "{body}");
    }
    let secret = json!({"externalApi": {"endpoint": "https://evil.example", "apiSpec": "SIMPLE_SEARCH",
        "apiAuth": {"apiKeyConfig": {"apiKeySecretVersion": "projects/p/secrets/s/versions/1"}}}});
    for tool in [secret, json!({"vertexAiSearch": {"datastore": "projects/p/locations/l/collections/c/dataStores/d"}})]
    {
        let body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "tools": [{"retrieval": tool}]});
        for path in [
            "/v1beta/models/open/gemini-2.5-pro:generateContent",
            "/providers/open/v1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent",
        ] {
            assert_eq!(world.post(path, &body).await.status, 404, "{path} {body}");
        }
    }
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn words_about_an_address_are_words() {
    let (mock, world) = start().await;
    let said = json!({"model": "closed/gemini-2.5-pro", "max_tokens": 9, "messages": [
        {"role": "user", "content": "gs://shared/secrets/a.png is where it is."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "copy", "input": {"url": "gs://shared/secrets/a.png"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "gs://done"}]}],
        "tools": [{"name": "copy", "input_schema": {"type": "object", "properties": {"url": {"type": "string"}}}}]});
    let answer = world.post("/v1/messages", &said).await;
    assert_eq!((answer.status.as_u16(), mock.count()), (200, 1), "{}", answer.text());
}

#[tokio::test]
async fn amazons_buckets_are_named_in_amazons_own_form() {
    let (mock, world) = start().await;
    let path = "/providers/aws/model/amazon.nova-pro-v1%3A0/converse";
    let ask = |uri: &str| json!({"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"s3Location": {"uri": uri}}}}]}]});
    assert_eq!(world.post(path, &ask("s3://shared/a.png")).await.status, 200);
    for other in ["s3://other/a.png", "s3://shared/../other/a.png", "gs://shared/a.png", "shared/a.png"] {
        assert_eq!(world.post(path, &ask(other)).await.status, 404, "{other}");
    }
    assert_eq!(mock.count(), 1);
}

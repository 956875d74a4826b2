//! What Google and Cohere store for a caller: files and how they are sent, caches, batches, operations, jobs, each its maker's alone.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock, Received};

use crate::harness::{PROVIDER_KEY, World};

const BEGUN: &str = "AJjja9Yw-resumable";

fn world(mock: &Mock) -> World {
    let provider = |name: &str, kind: &str, base: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}{base}\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n",
            mock.url()
        )
    };
    let open = |name: &str| {
        format!("{{ provider = \"{name}\", methods = [\"GET\", \"POST\", \"PATCH\", \"DELETE\"], paths = [\"/**\"] }}")
    };
    World::new(&format!(
        "[server]\nexternal_url = \"https://ai.example.com\"\n{}{}\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"g\", \"c\"], passthrough = [{}, {}] }}\n",
        provider("g", "gemini", "/v1beta"),
        provider("c", "cohere", ""),
        open("g"),
        open("c"),
    ))
}

fn file(name: &str) -> Value {
    json!({"name": name, "uri": format!("https://generativelanguage.googleapis.com/v1beta/{name}"), "state": "ACTIVE"})
}

/// Google, as far as it keeps things; `here`: where uploads go on.
fn google(request: &Received, here: &str) -> Answer {
    let command = request.header("x-goog-upload-command").unwrap_or_default();
    match (request.method.as_str(), request.path()) {
        ("POST", "/upload/v1beta/files") if command == "start" => Answer::json(200, &json!({}))
            .header(
                "x-goog-upload-url",
                &format!("{here}/upload/v1beta/files?upload_id={BEGUN}&upload_protocol=resumable"),
            )
            .header("x-goog-upload-control-url", &format!("{here}/upload/v1beta/files?upload_id={BEGUN}"))
            .header("x-goog-upload-status", "active")
            .header("x-goog-upload-chunk-granularity", "8388608"),
        ("POST", "/upload/v1beta/files") if command == "upload" => Answer::json(200, &json!({}))
            .header("x-goog-upload-status", "active")
            .header("x-goog-upload-size-received", "3"),
        ("POST", "/upload/v1beta/files") => {
            Answer::json(200, &json!({"file": file("files/f1")})).header("x-goog-upload-status", "final")
        }
        ("GET", "/v1beta/files") => {
            Answer::json(200, &json!({"files": [file("files/f0"), file("files/f1")], "nextPageToken": "t"}))
        }
        ("GET", "/v1beta/cachedContents") => Answer::json(200, &json!({})),
        ("POST", "/v1beta/cachedContents") => {
            Answer::json(200, &json!({"name": "cachedContents/c1", "model": "models/m"}))
        }
        ("POST", "/v1beta/models/m:batchGenerateContent") => {
            Answer::json(200, &json!({"name": "batches/b1", "metadata": {"state": "BATCH_STATE_PENDING"}}))
        }
        ("GET", "/v1beta/batches") => {
            Answer::json(200, &json!({"operations": [{"name": "batches/b0"}, {"name": "batches/b1"}]}))
        }
        ("GET", "/v1beta/batches/b1") => Answer::json(
            200,
            &json!({"name": "batches/b1", "done": true, "response": {"responsesFile": "files/batch-b1"}}),
        ),
        ("POST", "/v1beta/models/veo:predictLongRunning") => {
            Answer::json(200, &json!({"name": "models/veo/operations/o1"}))
        }
        ("POST", "/v1beta/tunedModels") => Answer::json(
            200,
            &json!({"name": "tunedModels/t1/operations/o2", "metadata": {"tunedModel": "tunedModels/t1"}}),
        ),
        ("POST", "/v1beta/interactions") => {
            Answer::json(200, &json!({"id": "v1_i1", "object": "interaction", "steps": []}))
        }
        ("POST", path) if path.ends_with(":generateContent") => Answer::json(
            200,
            &json!({"candidates": [{"content": {"parts": [{"text": "ok"}]}, "finishReason": "STOP"}], "usageMetadata": {}}),
        ),
        _ => Answer::bytes(200, "text/plain", "content"),
    }
}

async fn start() -> (Mock, World) {
    let here = Arc::new(std::sync::OnceLock::<String>::new());
    let own = Arc::clone(&here);
    let mock = Mock::start_with(move |request| google(request, own.get().unwrap())).await;
    here.set(mock.url()).unwrap();
    let world = world(&mock);
    (mock, world)
}

async fn status(world: &World, subject: &str, method: &str, path: &str) -> u16 {
    let token = world.token(subject);
    world.send(method, &format!("/providers/g{path}"), &[("x-goog-api-key", &token)], "").await.status.as_u16()
}

/// Begin an upload as `alice`: the address its pieces go to.
async fn begin(world: &World) -> String {
    let token = world.token("alice");
    let headers = [
        ("x-goog-api-key", token.as_str()),
        ("content-type", "application/json"),
        ("x-goog-upload-protocol", "resumable"),
        ("x-goog-upload-command", "start"),
        ("x-goog-upload-header-content-length", "6"),
        ("x-goog-upload-header-content-type", "text/plain"),
    ];
    let answer =
        world.send("POST", "/providers/g/upload/v1beta/files", &headers, r#"{"file":{"displayName":"a"}}"#).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-goog-upload-status")), (200, "active"), "{}", answer.text());
    assert_eq!(answer.header("x-goog-upload-chunk-granularity"), "8388608");
    assert_eq!(answer.header("x-goog-upload-control-url"), "", "it is Google's");
    let url = answer.header("x-goog-upload-url").to_owned();
    url.strip_prefix("https://ai.example.com").expect("an address here").to_owned()
}

const PIECE: (&str, &str) = ("x-goog-upload-command", "upload");
const LAST: (&str, &str) = ("x-goog-upload-command", "upload, finalize");

#[tokio::test]
async fn an_upload_goes_on_at_an_address_here_that_needs_no_other_credential() {
    let (mock, world) = start().await;
    let address = begin(&world).await;
    assert!(!address.contains(BEGUN) && !address.contains(&world.token("alice")), "{address}");
    let got = mock.request(0).await;
    assert_eq!(got.target, "/upload/v1beta/files");
    assert_eq!(got.header("x-goog-upload-header-content-type"), Some("text/plain"));
    // As Google's Python SDK sends the pieces: no credential, and a type that is not the file's.
    let kind = ("content-type", "application/json");
    let answer = world.send("POST", &address, &[PIECE, ("x-goog-upload-offset", "0"), kind], "{no").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-goog-upload-size-received")), (200, "3"), "{}", answer.text());
    let answer = world.send("POST", &address, &[LAST, ("x-goog-upload-offset", "3"), kind], "json").await;
    assert_eq!((answer.header("x-goog-upload-status"), &answer.json()["file"]["name"]), ("final", &json!("files/f1")));
    for at in 1..3 {
        let got = mock.request(at).await;
        assert_eq!(got.target, format!("/upload/v1beta/files?upload_id={BEGUN}&upload_protocol=resumable"));
        assert_eq!(got.header("x-goog-api-key"), Some(PROVIDER_KEY));
    }
    assert_eq!(mock.request(2).await.header("x-goog-upload-offset"), Some("3"));
    assert_eq!(&mock.request(1).await.body[..], b"{no");
    assert_eq!(status(&world, "alice", "GET", "/v1beta/files/f1").await, 200);
    assert_eq!(status(&world, "bob", "GET", "/v1beta/files/f1").await, 404);
}

#[tokio::test]
async fn the_address_of_an_upload_is_good_for_that_upload_of_its_maker_and_nothing_else() {
    let (mock, world) = start().await;
    let address = begin(&world).await;
    let before = mock.count();
    let bob = world.token("bob");
    let query = address.split_once('?').unwrap().1.to_owned();
    let (forged, files) = (address.replace("vgu_", "vgu_A"), format!("/providers/g/v1beta/files?{query}"));
    let plain = format!("/providers/g/upload/v1beta/files?upload_id={BEGUN}&upload_protocol=resumable");
    let elsewhere = format!("/providers/c/upload/v1beta/files?{query}");
    for (path, headers, expected) in [
        (&address, vec![PIECE, ("x-goog-api-key", bob.as_str())], 404),
        (&plain, vec![PIECE, ("x-goog-api-key", bob.as_str())], 404),
        (&plain, vec![PIECE], 401),
        (&forged, vec![PIECE], 401),
        (&files, vec![], 401),
        (&elsewhere, vec![PIECE], 401),
        (&format!("{address}&upload_id=other"), vec![PIECE], 401),
    ] {
        let answer = world.send("POST", path, &headers, "abc").await;
        assert_eq!(answer.status.as_u16(), expected, "{path}: {}", answer.text());
    }
    world.revoked.subject("alice");
    assert_eq!(world.send("POST", &address, &[PIECE], "abc").await.status, 401, "revoked in the meantime");
    assert_eq!(mock.count(), before);
}

#[tokio::test]
async fn an_address_elsewhere_is_not_passed_on() {
    let mock = Mock::start_with(|request| google(request, "https://evil.example")).await;
    let world = world(&mock);
    let token = world.token("alice");
    let headers = [("x-goog-api-key", token.as_str()), ("x-goog-upload-command", "start")];
    let answer = world.send("POST", "/providers/g/upload/v1beta/files", &headers, "{}").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-goog-upload-url")), (502, ""));
}

#[tokio::test]
async fn a_file_sent_at_once_is_its_makers_whatever_it_holds() {
    let (mock, world) = start().await;
    let token = world.token("alice");
    let related =
        "--b\r\nContent-Type: application/json\r\n\r\n{\"file\":{}}\r\n--b\r\n\r\n{\"file_id\":\"x\"\r\n--b--";
    let kind = ("content-type", "multipart/related; boundary=b");
    let headers = [("x-goog-api-key", token.as_str()), ("x-goog-upload-protocol", "multipart"), kind];
    let answer = world.send("POST", "/providers/g/upload/v1beta/files?uploadType=multipart", &headers, related).await;
    assert_eq!(answer.json()["file"]["name"], "files/f1", "{}", answer.text());
    assert_eq!(mock.request(0).await.header("x-goog-upload-protocol"), Some("multipart"));
    let files = world.get_as("alice", "/providers/g/v1beta/files").await.json();
    assert_eq!((&files["files"], &files["nextPageToken"]), (&json!([file("files/f1")]), &json!("t")));
    assert_eq!(world.get_as("bob", "/providers/g/v1beta/files").await.json()["files"], json!([]));
    let ask = |uri: &str| json!({"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": uri}}]}]});
    let uri = "https://generativelanguage.googleapis.com/v1beta/files/f1";
    for path in ["/v1beta/models/g/m:generateContent", "/providers/g/v1beta/models/m:generateContent"] {
        assert_eq!(world.post(path, &ask(uri)).await.status, 200, "{path}");
        assert_eq!(world.post_as("bob", path, &ask(uri)).await.status, 404, "{path}");
        assert_eq!(
            world.post(path, &ask("https://generativelanguage.googleapis.com/v1beta/files/f0")).await.status,
            404
        );
    }
    assert_eq!(status(&world, "bob", "DELETE", "/v1beta/files/f1").await, 404);
    assert_eq!(status(&world, "alice", "GET", "/download/v1beta/files/f1:download?alt=media").await, 200);
    assert_eq!(status(&world, "bob", "GET", "/download/v1beta/files/f1:download?alt=media").await, 404);
    assert_eq!(status(&world, "alice", "DELETE", "/v1beta/files/f1").await, 200);
    assert_eq!(status(&world, "alice", "GET", "/v1beta/files/f1").await, 404, "forgotten");
}

#[tokio::test]
async fn caches_batches_operations_models_and_interactions_are_their_makers_alone() {
    let (_mock, world) = start().await;
    for (path, body) in [
        ("/v1beta/cachedContents", json!({"model": "models/m", "contents": []})),
        ("/v1beta/models/m:batchGenerateContent", json!({"batch": {"input_config": {"requests": {"requests": []}}}})),
        ("/v1beta/models/veo:predictLongRunning", json!({"instances": [{"prompt": "x"}]})),
        ("/v1beta/tunedModels", json!({"displayName": "t"})),
        ("/v1beta/interactions", json!({"model": "m", "input": "x"})),
    ] {
        let answer = world.post(&format!("/providers/g{path}"), &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for path in [
        "/v1beta/cachedContents/c1",
        "/v1beta/batches/b1",
        "/v1beta/models/veo/operations/o1",
        "/v1beta/tunedModels/t1",
        "/v1beta/tunedModels/t1/operations/o2",
        "/v1beta/interactions/v1_i1",
    ] {
        assert_eq!(status(&world, "alice", "GET", path).await, 200, "{path}");
        assert_eq!(status(&world, "bob", "GET", path).await, 404, "{path}");
        assert_eq!(status(&world, "bob", "POST", &format!("{path}:cancel")).await, 404, "{path}");
    }
    // What the batch wrote became its maker's when that was told of it.
    assert_eq!(status(&world, "alice", "GET", "/download/v1beta/files/batch-b1:download").await, 200);
    assert_eq!(status(&world, "bob", "GET", "/download/v1beta/files/batch-b1:download").await, 404);
    let batches = world.get_as("alice", "/providers/g/v1beta/batches").await.json();
    assert_eq!(batches["operations"], json!([{"name": "batches/b1"}]));
    assert_eq!(world.get_as("alice", "/providers/g/v1beta/cachedContents").await.json(), json!({}), "an empty list");
    let cached = json!({"contents": [], "cachedContent": "cachedContents/c1"});
    for path in ["/v1beta/models/g/m:generateContent", "/providers/g/v1beta/models/m:generateContent"] {
        assert_eq!(world.post(path, &cached).await.status, 200, "{path}");
        assert_eq!(world.post_as("bob", path, &cached).await.status, 404, "{path}");
    }
    let follow = json!({"model": "m", "input": "y", "previous_interaction_id": "v1_i1"});
    assert_eq!(world.post("/providers/g/v1beta/interactions", &follow).await.status, 200);
    assert_eq!(world.post_as("bob", "/providers/g/v1beta/interactions", &follow).await.status, 404);
}

#[tokio::test]
async fn what_cohere_keeps_is_its_makers_alone() {
    let mock = Mock::start_with(|request| match (request.method.as_str(), request.path()) {
        ("POST", "/v1/datasets") => Answer::json(200, &json!({"id": "ds-1"})),
        ("GET", "/v1/datasets") => Answer::json(200, &json!({"datasets": [{"id": "ds-0"}, {"id": "ds-1"}]})),
        ("GET", "/v1/datasets/ds-1") => Answer::json(200, &json!({"dataset": {"id": "ds-1"}})),
        ("POST", "/v1/embed-jobs") => Answer::json(200, &json!({"job_id": "job-1", "meta": {}})),
        ("GET", "/v1/embed-jobs") => {
            Answer::json(200, &json!({"embed_jobs": [{"job_id": "job-0"}, {"job_id": "job-1"}]}))
        }
        ("GET", "/v1/embed-jobs/job-1") => {
            Answer::json(200, &json!({"job_id": "job-1", "status": "complete", "output_dataset_id": "ds-2"}))
        }
        _ => Answer::json(200, &json!({"dataset": {"id": "ds-2"}})),
    })
    .await;
    let world = world(&mock);
    let token = format!("Bearer {}", world.token("alice"));
    let form = "--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a.jsonl\"\r\n\r\n{}\r\n--b--\r\n";
    let headers = [("authorization", token.as_str()), ("content-type", "multipart/form-data; boundary=b")];
    let made = world.send("POST", "/providers/c/v1/datasets?name=a&type=embed-input", &headers, form).await;
    assert_eq!(made.json()["id"], "ds-1", "{}", made.text());
    let job = json!({"model": "embed-v4.0", "dataset_id": "ds-1", "input_type": "search_document"});
    assert_eq!(world.post_as("bob", "/providers/c/v1/embed-jobs", &job).await.status, 404);
    assert_eq!(world.post("/providers/c/v1/embed-jobs", &job).await.json()["job_id"], "job-1");
    assert_eq!(world.get_as("alice", "/providers/c/v1/datasets/ds-2").await.status, 404, "nobody has been told of it");
    for path in ["/v1/datasets/ds-1", "/v1/embed-jobs/job-1", "/v1/datasets/ds-2"] {
        assert_eq!(world.get_as("alice", &format!("/providers/c{path}")).await.status, 200, "{path}");
        assert_eq!(world.get_as("bob", &format!("/providers/c{path}")).await.status, 404, "{path}");
    }
    let of = |subject: &'static str, path: &'static str| {
        let world = &world;
        async move { world.get_as(subject, path).await.json() }
    };
    assert_eq!(of("alice", "/providers/c/v1/datasets").await["datasets"], json!([{"id": "ds-1"}]));
    assert_eq!(of("alice", "/providers/c/v1/embed-jobs").await["embed_jobs"], json!([{"job_id": "job-1"}]));
    assert_eq!(of("bob", "/providers/c/v1/embed-jobs").await["embed_jobs"], json!([]));
    assert_eq!(world.get_as("alice", "/providers/c/v1/datasets/usage").await.status, 404, "it is everybody's");
}

#[tokio::test]
async fn an_upload_may_be_as_large_as_files_are_elsewhere() {
    let (mock, world) = start().await;
    let address = begin(&world).await;
    let answer = world.send("POST", &address, &[LAST], vec![0_u8; 11 << 20]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(mock.request(1).await.body.len(), 11 << 20);
    let token = world.token("alice");
    let headers = [("x-goog-api-key", token.as_str())];
    let large = world.send("POST", "/providers/g/v1beta/interactions", &headers, vec![b' '; 11 << 20]).await;
    assert_eq!(large.status, 413);
}

//! Clients of every dialect in front of providers of every other: text, streams, tools in a loop, pictures, structured output,
//! errors and retries. One process for each SDK, all cases inside. And those whose dialect only their own provider speaks, on
//! its own paths.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use testkit::certs::Authority;
use testkit::mock::Mock;

use super::provider::{INPUT, OUTPUT, Provider};
use crate::support::{self, Gateway, secret_file};

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The providers, by their kind: one for each dialect, and Mistral.
const PROVIDERS: [(&str, &str); 7] = [
    ("openai", "/v1"),
    ("anthropic", ""),
    ("gemini", "/v1beta"),
    ("mistral", "/v1"),
    ("cohere", ""),
    ("bedrock", ""),
    ("ollama", ""),
];

/// What lets a client call three providers on their own paths, for `m` and nothing else; and two models whose targets cannot
/// express all that clients write.
const MORE: &str = r#"
[[client]]
name = "native"
scopes = ["chat"]

[[policy]]
name = "native"
who = { client = "native" }

[policy.may]
passthrough = [
    { provider = "cohere", methods = ["POST"], paths = ["/v2/*"], models = ["m"] },
    { provider = "bedrock", methods = ["POST"], paths = ["/model/*/*"], models = ["m"] },
    { provider = "ollama", methods = ["POST"], paths = ["/api/*"], models = ["m"] },
]

[[model]]
name = "at-cohere"
targets = [{ provider = "cohere", model = "m" }]
on_unsupported = "drop"
retry = { attempts = 1 }

[[model]]
name = "at-ollama"
targets = [{ provider = "ollama", model = "m" }]
on_unsupported = "drop"
retry = { attempts = 1 }
"#;

/// Statuses a provider fails with, and what the SDKs that name their errors so call them.
const FAILURES: [(u16, &str); 4] =
    [(400, "BadRequestError"), (404, "NotFoundError"), (429, "RateLimitError"), (500, "InternalServerError")];

/// What an SDK calls the four failures.
type Names = fn(u16) -> &'static str;

fn by_class(status: u16) -> &'static str {
    FAILURES.iter().find(|(known, _)| *known == status).map(|(_, name)| *name).unwrap()
}

/// Run a script with every provider; what it saw, by model. `None` (and a note) where the SDKs are not installed.
async fn run(script: &str, test: &str) -> Option<serde_json::Map<String, Value>> {
    let provider = Arc::new(Provider::default());
    let mock = Mock::start_with(move |request| provider.answer(request)).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider-key", "fake-provider-key-for-cases");
    // AWS's SDK sends a key over TLS only.
    let authority = (script == "cases_boto3.py").then(Authority::new);
    let (server, ca) = authority.as_ref().map(|authority| encrypted(dir.path(), authority)).unwrap_or_default();
    let mut config = format!("{server}{}{MORE}", support::APP);
    for (kind, base) in PROVIDERS {
        config.push_str(&support::provider(kind, kind, &format!("{}{base}", mock.url()), &key));
        if kind == "ollama" {
            config.push_str("api = \"native\"\n");
        }
    }
    let gateway = Gateway::start_in(dir, &config).await;
    let client = if NATIVE.contains(&script) { "native" } else { "app" };
    let url = match ca {
        Some(_) => format!("https://localhost:{}", gateway.public.port()),
        None => gateway.url(""),
    };
    let job = json!({
        "url": url, "ca": ca, "token": gateway.token(client).await, "models": MODELS, "image": PIXEL,
        "whole_calls": WHOLE_CALLS,
        "statuses": FAILURES.map(|(status, _)| status), "weather": {"Paris": "21", "Oslo": "7"},
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    });
    let seen = support::client(script, test, &job).await?;
    gateway.stop().await;
    Some(seen.as_object().unwrap().clone())
}

/// What has the server speak TLS, and the file with who vouches for it.
fn encrypted(dir: &Path, authority: &Authority) -> (String, Option<PathBuf>) {
    let identity = authority.server(&["localhost"]);
    let cert = secret_file(dir, "cert.pem", &identity.cert_pem);
    let key = secret_file(dir, "tls.key", &identity.key_pem);
    let ca = secret_file(dir, "ca.pem", &authority.pem());
    (format!("tls = {{ cert = \"{}\", key = \"{}\" }}\n", cert.display(), key.display()), Some(ca))
}

/// Every case that was seen, as it has to be.
fn judge(script: &str, model: &str, seen: &Value, names: Names) {
    let at = format!("{script} {model}");
    let weather = json!({"calls": [["get_weather", {"city": "Paris"}], ["get_weather", {"city": "Oslo"}]],
        "text": "The tools say: 21 and 7."});
    let hello = json!({"text": "Hello from the other side.", "input": INPUT, "output": OUTPUT});
    let report = json!({"value": {"city": "Paris", "degrees": 21}});
    let picture = json!({"text": format!("A picture: image/png, {} characters.", PIXEL.len())});
    for (case, told) in seen.as_object().unwrap() {
        let at = format!("{at} {case}");
        match case.as_str() {
            "text" => assert_eq!(*told, hello, "{at}"),
            "stream" => {
                assert!(told["pieces"].as_u64() > Some(2), "{at}: {told}");
                let mut told = told.clone();
                told.as_object_mut().unwrap().remove("pieces");
                // Mistral's clients do not ask what a stream used: some providers tell it unasked.
                let asks = script != "cases_mistral.py" && !model.starts_with("mistral ");
                let untold = !asks && told.get("input").is_none();
                let wanted = if untold { json!({"text": hello["text"]}) } else { hello.clone() };
                assert_eq!(told, wanted, "{at}");
            }
            "tools" | "stream_tools" => assert_eq!(*told, weather, "{at}"),
            "automatic" => assert_eq!(told, "The tools say: 21 and 7.", "{at}"),
            "image" => assert_eq!(*told, picture, "{at}"),
            // These make a model call a function then, and Ollama's cannot be made to.
            "report"
                if model.ends_with(" at-ollama")
                    && (script == "cases_pydantic.py" || model.starts_with("anthropic ")) =>
            {
                assert_eq!(*told, json!({"refused": 400}), "{at}");
            }
            "report" | "native_report" => assert_eq!(*told, report, "{at}"),
            "retry" => assert_eq!(*told, json!({"text": "Now it works."}), "{at}"),
            "embed" => assert_eq!(*told, json!({"count": 2, "dimensions": 3}), "{at}"),
            "rerank" => assert_eq!(*told, json!({"order": [1, 0]}), "{at}"),
            "count" => assert_eq!(*told, json!({"input": INPUT}), "{at}"),
            "generate" | "invoke" => {
                assert_eq!((&told["text"], &told["streamed"]), (&hello["text"], &hello["text"]), "{at}");
                assert!(case == "generate" || told["input"] == INPUT, "{at}: {told}");
            }
            "refused" => assert_eq!(*told, json!({"class": names(403), "status": 403}), "{at}"),
            "errors" => {
                let told = told.as_array().unwrap();
                assert_eq!(told.len(), FAILURES.len(), "{at}: {told:?}");
                for ((status, _), told) in FAILURES.iter().zip(told) {
                    assert_eq!((&told["class"], &told["status"]), (&json!(names(*status)), &json!(status)), "{at}");
                    // Vercel's adapter for Mistral reads the words in Mistral's own form only.
                    let read =
                        model.starts_with("mistral ") || told["message"].as_str().unwrap().contains("As you wish.");
                    assert!(read, "{at}: {told}");
                }
            }
            other => panic!("{at}: no case is called {other}"),
        }
    }
    for case in ["text", "stream", "tools", "stream_tools", "image", "report", "errors"] {
        let left_out = case == "stream_tools" && script == "cases_mistral.py" && !WHOLE_CALLS.contains(&model);
        assert_eq!(seen.get(case).is_none(), left_out, "{at}: {case}");
    }
}

/// Models whose streamed calls come whole.
const WHOLE_CALLS: [&str; 1] = ["mistral/whole"];

const MODELS: [&str; 7] =
    ["openai/m", "anthropic/m", "gemini/m", "mistral/whole", "bedrock/m", "at-cohere", "at-ollama"];

/// Clients that ask their own provider on its own paths.
const NATIVE: [&str; 4] = ["cases_cohere.py", "cases_boto3.py", "cases_ollama.py", "cases_ollama.mjs"];

async fn every_model(script: &str, test: &str, runs: usize, names: Names) {
    let Some(seen) = run(script, test).await else { return };
    assert_eq!(seen.len(), runs, "{script}: {:?}", seen.keys());
    for (model, seen) in &seen {
        judge(script, model, seen, names);
    }
}

#[tokio::test]
async fn openais_python_sdk_has_every_case_with_every_provider() {
    every_model("cases_openai.py", "cases_openai.py", 7, by_class).await;
}

#[tokio::test]
async fn openais_python_sdk_has_every_case_of_the_responses_api_with_every_provider() {
    every_model("cases_responses.py", "cases_responses.py", 7, by_class).await;
}

#[tokio::test]
async fn openais_node_sdk_has_every_case_of_the_responses_api_with_every_provider() {
    every_model("cases_responses.mjs", "cases_responses.mjs", 7, by_class).await;
}

#[tokio::test]
async fn anthropics_python_sdk_has_every_case_with_every_provider() {
    every_model("cases_anthropic.py", "cases_anthropic.py", 7, by_class).await;
}

#[tokio::test]
async fn googles_python_sdk_has_every_case_with_every_provider() {
    let names = |status| if status >= 500 { "ServerError" } else { "ClientError" };
    every_model("cases_google.py", "cases_google.py", 7, names).await;
}

#[tokio::test]
async fn mistrals_python_sdk_has_every_case_with_every_provider() {
    every_model("cases_mistral.py", "cases_mistral.py", 7, |_| "SDKError").await;
}

#[tokio::test]
async fn langchain_has_every_case_with_every_provider() {
    every_model("cases_langchain.py", "cases_langchain.py", 7, by_class).await;
}

#[tokio::test]
async fn pydantic_ai_has_every_case_with_every_provider_in_every_dialect() {
    every_model("cases_pydantic.py", "cases_pydantic.py", 21, |_| "ModelHTTPError").await;
}

#[tokio::test]
async fn openais_node_sdk_has_every_case_with_every_provider() {
    every_model("cases_openai.mjs", "cases_openai.mjs", 7, by_class).await;
}

#[tokio::test]
async fn anthropics_node_sdk_has_every_case_with_every_provider() {
    every_model("cases_anthropic.mjs", "cases_anthropic.mjs", 7, by_class).await;
}

#[tokio::test]
async fn googles_node_sdk_has_every_case_with_every_provider() {
    every_model("cases_google.mjs", "cases_google.mjs", 7, |_| "ApiError").await;
}

#[tokio::test]
async fn vercels_ai_sdk_has_every_case_with_every_provider_in_every_dialect() {
    every_model("cases_ai.mjs", "cases_ai.mjs", 35, |_| "AI_APICallError").await;
}

#[tokio::test]
async fn coheres_python_sdk_has_every_case_on_its_own_api() {
    let names = |status| match status {
        400 => "BadRequestError",
        403 => "ForbiddenError",
        404 => "NotFoundError",
        429 => "TooManyRequestsError",
        _ => "InternalServerError",
    };
    every_model("cases_cohere.py", "cases_cohere.py", 1, names).await;
}

#[tokio::test]
async fn awss_python_sdk_has_every_case_on_bedrock_runtime() {
    let names = |status| match status {
        400 => "ValidationException",
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        _ => "InternalServerException",
    };
    every_model("cases_boto3.py", "cases_boto3.py", 1, names).await;
}

#[tokio::test]
async fn ollamas_python_sdk_has_every_case_on_its_own_api() {
    every_model("cases_ollama.py", "cases_ollama.py", 1, |_| "ResponseError").await;
}

#[tokio::test]
async fn ollamas_node_sdk_has_every_case_on_its_own_api() {
    every_model("cases_ollama.mjs", "cases_ollama.mjs", 1, |_| "ResponseError").await;
}

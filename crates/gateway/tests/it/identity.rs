//! Vertex AI without a key file: the machine's own identity, and another provider's token in exchange.

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock, Received};

use crate::harness::World;

/// A token that somebody else signed.
const SUBJECT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyb2JvdCJ9.c2lnbmVk";
const PATH: &str = "/v1beta/models/v/gemini-2.5-pro:generateContent";

fn config(mock: &Mock, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"v\"\nkind = \"vertex\"\nproject = \"p\"\nlocation = \"us-central1\"\n\
         base_url = \"{0}\"\ntoken_url = \"{0}/token\"\nallow_private = true\n{more}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n",
        mock.url()
    )
}

fn ask() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
}

fn gemini() -> Answer {
    Answer::json(
        200,
        &json!({"candidates": [{"content": {"parts": [{"text": "hi"}], "role": "model"}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}}),
    )
}

fn token(text: &str) -> Answer {
    Answer::json(200, &json!({"access_token": text, "token_type": "Bearer", "expires_in": 3600}))
}

#[tokio::test]
async fn a_machine_shows_the_token_of_its_own_service_account() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, "credentials = \"metadata\""));
    mock.push(token("ya29.machine").header("metadata-flavor", "Google"));
    for _ in 0..2 {
        mock.push(gemini());
        let answer = world.post(PATH, &ask()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(mock.count(), 3, "asked for once");
    let asked = mock.request(0).await;
    assert_eq!((asked.method.as_str(), asked.path()), ("GET", "/token"));
    assert_eq!((asked.header("metadata-flavor"), asked.header("authorization")), (Some("Google"), None));
    assert_eq!(mock.request(1).await.header("authorization"), Some("Bearer ya29.machine"));
}

#[tokio::test]
async fn what_is_no_metadata_server_gives_no_token_and_a_machine_without_one_says_so() {
    let mock = Mock::start().await;
    for (answer, code) in [
        (token("ya29.anybody"), "provider_token_unavailable"),
        (Answer::json(404, &json!({})).header("metadata-flavor", "Google"), "provider_token_refused"),
        (Answer::json(500, &json!({})).header("metadata-flavor", "Google"), "provider_token_unavailable"),
        (
            Answer::json(200, &json!({"access_token": ""})).header("metadata-flavor", "Google"),
            "provider_token_unavailable",
        ),
    ] {
        let world = World::new(&config(&mock, "credentials = \"metadata\""));
        let before = mock.count();
        // Asked again as often as the model's retries say.
        for _ in 0..3 {
            mock.push(answer.clone());
        }
        let refused = world.post(PATH, &ask()).await;
        assert_eq!(refused.status, 502, "{code}: {}", refused.text());
        assert!(world.record().error.as_deref() == Some(code), "{code}: {:?}", world.record().error);
        mock.forget();
        assert!((before..mock.count()).len() <= 3);
    }
}

/// Google: exchanges, gives service accounts' tokens, and answers; another provider gives its token.
async fn google() -> Mock {
    Mock::start_with(|request: &Received| match request.path() {
        "/token" => Answer::json(
            200,
            &json!({"access_token": "federated", "token_type": "Bearer", "expires_in": 3600,
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}),
        ),
        "/identity" => Answer::json(200, &json!({"id": SUBJECT})),
        path if path.ends_with(":generateAccessToken") => {
            Answer::json(200, &json!({"accessToken": "ya29.account", "expireTime": "2030-01-01T00:00:00Z"}))
        }
        _ => gemini(),
    })
    .await
}

fn external(source: &Value, account: Option<&str>) -> String {
    let mut file = json!({"type": "external_account", "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": source});
    if let Some(account) = account {
        file["service_account_impersonation_url"] = account.into();
    }
    file.to_string()
}

fn key() -> &'static str {
    "api_key = { env = \"K\" }"
}

#[tokio::test]
async fn another_providers_token_is_exchanged_for_googles() {
    let mock = google().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, format!("{SUBJECT}\n")).unwrap();
    let world = World::with_provider_key(&config(&mock, key()), &external(&json!({"file": path}), None));
    for _ in 0..2 {
        assert_eq!(world.post(PATH, &ask()).await.status, 200);
    }
    assert_eq!(mock.count(), 3, "exchanged once");
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&mock.request(0).await.body).into_owned().collect();
    let told = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(told("grant_type"), Some("urn:ietf:params:oauth:grant-type:token-exchange"));
    assert_eq!(
        (told("subject_token"), told("scope")),
        (Some(SUBJECT), Some("https://www.googleapis.com/auth/cloud-platform"))
    );
    assert!(told("audience").unwrap().ends_with("/providers/k"));
    let got = mock.request(1).await;
    assert_eq!(got.header("authorization"), Some("Bearer federated"));
    assert!(!String::from_utf8_lossy(&got.head).contains(SUBJECT));
}

#[tokio::test]
async fn an_address_gives_it_too_and_a_service_account_is_acted_for() {
    let mock = google().await;
    let source = json!({"url": format!("{}/identity", mock.url()), "headers": {"x-request": "me"},
        "format": {"type": "json", "subject_token_field_name": "id"}});
    let account =
        format!("{}/v1/projects/-/serviceAccounts/robot@p.iam.gserviceaccount.com:generateAccessToken", mock.url());
    let world = World::with_provider_key(&config(&mock, key()), &external(&source, Some(&account)));
    let answer = world.post(PATH, &ask()).await;
    assert_eq!((answer.status.as_u16(), mock.count()), (200, 4), "{}", answer.text());
    assert_eq!(mock.request(0).await.header("x-request"), Some("me"));
    let acting = mock.request(2).await;
    assert_eq!(acting.header("authorization"), Some("Bearer federated"));
    assert_eq!(
        acting.json(),
        json!({"scope": ["https://www.googleapis.com/auth/cloud-platform"], "lifetime": "3600s"})
    );
    assert_eq!(mock.request(3).await.header("authorization"), Some("Bearer ya29.account"));
}

#[tokio::test]
async fn no_other_file_and_no_other_place_is_read_or_told_of() {
    let mock = google().await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "root:x:0:0:a secret that is no token").unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, SUBJECT).unwrap();
    let elsewhere = "https://evil.example/v1/projects/-/serviceAccounts/r:generateAccessToken";
    for (text, code, asked) in [
        (external(&json!({"file": secret}), None), "provider_token_source", 0),
        (external(&json!({"file": dir.path().join("none")}), None), "provider_token_source", 0),
        (external(&json!({"executable": {"command": "/bin/id"}}), None), "provider_token_source", 0),
        (external(&json!({"environment_id": "aws1"}), None), "provider_token_source", 0),
        (
            external(&json!({"file": file, "format": {"type": "json", "subject_token_field_name": "a"}}), None),
            "provider_token_source",
            0,
        ),
        (external(&json!({"url": "http://169.254.170.2/x"}), None), "provider_token_unavailable", 0),
        (external(&json!({"file": file}), Some(elsewhere)), "provider_token_endpoint", 1),
    ] {
        let before = mock.count();
        let world = World::with_provider_key(&config(&mock, key()), &text);
        let refused = world.post(PATH, &ask()).await;
        assert_eq!(refused.status, 502, "{text}: {}", refused.text());
        assert_eq!(world.record().error.as_deref(), Some(code), "{text}");
        assert_eq!(mock.count() - before, asked, "{text}");
        assert!(!refused.text().contains("secret"), "{}", refused.text());
    }
    // Where nobody says otherwise, tokens are exchanged at Google's only.
    let plain = config(&mock, key()).replace(&format!("token_url = \"{}/token\"\n", mock.url()), "");
    let text = external(&json!({"file": file}), None).replace("https://sts.googleapis.com", "https://sts.evil.example");
    let world = World::with_provider_key(&plain, &text);
    assert_eq!(world.post(PATH, &ask()).await.status, 502);
    assert_eq!(world.record().error.as_deref(), Some("provider_token_endpoint"));
}

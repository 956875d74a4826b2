use super::*;
use proptest::prelude::*;

fn provider(kind: &str, base: &str) -> Provider {
    let config: config::Provider =
        serde_json::from_value(serde_json::json!({"name": "p", "kind": kind, "base_url": base})).expect("provider");
    Provider::build(&config, Vec::new(), (Deadlines::default(), &States::new(Arc::new(base::SystemClock))))
        .expect("builds")
}

#[test]
fn every_spelling_of_a_native_path_leads_to_one_place() {
    let native = |kind, base, rest| provider(kind, base).native_path(rest, Some("a=b")).expect("path").to_string();
    for rest in ["/v1/files", "/files"] {
        assert_eq!(native("openai", "https://api.example/v1", rest), "/v1/files?a=b");
        assert_eq!(native("anthropic", "https://api.example", rest), "/v1/files?a=b");
        assert_eq!(native("openai-compatible", "https://api.example", rest), "/files?a=b");
    }
    for rest in ["/openai/v1/files", "/v1/files", "/files"] {
        assert_eq!(native("groq", "https://api.example/openai/v1", rest), "/openai/v1/files?a=b");
    }
    assert_eq!(provider("groq", "https://api.example/openai/v1").below("/openai/v1/files/x"), "/files/x");
    assert_eq!(provider("openai", "https://api.example/v1").below("/v1/v1/files"), "/v1/files");
}

#[test]
fn bedrocks_other_endpoint_is_asked_for_anthropics_models_in_anthropics_dialect() {
    let mantle = provider("bedrock", "https://bedrock-mantle.us-east-1.api.aws");
    let claude = "anthropic.claude-opus-4-7";
    for client in [Dialect::OpenAiChat, Dialect::AnthropicMessages, Dialect::Gemini] {
        assert_eq!(mantle.speaks(client, claude), Dialect::AnthropicMessages);
        assert_eq!(mantle.speaks(client, "openai.gpt-oss-120b"), Dialect::OpenAiChat);
    }
    let path = |dialect, model| mantle.path(dialect, model, true).expect("path").to_string();
    assert_eq!(path(Dialect::AnthropicMessages, claude), "/anthropic/v1/messages");
    assert_eq!(path(Dialect::OpenAiChat, "openai.gpt-oss-120b"), "/v1/chat/completions");
    assert_eq!(mantle.below("/anthropic/v1/messages"), "/messages");
    assert_eq!(mantle.native_path("/anthropic/v1/messages", None).expect("path"), "/anthropic/v1/messages");
    let usual = provider("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com");
    assert_eq!(usual.speaks(Dialect::AnthropicMessages, claude), Dialect::BedrockConverse);
}

#[test]
fn googles_files_are_sent_and_fetched_beside_its_api() {
    let google = provider("gemini", "https://api.example/proxy/v1beta");
    let native = |rest| google.native_path(rest, None).expect("path").to_string();
    for rest in ["/v1beta/files/x", "/files/x", "/v1/files/x", "/proxy/v1beta/files/x"] {
        assert_eq!((native(rest).as_str(), google.below(rest)), ("/proxy/v1beta/files/x", "/files/x"), "{rest}");
    }
    assert_eq!(native("/upload/v1beta/files"), "/proxy/upload/v1beta/files");
    assert_eq!(google.below("/upload/v1beta/files"), "/files");
    assert_eq!(native("/download/v1beta/files/x:download"), "/proxy/download/v1beta/files/x:download");
    assert_eq!(provider("openai", "https://api.example/v1").below("/upload/v1/files"), "/upload/v1/files");
}

proptest! {
    #[test]
    fn any_native_path_stays_below_the_base(rest in "/[a-zA-Z0-9/._~%-]{0,40}") {
        let openai = provider("openai", "https://api.example/v1");
        if let Some(path) = openai.native_path(&rest, None) {
            prop_assert!(path.as_str().starts_with("/v1/"));
        }
    }
}

//! Members that only one provider of OpenAI's dialect knows go there as they came: a table by kind, from each one's documentation.
//! And those among them that would get around a bound, or name a place, do not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use llm::passthrough::{CapName, Edits, peek, splice};
use llm::{Dialect, Limits, RequestError};

/// By kind of provider, and where they are documented.
const OWN: &[(&str, &str, &str)] = &[
    (
        "openai",
        "platform.openai.com/docs/api-reference/chat/create",
        r#""store":false,"metadata":{"a":"b"},"service_tier":"flex","prediction":{"type":"content","content":"x"},"safety_identifier":"s","prompt_cache_key":"k","prompt_cache_retention":"24h","verbosity":"low","modalities":["text","audio"],"audio":{"voice":"alloy","format":"wav"},"logit_bias":{"50256":-100}"#,
    ),
    (
        "azure",
        "learn.microsoft.com/azure/ai-foundry/openai/reference",
        r#""data_sources":[{"type":"azure_search","parameters":{"authentication":{"type":"api_key","key":"k"}}}],"user_security_context":{"application_name":"a"}"#,
    ),
    (
        "mistral",
        "docs.mistral.ai/api",
        r#""safe_prompt":true,"random_seed":7,"prompt_mode":"reasoning","document_image_limit":8,"document_page_limit":64,"prediction":{"type":"content","content":""}"#,
    ),
    (
        "groq",
        "console.groq.com/docs/api-reference",
        r#""include_reasoning":true,"reasoning_format":"parsed","service_tier":"on_demand","citation_options":"enabled","documents":[],"search_settings":{"country":"de"},"compound_custom":{"models":null},"disable_tool_validation":false"#,
    ),
    ("deepseek", "api-docs.deepseek.com/api/create-chat-completion", r#""thinking":{"type":"enabled"}"#),
    (
        "xai",
        "docs.x.ai/docs/api-reference",
        r#""deferred":false,"reasoning_effort":"low","search_parameters":{"mode":"auto"}"#,
    ),
    (
        "together",
        "docs.together.ai/reference/chat-completions-1",
        r#""repetition_penalty":1.1,"min_p":0.1,"top_k":40,"safety_model":"m","echo":false,"context_length_exceeded_behavior":"error","chat_template_kwargs":{"thinking":true},"compliance":"hipaa""#,
    ),
    (
        "fireworks",
        "docs.fireworks.ai/api-reference/post-chatcompletions",
        r#""top_k":40,"min_p":0.05,"typical_p":0.9,"repetition_penalty":1.0,"mirostat_target":1.5,"mirostat_lr":0.1,"ignore_eos":false,"prompt_truncate_len":1500,"context_length_exceeded_behavior":"truncate","raw_output":false,"perf_metrics_in_response":true,"speculation":"x","reasoning_history":"preserved""#,
    ),
    (
        "openrouter",
        "openrouter.ai/docs/api-reference/parameters",
        r#""provider":{"order":["anthropic"],"allow_fallbacks":false},"transforms":["middle-out"],"usage":{"include":true},"reasoning":{"effort":"low"},"top_a":0.1,"min_p":0.1,"structured_outputs":true,"session_id":"s""#,
    ),
    (
        "perplexity",
        "docs.perplexity.ai/api-reference",
        r#""search_mode":"academic","search_domain_filter":["nasa.gov"],"search_recency_filter":"week","return_images":true,"return_related_questions":true,"last_updated_after_filter":"3/1/2025","disable_search":false,"enable_search_classifier":true,"media_response":{"overrides":{}}"#,
    ),
    (
        "cerebras",
        "inference-docs.cerebras.ai/api-reference/chat-completions",
        r#""disable_reasoning":true,"clear_thinking":false,"service_tier":"auto","queue_threshold":100,"prediction":{"type":"content","content":"x"}"#,
    ),
    (
        "huggingface",
        "huggingface.co/docs/inference-providers/tasks/chat-completion",
        r#""tool_prompt":"x","logit_bias":[],"seed":1"#,
    ),
    (
        "vllm",
        "docs.vllm.ai, OpenAI-compatible server",
        r#""top_k":20,"min_p":0.0,"repetition_penalty":1.0,"length_penalty":1.0,"stop_token_ids":[1],"include_stop_str_in_output":false,"ignore_eos":false,"min_tokens":0,"skip_special_tokens":true,"allowed_token_ids":[1,2],"bad_words":["x"],"add_generation_prompt":true,"continue_final_message":false,"chat_template_kwargs":{"enable_thinking":false},"mm_processor_kwargs":{},"structured_outputs":{"choice":["a"]},"priority":0,"return_token_ids":false,"cache_salt":"s""#,
    ),
    (
        "llamacpp",
        "tools/server/README.md of llama.cpp",
        r#""grammar":"root ::= \"a\"","json_schema":{},"cache_prompt":true,"samplers":["top_k"],"mirostat":0,"dry_multiplier":0.0,"xtc_probability":0.0,"dynatemp_range":0.0,"timings_per_token":true,"return_tokens":false,"reasoning_format":"auto","n_probs":0,"t_max_predict_ms":0"#,
    ),
    ("ollama", "docs.ollama.com/api/openai-compatibility", r#""reasoning_effort":"none","keep_alive":"5m""#),
    (
        "llmgateway",
        "docs.llmgateway.io",
        r#""free_models_only":false,"no_reasoning":true,"image_config":{"aspect_ratio":"1:1"}"#,
    ),
];

fn raw(text: &str) -> serde_json::Map<String, serde_json::Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_kinds_own_members_go_there_as_they_came() {
    for (kind, source, own) in OWN {
        let body = format!(r#"{{"model":"alias", "messages" : [{{"role":"user","content":"hi"}}], {own} }}"#);
        let edits = Edits {
            model: Some("theirs"),
            max_output_tokens: Some(9),
            cap_name: CapName::MaxTokens,
            ..Edits::default()
        };
        let sent =
            splice(Dialect::OpenAiChat, body.as_bytes(), &edits).unwrap_or_else(|e| panic!("{kind} ({source}): {e}"));
        let sent = String::from_utf8(sent).unwrap();
        assert!(sent.contains(own), "{kind} ({source}): byte for byte: {sent}");
        let told = raw(&sent);
        assert_eq!((&told["model"], &told["max_tokens"]), (&"theirs".into(), &9.into()), "{kind}");
        let asked = raw(&body);
        let same = asked.iter().filter(|(name, _)| *name != "model").all(|(name, value)| told.get(name) == Some(value));
        assert!(same && told.len() == asked.len() + 1, "{kind}: nothing lost and nothing else added");
    }
}

#[test]
fn models_that_a_member_names_are_asked_for_too() {
    let body = br#"{"model":"groq/compound","messages":[],
        "compound_custom":{"models":{"answering_model":"a","reasoning_model":"b"},"tools":{"enabled_tools":["web_search"]}}}"#;
    let seen = peek(Dialect::OpenAiChat, body, &Limits::REQUEST).unwrap();
    assert_eq!((seen.other_models, seen.has_tools), (vec!["a".to_owned(), "b".to_owned()], true));
}

#[test]
fn what_gets_around_a_bound_or_names_a_place_is_refused_by_name() {
    for (member, value) in
        [("n_predict", "-1"), ("max_new_tokens", "100000"), ("kv_transfer_params", r#"{"remote_host":"10.0.0.1"}"#)]
    {
        let body = format!(r#"{{"model":"m","messages":[],"max_tokens":5,"{member}":{value}}}"#);
        let refused = peek(Dialect::OpenAiChat, body.as_bytes(), &Limits::REQUEST);
        assert!(
            matches!(&refused, Err(RequestError::Forbidden { param, .. }) if param == member),
            "{member}: {refused:?}"
        );
    }
    let answers = |more: &str| {
        let body = format!(r#"{{"model":"m","messages":[]{more}}}"#);
        peek(Dialect::OpenAiChat, body.as_bytes(), &Limits::REQUEST).unwrap().answers
    };
    assert_eq!((answers(""), answers(r#","n":3"#)), (1, 3));
    assert_eq!((answers(r#","best_of":9,"n":3"#), answers(r#","n":3,"best_of":9"#)), (9, 9));
}

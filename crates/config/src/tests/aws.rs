//! What a provider of kind `bedrock` says of AWS.

use super::{bad, brief, good, only};

fn bedrock(more: &str) -> String {
    format!("[[provider]]\nname = \"b\"\nkind = \"bedrock\"\n{more}\n")
}

const KEYS: &str = "access_key_id = \"AKIDEXAMPLE\"\nsecret_access_key = { env = \"S\" }";

#[test]
fn bedrock_is_addressed_by_its_region() {
    let base = |more: &str| good(&bedrock(more)).providers[0].base().expect("a base").into_owned();
    let key = "api_key = { env = \"K\" }";
    assert_eq!(
        base(&format!("region = \"eu-central-1\"\n{key}")),
        "https://bedrock-runtime.eu-central-1.amazonaws.com"
    );
    assert_eq!(base(&format!("region = \"cn-north-1\"\n{key}")), "https://bedrock-runtime.cn-north-1.amazonaws.com.cn");
    for end in ["", "/", "/openai/v1", "/v1/"] {
        let url = format!("base_url = \"https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com{end}\"\n{key}");
        assert_eq!(base(&url), "https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", "{end}");
    }
}

#[test]
fn requests_are_signed_or_sent_with_a_key_and_what_that_takes_is_there() {
    let config = good(&bedrock(&format!("region = \"us-east-1\"\n{KEYS}\nsession_token = {{ env = \"T\" }}")));
    let secrets: Vec<String> = config.providers[0].secrets().map(|(key, _)| key).collect();
    assert_eq!(secrets, ["secret_access_key", "session_token"]);
    let region = "region = \"us-east-1\"\n";
    for (more, faults) in [
        (String::new(), ["1:1 missing_key provider[0]", "1:1 missing_key provider[0]"].as_slice()),
        (region.to_owned(), &["1:1 missing_key provider[0]"]),
        (KEYS.to_owned(), &["1:1 missing_key provider[0]"]),
        ("api_key = { env = \"K\" }".to_owned(), &["1:1 missing_key provider[0]"]),
        (format!("{region}access_key_id = \"AKID\""), &["1:1 missing_key provider[0]", "1:1 missing_key provider[0]"]),
        (format!("{region}secret_access_key = {{ env = \"S\" }}"), &["1:1 missing_key provider[0]"]),
        (format!("{region}{KEYS}\napi_key = {{ env = \"K\" }}"), &["7:11 conflict provider[0].api_key"]),
        (
            format!("{region}api_key = {{ env = \"K\" }}\nsession_token = {{ env = \"T\" }}"),
            &["6:17 conflict provider[0].session_token"],
        ),
        (format!("region = \"US\"\n{KEYS}"), &["4:10 bad_value provider[0].region"]),
    ] {
        let found: Vec<String> = bad(&bedrock(&more)).iter().map(brief).collect();
        assert_eq!(found, faults, "{more}");
    }
}

#[test]
fn keys_of_awss_are_no_others() {
    for (key, at) in [
        ("region = \"us-east-1\"", "5:10 conflict provider[0].region"),
        ("access_key_id = \"A\"", "5:17 conflict provider[0].access_key_id"),
    ] {
        let other = format!("[[provider]]\nname = \"p\"\nkind = \"openai\"\napi_key = {{ env = \"K\" }}\n{key}\n");
        assert_eq!(only(&other), at);
    }
    let literal =
        bad(&bedrock("region = \"us-east-1\"\naccess_key_id = \"AKID\"\nsecret_access_key = \"not-a-reference\""));
    assert!(literal.iter().any(|fault| fault.path == "provider[0].secret_access_key"), "{literal:?}");
}

//! What a provider says of a cloud, and the fields sent with every request.

use super::{bad, brief, good, only};

fn azure(more: &str) -> String {
    format!(
        "[[provider]]\nname = \"p\"\nkind = \"azure\"\napi_key = {{ env = \"K\" }}\n\
         base_url = \"https://name.openai.azure.com\"\n{more}\n"
    )
}

#[test]
fn azure_is_addressed_by_its_resource_however_the_address_is_written() {
    for end in ["", "/", "/openai", "/openai/v1", "/openai/v1/"] {
        let config = good(&azure("").replace(".com\"", &format!(".com{end}\"")));
        assert_eq!(config.providers[0].base().as_deref(), Some("https://name.openai.azure.com"), "{end}");
    }
    let foundry = good(&azure("").replace("name.openai.azure.com", "name.services.ai.azure.com/models"));
    assert_eq!(foundry.providers[0].base().as_deref(), Some("https://name.services.ai.azure.com/models"));
    good(&azure("deployment = \"prod-4o\"\napi_version = \"2024-10-21\""));
    assert_eq!(
        only(&azure("").replace("base_url = \"https://name.openai.azure.com\"", "")),
        "1:1 missing_key provider[0]"
    );
    assert_eq!(only(&azure("").replace("api_key = { env = \"K\" }", "")), "1:1 missing_key provider[0]");
}

#[test]
fn what_stands_in_a_path_is_one_segment() {
    for name in ["a/b", "..", ".", "", "a b", "a?b", "a#b", "%2e", "ü"] {
        let found = bad(&azure(&format!("deployment = \"{name}\"")));
        assert_eq!(brief(&found[0]), "6:14 bad_value provider[0].deployment", "{name}");
        assert_eq!(
            only(&azure(&format!("api_version = \"{name}\""))),
            "6:15 bad_value provider[0].api_version",
            "{name}"
        );
    }
}

#[test]
fn keys_of_one_cloud_are_no_keys_of_another() {
    let openai =
        |more: &str| format!("[[provider]]\nname = \"p\"\nkind = \"openai\"\napi_key = {{ env = \"K\" }}\n{more}\n");
    assert_eq!(only(&openai("deployment = \"d\"")), "5:14 conflict provider[0].deployment");
    assert_eq!(only(&openai("project = \"d\"")), "5:11 conflict provider[0].project");
    assert_eq!(only(&openai("token_url = \"https://x.example/t\"")), "5:13 conflict provider[0].token_url");
    assert_eq!(only(&azure("location = \"global\"")), "6:12 conflict provider[0].location");
}

fn vertex(more: &str) -> String {
    format!("[[provider]]\nname = \"p\"\nkind = \"vertex\"\napi_key = {{ file = \"account.json\" }}\n{more}\n")
}

#[test]
fn vertex_is_addressed_by_its_location_and_needs_a_project() {
    for (more, base) in [
        ("", "https://aiplatform.googleapis.com"),
        ("location = \"global\"", "https://aiplatform.googleapis.com"),
        ("location = \"us-central1\"", "https://us-central1-aiplatform.googleapis.com"),
        ("location = \"eu\"", "https://aiplatform.eu.rep.googleapis.com"),
        ("base_url = \"https://proxy.example/v1/\"", "https://proxy.example/v1"),
    ] {
        let config = good(&vertex(&format!("project = \"my-project\"\n{more}")));
        assert_eq!(config.providers[0].base().as_deref(), Some(base), "{more}");
        assert_eq!(config.providers[0].token_endpoint().as_deref(), Some("https://oauth2.googleapis.com/token"));
    }
    assert_eq!(only(&vertex("")), "1:1 missing_key provider[0]");
    assert_eq!(only(&vertex("location = \"global\"")), "1:1 missing_key provider[0]");
    assert_eq!(
        only(&vertex("project = \"p\"\nlocation = \"evil.example:8443\"")),
        "6:12 bad_value provider[0].location"
    );
    assert_eq!(only(&vertex("project = \"p\"\nlocation = \"US\"")), "6:12 bad_value provider[0].location");
    let express = good(&vertex("express = true"));
    assert_eq!(express.providers[0].token_endpoint(), None);
    assert_eq!(only(&vertex("express = true\nproject = \"p\"")), "6:11 conflict provider[0].project");
    let keyless = vertex("project = \"p\"").replace("api_key = { file = \"account.json\" }\n", "");
    assert_eq!(only(&keyless), "1:1 missing_key provider[0]");
}

#[test]
fn tokens_are_asked_for_where_keys_may_go() {
    let entra = "entra = { tenant = \"contoso.example\", client_id = \"c-1\" }";
    let config = good(&azure(entra));
    let expected = "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token";
    assert_eq!(config.providers[0].token_endpoint().as_deref(), Some(expected));
    good(&azure(&format!("{entra}\ntoken_url = \"https://login.microsoftonline.us/t/oauth2/v2.0/token\"")));
    for url in ["https://evil.example/token", "https://login.microsoftonline.com.evil.example/t"] {
        let text = azure(&format!("{entra}\ntoken_url = \"{url}\""));
        assert_eq!(only(&text), "7:13 bad_value provider[0].token_url", "{url}");
    }
    assert_eq!(
        only(&azure("entra = { tenant = \"../x\", client_id = \"c\" }")),
        "6:20 bad_value provider[0].entra.tenant"
    );
    assert_eq!(
        only(&vertex("project = \"p\"\ntoken_url = \"http://127.0.0.1:1/t\"")),
        "6:13 bad_value provider[0].token_url"
    );
    good(&vertex("project = \"p\"\nallow_private = true\ntoken_url = \"http://127.0.0.1:1/t\""));
}

#[test]
fn header_fields_are_texts_or_references_and_none_of_the_connections() {
    let portkey = |fields: &str| {
        format!(
            "[[provider]]\nname = \"p\"\nkind = \"portkey\"\napi_key = {{ env = \"K\" }}\nheaders = {{ {fields} }}\n"
        )
    };
    let config = good(&portkey(
        "\"x-portkey-provider\" = \"openai\", \"x-portkey-virtual-key\" = { env = \"V\" }, x-portkey-config = \"pc-1\"",
    ));
    let provider = &config.providers[0];
    let secrets: Vec<String> = provider.secrets().map(|(key, _)| key).collect();
    assert_eq!(secrets, ["api_key", "headers.x-portkey-virtual-key"]);
    for (field, expected) in [
        ("authorization = \"x\"", "bad_value provider[0].headers.authorization"),
        ("Cookie = \"x\"", "bad_value provider[0].headers.Cookie"),
        ("content-length = \"1\"", "bad_value provider[0].headers.content-length"),
        ("content-encoding = \"gzip\"", "bad_value provider[0].headers.content-encoding"),
        ("Host = \"x\"", "bad_value provider[0].headers.Host"),
        ("transfer-encoding = \"chunked\"", "bad_value provider[0].headers.transfer-encoding"),
        ("\"x y\" = \"x\"", "bad_value provider[0].headers.\"x y\""),
        ("x = \"a\\r\\nb: c\"", "bad_value provider[0].headers.x"),
        ("x = \"\"", "bad_value provider[0].headers.x"),
        ("x-a = \"1\", X-A = \"2\"", "bad_value provider[0].headers.x-a"),
        ("x-portkey-virtual-key = \"plain\"", "secret_literal provider[0].headers.x-portkey-virtual-key"),
        ("x = 3", "wrong_type provider[0].headers.x"),
        ("x = { nowhere = \"y\" }", "unknown_key provider[0].headers.x"),
    ] {
        let faults = bad(&portkey(field));
        assert!(
            faults.iter().any(|fault| format!("{} {}", fault.code, fault.path) == expected),
            "{field}: {faults:#?}"
        );
        assert!(faults.iter().all(|fault| fault.line == 5), "{field}: {faults:#?}");
    }
}

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

//! Each kind of fault, where it stands and what it says.

use super::{bad, brief, good, only};
use crate::Code;

#[test]
fn every_fault_is_reported_at_once_in_the_order_of_the_text() {
    let text = r#"
[server]
listn = "127.0.0.1:8080"
data_dir = 5

[limits]
body = "ten"

[[provider]]
name = "openai"
kind = "opnai"
api_key = "sk-not-a-real-key"

[[provider]]
name = "openai"
kind = "anthropic"
api_key = { env = "ANTHROPIC_API_KEY" }

[[model]]
name = "fast"
strategy = "cheapest"
targets = [{ provider = "opena", model = "m" }]
caching = { ttl = "10m" }

[[policy]]
name = "p"
may = { models = ["fsat"] }
guard = []
"#;
    let found: Vec<String> = bad(text).iter().map(brief).collect();
    assert_eq!(
        found,
        [
            "3:1 unknown_key server.listn",
            "4:12 wrong_type server.data_dir",
            "7:8 bad_value limits.body",
            "11:8 bad_value provider[0].kind",
            "12:11 secret_literal provider[0].api_key",
            "15:8 duplicate_name provider[1].name",
            "21:12 bad_value model[0].strategy",
            "22:25 unknown_reference model[0].targets[0].provider",
            "23:1 unknown_key model[0].caching",
            "27:19 unknown_reference policy[0].may.models[0]",
            "28:1 not_built policy[0].guard",
        ]
    );
    let hints: Vec<Option<String>> = bad(text).into_iter().map(|fault| fault.hint).collect();
    assert_eq!(hints[0].as_deref(), Some("did you mean listen?"));
    assert_eq!(hints[3].as_deref(), Some("did you mean \"openai\"?"));
    assert_eq!(hints[9].as_deref(), Some("did you mean \"fast\"?"));
}

#[test]
fn a_dangling_reference_is_found_where_it_stands() {
    let text = "[[model]]\nname = \"fast\"\ntargets = [{ provider = \"opena\", model = \"m\" }]\n";
    assert_eq!(only(text), "3:25 unknown_reference model[0].targets[0].provider");
}

#[test]
fn a_name_taken_twice_names_both_places() {
    let text = "[[client]]\nname = \"a\"\n\n[[client]]\nname = \"b\"\n\n[[client]]\nname = \"a\"\n";
    assert_eq!(only(text), "8:8 duplicate_name client[2].name");
    assert_eq!(bad(text)[0].message, "a second client called \"a\": see client[0].name at line 2");
}

#[test]
fn a_secret_written_out_is_refused_and_not_repeated() {
    let provider = |key: &str| format!("[[provider]]\nname = \"p\"\nkind = \"openai\"\napi_key = {key}\n");
    for key in [
        "\"sk-canary-0001\"",
        "{ env = \"sk-canary-0001\" }",
        "{ value = \"sk-canary-0001\" }",
        "{ env = \"A\", value = \"sk-canary-0001\" }",
        "[\"sk-canary-0001\"]",
        "{ secret = \"sk canary-0001\" }",
    ] {
        let faults = bad(&provider(key));
        assert_eq!(faults.len(), 1, "{key}: {faults:?}");
        assert_eq!((faults[0].line, faults[0].path.starts_with("provider[0].api_key")), (4, true), "{faults:?}");
        assert!(!format!("{faults:?}").contains("canary"), "{faults:?}");
    }
    assert_eq!(bad(&provider("\"sk-canary-0001\""))[0].code, Code::SecretLiteral.as_str());
    let toml = "[[provider]]\nname = \"p\"\nkind = \"openai\"\napi_key = sk-canary-0001\n";
    assert!(!format!("{:?}", bad(toml)).contains("canary"), "{:?}", bad(toml));
}

#[test]
fn errors_of_syntax_do_not_hide_other_faults_nor_invent_them() {
    let faults: Vec<String> = bad("[server]\nlisten = \nlistn = 1\n[limits]\nbody = 5\n").iter().map(brief).collect();
    assert_eq!(faults, ["2:10 syntax ", "3:1 unknown_key server.listn", "5:8 wrong_type limits.body"]);
    let faults: Vec<String> = bad("[cors]\noriginz = []\norigins = [\"https://a.example\"\n[log]\nlevel = \"info\"\n")
        .iter()
        .map(brief)
        .collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(faults[0], "2:1 unknown_key cors.originz");
    assert!(faults[1].contains("syntax"), "{faults:?}");
    assert_eq!(only("[log]\nlevel = \"info\"\nlevel = \"warn\"\n"), "3:1 syntax ");
    assert_eq!(only("[log]\n[log]\n"), "2:2 syntax ");
}

#[test]
fn what_later_versions_will_have_is_refused_by_name() {
    for (text, place) in [
        ("[[guard]]\n", "guard"),
        ("[[policy]]\nname = \"p\"\nmay = { models = \"*\" }\nguard = [\"pii\"]\n", "policy[0].guard"),
    ] {
        let faults = bad(text);
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert_eq!((faults[0].code, faults[0].path.as_str()), ("not_built", place), "{text}");
    }
}

#[test]
fn a_table_written_as_a_list_and_the_reverse_are_told_apart() {
    let fault = &bad("[provider]\nname = \"p\"\n")[0];
    assert_eq!((fault.code, fault.hint.as_deref()), ("wrong_type", Some("write [[provider]], with two brackets")));
    let fault = &bad("[[server]]\n")[0];
    assert_eq!((fault.code, fault.hint.as_deref()), ("wrong_type", Some("write [server], with one bracket")));
}

#[test]
fn a_missing_key_comes_with_an_example() {
    let faults = bad("[[policy]]\n");
    let all: Vec<String> = faults.iter().map(brief).collect();
    assert_eq!(all, ["1:1 missing_key policy[0]", "1:1 missing_key policy[0]"]);
    assert_eq!(faults[0].hint.as_deref(), Some("for example name = \"openai\""));
}

#[test]
fn destinations_are_public_https_unless_asked_for() {
    let provider = |url: &str, private: bool| {
        format!(
            "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{url}\"\nallow_private = {private}\n"
        )
    };
    for url in ["https://api.example.com/v1", "https://203.0.113.5"] {
        good(&provider(url, false));
    }
    for url in [
        "http://api.example.com",
        "http://127.0.0.1:11434/v1",
        "https://localhost",
        "https://10.1.2.3",
        "https://192.168.0.1",
        "https://172.16.0.9",
        "https://169.254.169.254",
        "https://100.64.0.1",
        "https://0.0.0.0",
        "https://[::1]",
        "https://[fd00::1]",
        "https://[fe80::1]",
        "https://[::ffff:10.0.0.1]",
        "https://2130706433",
        "https://0x7f.1",
        "https://127.1",
    ] {
        assert_eq!(only(&provider(url, false)), "4:12 bad_value provider[0].base_url", "{url}");
        good(&provider(url, true));
    }
    for url in
        ["ftp://x", "file:///etc/passwd", "https://u:p@x", "https://x?k=v", "https://x#f", "//x", "https://", "x y"]
    {
        assert_eq!(only(&provider(url, true)), "4:12 bad_value provider[0].base_url", "{url}");
    }
}

#[test]
fn an_issuer_has_one_source_of_keys_and_says_for_whom_its_tokens_are() {
    let issuer = |rest: &str| format!("[[issuer]]\nname = \"i\"\n{rest}\n");
    let full = "issuer = \"https://id.example.com/\"\naudience = [\"a\"]\n";
    good(&issuer(&format!("{full}discovery = true")));
    good(&issuer(&format!("{full}jwks_url = \"https://id.example.com/jwks\"")));
    good(&issuer(&format!("{full}jwks_file = \"jwks.json\"")));
    good(&issuer("hs256_secret = { env = \"JWT_SECRET\" }"));
    let code = |rest: &str| only(&issuer(rest)).split(' ').nth(1).map(str::to_owned).unwrap();
    assert_eq!(code(full), "missing_key");
    assert_eq!(code(&format!("{full}discovery = true\njwks_file = \"x\"")), "conflict");
    assert_eq!(code("issuer = \"https://i.example.com\"\ndiscovery = true"), "missing_key");
    assert_eq!(code("audience = [\"a\"]\njwks_file = \"x\""), "missing_key");
    assert_eq!(code(&format!("{full}discovery = true\nleeway = \"61s\"")), "bad_value");
    assert_eq!(code(&format!("{full}discovery = true\nalgorithms = [\"HS256\"]")), "conflict");
    assert_eq!(code("hs256_secret = { env = \"S\" }\nalgorithms = [\"RS256\"]"), "conflict");
    assert_eq!(code("hs256_secret = { env = \"S\" }\nalgorithms = [\"HS256\", \"HS512\"]"), "bad_value");
    assert_eq!(code(&format!("{full}discovery = true\nalgorithms = [\"none\"]")), "bad_value");
    assert_eq!(code(&format!("{full}discovery = true\ntyp = [\"DPoP+jwt\"]")), "bad_value");
    assert_eq!(code("issuer = \"http://127.0.0.1:9\"\naudience = [\"a\"]\ndiscovery = true"), "bad_value");
    good(&issuer("issuer = \"http://127.0.0.1:9\"\naudience = [\"a\"]\ndiscovery = true\nallow_private = true"));
    assert_eq!(
        only("[[issuer]]\nname = \"vouchgate\"\nhs256_secret = { env = \"S\" }\n"),
        "2:8 bad_value issuer[0].name"
    );
}

#[test]
fn issuers_are_told_apart_by_their_claim() {
    let issuer = |name: &str, rest: &str| format!("[[issuer]]\nname = \"{name}\"\n{rest}\n");
    let same = "issuer = \"https://id.example.com\"\naudience = [\"a\"]\njwks_file = \"x\"";
    let text = issuer("a", same) + &issuer("b", same);
    assert_eq!(only(&text), "8:10 conflict issuer[1].issuer");
    let shared = "hs256_secret = { env = \"S\" }";
    let text = issuer("a", shared) + &issuer("b", shared);
    assert_eq!(only(&text), "6:16 conflict issuer[1].hs256_secret");
}

#[test]
fn paths_belong_to_one_thing() {
    let service = |name: &str, path: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\npath = \"{path}\"\nmodel = \"vouchgate/echo\"\nprompt = \"{{{{input}}}}\"\n"
        )
    };
    let upstream = |name: &str, path: &str| {
        format!("[[upstream]]\nname = \"{name}\"\npath = \"{path}\"\nurl = \"https://x.example\"\n")
    };
    good(&(service("a", "/v1/analyzing") + &upstream("m", "/maps/")));
    assert_eq!(only(&service("a", "/v1/chat/completions")), "3:8 conflict service[0].path");
    assert_eq!(only(&upstream("m", "/v1/")), "3:8 conflict upstream[0].path");
    assert_eq!(only(&upstream("m", "/.well-known/")), "3:8 conflict upstream[0].path");
    assert_eq!(only(&service("a", "/v1/x/")), "3:8 bad_value service[0].path");
    assert_eq!(only(&(service("a", "/maps/x") + &upstream("m", "/maps/"))), "8:8 conflict upstream[0].path");
    assert_eq!(only(&(service("a", "/x") + &service("b", "/x"))), "8:8 conflict service[1].path");
    for odd in ["x", "//x", "/x//y", "/x/../y", "/x/./y", "/%78", "/x?y", "/x;y", "/x\\\\y", "/", "/x y"] {
        assert_eq!(only(&service("a", odd)), "3:8 bad_value service[0].path", "{odd}");
    }
}

#[test]
fn a_prompt_and_its_variables_agree() {
    let service = |prompt: &str, variables: &str| {
        format!(
            "[[service]]\nname = \"a\"\npath = \"/x\"\nmodel = \"vouchgate/echo\"\nprompt = \"{prompt}\"\n{variables}\n"
        )
    };
    good(&service("{{input}} {{n}}", "variables = { n = { type = \"number\", default = 3 } }"));
    assert_eq!(only(&service("{{input", "")), "5:10 bad_value service[0].prompt");
    assert_eq!(only(&service("{{in put}}", "")), "5:10 bad_value service[0].prompt");
    assert_eq!(only(&service("x", "variables = { n = {} }")), "6:15 unknown_reference service[0].variables.n");
    assert_eq!(
        only(&service("{{n}}", "variables = { n = { type = \"number\", default = \"3\" } }")),
        "6:48 wrong_type service[0].variables.n.default"
    );
    assert_eq!(
        only(&service("{{n}}", "variables = { n = { typ = \"number\" } }")),
        "6:21 unknown_key service[0].variables.n.typ"
    );
}

#[test]
fn a_policy_names_what_there_is_and_allows_something() {
    let policy = |rest: &str| format!("[[policy]]\nname = \"p\"\n{rest}\n");
    good(&policy("who = { issuer = \"vouchgate\", client = \"any\" }\nmay = { models = \"*\" }"));
    assert_eq!(only(&policy("may = {}")), "3:7 missing_key policy[0].may");
    assert_eq!(
        only(&policy("who = { issuer = \"corp\" }\nmay = { models = \"*\" }")),
        "3:18 unknown_reference policy[0].who.issuer[0]"
    );
    assert_eq!(
        only(&policy("may = { models = [\"a*\", \"gpt-5\"] }")),
        "3:25 unknown_reference policy[0].may.models[1]"
    );
    assert_eq!(only(&policy("may = { services = [\"s\"] }")), "3:21 unknown_reference policy[0].may.services[0]");
    assert_eq!(
        only(&policy("who = { ip = \"10.0.0.1/8\" }\nmay = { models = \"*\" }")),
        "3:14 bad_value policy[0].who.ip"
    );
    assert_eq!(
        only(&policy("who = { time = \"mon-fri\" }\nmay = { models = \"*\" }")),
        "3:16 bad_value policy[0].who.time"
    );
    assert_eq!(
        only(&policy("who = { scope = \"a b\" }\nmay = { models = \"*\" }")),
        "3:17 bad_value policy[0].who.scope"
    );
    assert_eq!(only(&policy("may = { models = \"gpt-?\" }")), "3:18 bad_value policy[0].may.models");
    assert_eq!(only(&policy("may = { models = \"*\", tools = \"no\" }")), "3:31 wrong_type policy[0].may.tools");
    assert_eq!(only(&policy("may = { models = [] }")), "3:18 bad_value policy[0].may.models");
    let rate = |rate: &str| only(&policy(&format!("may = {{ models = \"*\" }}\nrate = [{rate}]")));
    assert_eq!(rate("{ requests = 60, per = \"subject\" }"), "4:9 missing_key policy[0].rate[0]");
    assert_eq!(rate("{ concurrent = 0, per = \"subject\" }"), "4:24 bad_value policy[0].rate[0].concurrent");
    assert_eq!(rate("{ concurrent = 1, per = \"user\" }"), "4:33 bad_value policy[0].rate[0].per");
    assert_eq!(rate("{ concurrent = 1, per = \"key\" }"), "4:33 conflict policy[0].rate[0].per");
    assert_eq!(rate("{ requests = 1, per = \"ip\", window = \"0s\" }"), "4:46 bad_value policy[0].rate[0].window");
}

#[test]
fn plain_http_is_for_loopback_unless_said_otherwise() {
    good("[server]\nlisten = \"[::1]:8080\"\nexternal_url = \"http://localhost:8080\"\n");
    assert_eq!(only("[server]\nlisten = \"0.0.0.0:8080\"\n"), "2:10 conflict server.listen");
    assert_eq!(only("[server]\nadmin_listen = \"10.0.0.1:8081\"\n"), "2:16 conflict server.admin_listen");
    good("[server]\nlisten = \"0.0.0.0:8080\"\ntls = { cert = \"c\", key = \"k\" }\n");
    good("[server]\nlisten = \"0.0.0.0:8080\"\nplain_http = true\n");
    assert_eq!(only("[server]\nlisten = \":8080\"\n"), "2:10 bad_value server.listen");
    assert_eq!(only("[server]\nadmin_listen = \"127.0.0.1:8080\"\n"), "2:16 conflict server.admin_listen");
    for url in ["http://ai.example.com", "https://ai.example.com/", "https://ai.example.com/x", "ai.example.com"] {
        assert_eq!(
            only(&format!("[server]\nexternal_url = \"{url}\"\n")),
            "2:16 bad_value server.external_url",
            "{url}"
        );
    }
}

#[test]
fn limits_have_limits() {
    assert_eq!(
        only("[limits]\nheader_bytes = \"4KiB\"\nuri = \"4KiB\"\ntoken = \"4KiB\"\n"),
        "2:16 bad_value limits.header_bytes"
    );
    assert_eq!(only("[limits]\nbody_idle = \"0s\"\n"), "2:13 bad_value limits.body_idle");
    assert_eq!(only("[limits]\nheaders = 5\n"), "2:11 bad_value limits.headers");
    assert_eq!(only("[limits]\nheaders = 99999999999999999999\n"), "2:11 wrong_type limits.headers");
    assert_eq!(only("[limits]\nbody = 10\n"), "2:8 wrong_type limits.body");
    good("[limits]\nconnections_per_address = 100\nbody = \"10MiB\"\n");
}

#[test]
fn web_origins_are_exact() {
    good("[cors]\norigins = [\"https://app.example.com\", \"http://localhost:3000\"]\n");
    for origin in
        ["*", "null", "https://app.example.com/", "https://App.example.com", "https://a.example:443", "a.example"]
    {
        assert_eq!(only(&format!("[cors]\norigins = [\"{origin}\"]\n")), "2:12 bad_value cors.origins[0]", "{origin}");
    }
}

#[test]
fn the_text_has_a_longest_length_and_a_deepest_nesting() {
    let faults = bad(&"#".repeat(crate::MAX_TEXT + 1));
    assert_eq!(faults[0].code, "too_large");
    assert!(!bad(&format!("a = {}1{}", "[".repeat(10_000), "]".repeat(10_000))).is_empty());
    assert!(!bad(&format!("a = {}1{}", "{ b = ".repeat(10_000), "}".repeat(10_000))).is_empty());
    assert!(!bad(&format!("{} = 1", vec!["a"; 10_000].join("."))).is_empty());
}

#[test]
fn there_are_at_most_so_many_faults() {
    let text: String = (0..5000).map(|_| "[[client]]\nx = 1\n").collect();
    assert_eq!(bad(&text).len(), 500);
    let text: String = (0..5000).map(|_| "= 1\n").collect();
    assert!(bad(&text).len() <= 200);
}

#[test]
fn a_fault_prints_as_a_place_a_message_and_a_hint() {
    let fault = &bad("[log]\nlevl = \"info\"\n")[0];
    assert_eq!(fault.to_string(), "2:1: log.levl: there is no key \"levl\" here (did you mean level?)");
}

#[test]
fn a_resource_from_the_admin_api_has_the_same_faults_without_lines() {
    let json = serde_json::json!({"name": "p", "kind": "openai", "api_key": "sk-canary", "colour": 1});
    let faults = crate::read::<crate::Provider>(&json).unwrap_err();
    let all: Vec<String> = faults.iter().map(brief).collect();
    assert_eq!(all, ["0:0 secret_literal api_key", "0:0 unknown_key colour"]);
    let json = serde_json::json!({"name": "p", "kind": "openai", "api_key": {"env": "K"}, "base_url": null});
    assert!(crate::read::<crate::Provider>(&json).is_ok());
    let faults = crate::read::<crate::Provider>(&serde_json::json!([])).unwrap_err();
    assert_eq!(brief(&faults[0]), "0:0 wrong_type ");
}

#[test]
fn a_merged_set_is_checked_without_lines() {
    let mut config = good("[[provider]]\nname = \"p\"\nkind = \"ollama\"\n");
    config.providers.push(config.providers[0].clone());
    let faults = config.check();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].to_string(), "provider[1].name: a second provider called \"p\": see provider[0].name");
    assert!(good(super::FULL).check().is_empty());
}

#[test]
fn a_store_on_a_server_is_read_and_its_password_not_shown() {
    use crate::{StoreAddress, StoreUrl};
    let config = good("[store]\nurl = \"postgres://vouchgate:hunter2@db.example.com/vouchgate\"\n");
    let StoreAddress::Written(StoreUrl::Postgres(url)) = &config.store.url else { panic!("{:?}", config.store) };
    assert!(url.has_password() && url.expose().contains("hunter2"));
    for shown in [format!("{config:?}"), url.to_string(), serde_json::to_string(&config.store).unwrap()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let config = good("[store]\nurl = { env = \"DATABASE_URL\" }\n");
    assert!(matches!(config.store.url, StoreAddress::Referred(_)));
    let config = good("[store]\nurl = \"postgres://u@db/v\"\nshared = \"rediss://:hunter2@cache.example.com/1\"\n");
    assert!(config.store.shared.is_some() && !format!("{config:?}").contains("hunter2"));
    for (text, code) in [
        ("shared = \"redis://127.0.0.1\"", "conflict"),
        ("url = \"postgres://u@h/d\"\nshared = \"http://127.0.0.1\"", "bad_value"),
        ("url = \"postgres://u@h/d\"\nshared = { secret = \"x\" }", "conflict"),
        ("url = { secret = \"db\" }", "conflict"),
        ("url = \"mysql://u@h/d\"", "bad_value"),
        ("url = \"postgres://u:hunter2@h:port/d\"", "bad_value"),
        ("url = 5", "wrong_type"),
    ] {
        let faults = bad(&format!("[store]\n{text}\n"));
        assert_eq!((faults.len(), faults[0].code), (1, code), "{text}: {faults:?}");
        assert!(!format!("{faults:?}").contains("hunter2"));
    }
}

//! Who gets in, who does not, and what is said about it.

use base::{Name, Timestamp};
use config::{AttestationLevel, Bound, Config};
use proptest::prelude::*;

use crate::{Ask, Attested, Caller, Denial, Policies, PolicyFault, Proven, Target, Tools, World, compile};

const PRELUDE: &str = r#"
[[issuer]]
name = "corp"
hs256_secret = { env = "S" }
[[provider]]
name = "openai"
kind = "openai"
api_key = { env = "K" }
[[provider]]
name = "groq"
kind = "groq"
api_key = { env = "K" }
[[provider]]
name = "anthropic"
kind = "anthropic"
api_key = { env = "K" }
[[model]]
name = "fast"
targets = [{ provider = "openai", model = "m" }]
[[model]]
name = "claude-fast"
targets = [{ provider = "anthropic", model = "m" }]
[[service]]
name = "analyzing"
path = "/v1/analyzing"
model = "fast"
prompt = "{{input}}"
[[upstream]]
name = "maps"
path = "/maps/"
url = "https://maps.example.com/"
"#;

fn config(policies: &str) -> Config {
    config::parse(&format!("{PRELUDE}{policies}")).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn policies(text: &str) -> Policies {
    let config = config(text);
    compile(&config.policies, &World::of(&config)).unwrap()
}

/// 2026-11-18, a Wednesday, at noon UTC.
const NOON: Timestamp = Timestamp::from_secs(1_795_003_200);

fn caller() -> Caller<'static> {
    Caller {
        issuer: "corp",
        client: Some("web"),
        subject: "alice",
        scopes: &[],
        groups: &[],
        key: None,
        ip: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3)),
        bound: Proven::NONE,
        attested: None,
    }
}

fn model(name: &str) -> Ask<'_> {
    Ask::new(Target::Model(name), NOON)
}

fn native<'a>(name: &'a str, method: &'a str, path: &'a str) -> Ask<'a> {
    Ask::new(Target::Provider { name, method, path, model: None }, NOON)
}

/// The policy that gives leave, or the code of the denial.
fn outcome(policies: &Policies, caller: &Caller<'_>, ask: &Ask<'_>) -> Result<String, &'static str> {
    policies.decide(caller, ask).map(|permit| permit.policy().to_string()).map_err(|denial| denial.code)
}

#[test]
fn nothing_is_allowed_without_a_policy() {
    let none = Policies::default();
    assert_eq!(outcome(&none, &caller(), &model("fast")), Err("model_not_allowed"));
    assert_eq!(outcome(&none, &caller(), &Ask::new(Target::Service("analyzing"), NOON)), Err("service_not_allowed"));
    assert_eq!(outcome(&none, &caller(), &Ask::new(Target::Upstream("maps"), NOON)), Err("upstream_not_allowed"));
    assert_eq!(outcome(&none, &caller(), &native("openai", "POST", "/v1/embeddings")), Err("path_not_allowed"));
    assert!(none.visible_models(&caller(), NOON).is_empty());
}

#[test]
fn the_first_policy_that_matches_decides_and_is_named() {
    let policies = policies(
        r#"
[[policy]]
name = "small"
who = { issuer = "corp" }
may = { models = "fast", max_output_tokens = 100 }
rate = [{ requests = 1, per = "subject", window = "1m" }]
[[policy]]
name = "large"
who = { issuer = "corp" }
may = { models = "*", max_output_tokens = 1000 }
"#,
    );
    let permit = policies.decide(&caller(), &model("fast")).unwrap();
    assert_eq!((permit.policy().as_str(), permit.max_output_tokens(), permit.rates().len()), ("small", Some(100), 1));
    assert_eq!(outcome(&policies, &caller(), &model("other")), Ok("large".to_owned()));
    let ask = |n| Ask { max_output_tokens: Some(n), ..model("fast") };
    assert_eq!(outcome(&policies, &caller(), &ask(100)), Ok("small".to_owned()));
    assert_eq!(outcome(&policies, &caller(), &ask(101)), Ok("large".to_owned()));
    assert_eq!(outcome(&policies, &caller(), &ask(1001)), Err("max_output_tokens_exceeded"));
}

#[test]
fn every_condition_on_the_caller_has_to_hold() {
    let policies = policies(
        r#"
[[policy]]
name = "p"
who = { issuer = "corp", client = ["web", "app-*"], subject = "al*", scope = ["chat", "read"], groups = ["eng", "ops-*"], ip = ["10.0.0.0/8", "2001:db8::/32"], time = "mon-fri 08:00-18:00 UTC" }
may = { models = "*" }
"#,
    );
    let (scopes, groups) = (["read".to_owned(), "chat".to_owned(), "x".to_owned()], ["ops-eu".to_owned()]);
    let good = Caller { scopes: &scopes, groups: &groups, ..caller() };
    assert!(policies.decide(&good, &model("fast")).is_ok());
    assert!(policies.decide(&Caller { client: Some("app-ios"), ..good }, &model("fast")).is_ok());
    assert!(policies.decide(&Caller { ip: "::ffff:10.9.9.9".parse().unwrap(), ..good }, &model("fast")).is_ok());
    assert!(policies.decide(&Caller { ip: "2001:db8::1".parse().unwrap(), ..good }, &model("fast")).is_ok());
    let one = ["chat".to_owned()];
    let prefix = ["chat".to_owned(), "reads".to_owned()];
    let key = Name::new("editor").unwrap();
    for bad in [
        Caller { issuer: "vouchgate", ..good },
        Caller { issuer: "Corp", ..good },
        Caller { client: None, ..good },
        Caller { client: Some("webx"), ..good },
        Caller { subject: "bob", ..good },
        Caller { scopes: &one, ..good },
        Caller { scopes: &prefix, ..good },
        Caller { scopes: &[], ..good },
        Caller { groups: &[], ..good },
        Caller { groups: &one, ..good },
        Caller { ip: "11.0.0.1".parse().unwrap(), ..good },
        Caller { ip: "::ffff:11.0.0.1".parse().unwrap(), ..good },
        Caller { key: Some(&key), ..good },
    ] {
        assert!(policies.decide(&bad, &model("fast")).is_err(), "{bad:?}");
    }
    for hours in [-24 * 4, -5, 6, 24 * 3] {
        let ask = Ask { now: Timestamp::from_secs(NOON.as_secs() + hours * 3600), ..model("fast") };
        assert!(policies.decide(&good, &ask).is_err(), "{hours}");
    }
}

#[test]
fn installations_are_let_in_by_what_they_proved() {
    let policies = policies(
        "[[policy]]\nname = \"phones\"\nwho = { attested = [\"apple-app-attest\", \"android-key\"], level = \"hw\", not_annotated = \"limited-*\" }\n\
         may = { models = \"*\" }\n\
         [[policy]]\nname = \"odd\"\nwho = { annotations = [\"limited-*\"] }\nmay = { models = \"fast\" }\n",
    );
    let list = |texts: &[&str]| texts.iter().map(|text| serde_json::Value::from(*text)).collect::<Vec<_>>();
    let asks = |level: AttestationLevel, evidence: &[&str], annotations: &[&str], model_: &str| {
        let (evidence, annotations) = (list(evidence), list(annotations));
        let attested = Some(Attested { level, evidence: &evidence, annotations: &annotations, throttle: None });
        outcome(&policies, &Caller { attested, ..caller() }, &model(model_)).ok()
    };
    let (strong, verdict) = (AttestationLevel::HwStrong, AttestationLevel::Verdict);
    assert_eq!(asks(strong, &["apple-app-attest"], &[], "claude-x").as_deref(), Some("phones"));
    assert_eq!(
        asks(AttestationLevel::Hw, &["android-key", "play-integrity"], &[], "claude-x").as_deref(),
        Some("phones")
    );
    assert_eq!(asks(verdict, &["android-key"], &[], "claude-x"), None);
    assert_eq!(asks(strong, &["altcha"], &[], "claude-x"), None);
    assert_eq!(asks(strong, &["android-key"], &["limited-rpm"], "claude-x"), None);
    assert_eq!(asks(strong, &["android-key"], &["limited-rpm"], "fast").as_deref(), Some("odd"));
    assert_eq!(outcome(&policies, &caller(), &model("fast")).ok(), None, "who proved nothing");
}

#[test]
fn keys_work_only_where_a_policy_names_them_and_tokens_only_where_none_is_named() {
    let policies = policies(
        r#"
[[policy]]
name = "tokens"
may = { models = "fast" }
[[policy]]
name = "keys"
who = { key = "ci-*" }
may = { models = "fast" }
"#,
    );
    let (ci, other) = (Name::new("ci-1").unwrap(), Name::new("editor").unwrap());
    assert_eq!(outcome(&policies, &caller(), &model("fast")), Ok("tokens".to_owned()));
    assert_eq!(outcome(&policies, &Caller { key: Some(&ci), ..caller() }, &model("fast")), Ok("keys".to_owned()));
    assert_eq!(outcome(&policies, &Caller { key: Some(&other), ..caller() }, &model("fast")), Err("model_not_allowed"));
    assert!(policies.keys_are_used());
    assert!(!super::Policies::default().keys_are_used());
}

#[test]
fn tools_are_allowed_all_or_none_or_by_name() {
    let ask = |tools| Ask { tools, ..model("fast") };
    let called = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (good, mixed, none) = (called(&["lookup_user", "time"]), called(&["lookup_user", "shell"]), called(&[]));
    let with = |tools: &str| {
        policies(&format!("[[policy]]\nname = \"p\"\nmay = {{ models = \"*\", max_output_tokens = 9{tools} }}\n"))
    };
    let (all, never, named) = (with(""), with(", tools = false"), with(", tools = [\"lookup_*\", \"time\"]"));
    for tools in [Tools::None, Tools::Named(&good), Tools::Named(&mixed), Tools::Named(&none), Tools::Unknown] {
        assert!(all.decide(&caller(), &ask(tools)).is_ok(), "{tools:?}");
        assert_eq!(never.decide(&caller(), &ask(tools)).is_ok(), tools == Tools::None, "{tools:?}");
        let fits = tools == Tools::None || tools == Tools::Named(&good);
        assert_eq!(named.decide(&caller(), &ask(tools)).is_ok(), fits, "{tools:?}");
    }
    assert_eq!(outcome(&never, &caller(), &ask(Tools::Named(&good))), Err("tools_not_allowed"));
}

#[test]
fn a_body_that_cannot_be_read_passes_no_limit_on_output() {
    let policies = policies(
        "[[policy]]\nname = \"p\"\nmay = { models = \"*\", providers = \"openai\", upstreams = \"*\", services = \"*\", max_output_tokens = 9 }\n",
    );
    let blind = |target| Ask { inspected: false, ..Ask::new(target, NOON) };
    let call = Target::Provider { name: "openai", method: "POST", path: "/v1/responses", model: None };
    assert_eq!(outcome(&policies, &caller(), &blind(call)), Err("max_output_tokens_exceeded"));
    assert_eq!(outcome(&policies, &caller(), &Ask::new(call, NOON)), Ok("p".to_owned()));
    assert_eq!(outcome(&policies, &caller(), &blind(Target::Upstream("maps"))), Ok("p".to_owned()));
    let service = Ask { max_output_tokens: Some(10), ..Ask::new(Target::Service("analyzing"), NOON) };
    assert_eq!(outcome(&policies, &caller(), &service), Err("max_output_tokens_exceeded"));
}

#[test]
fn a_provider_without_paths_is_open_for_inference_only() {
    let policies = policies("[[policy]]\nname = \"p\"\nmay = { providers = \"*\" }\n");
    for (provider, method, path) in [
        ("openai", "POST", "/v1/chat/completions"),
        ("openai", "POST", "/chat/completions"),
        ("openai", "POST", "/v1/embeddings"),
        ("openai", "GET", "/v1/models"),
        ("groq", "POST", "/openai/v1/chat/completions"),
        ("groq", "GET", "/openai/v1/models/meta-llama/llama"),
        ("anthropic", "POST", "/v1/messages"),
        ("anthropic", "POST", "/v1/messages/count_tokens"),
    ] {
        assert!(policies.decide(&caller(), &native(provider, method, path)).is_ok(), "{provider} {method} {path}");
    }
    for (provider, method, path) in [
        ("openai", "GET", "/v1/chat/completions"),
        ("openai", "DELETE", "/v1/models/ft-1"),
        ("openai", "GET", "/v1/files"),
        ("openai", "POST", "/v1/files"),
        ("openai", "POST", "/v1/responses/r1/cancel"),
        ("openai", "GET", "/v1/organization/admin_api_keys"),
        ("openai", "POST", "/v2/chat/completions"),
        ("openai", "post", "/v1/chat/completions"),
        ("openai", "POST", "/v1/chat/completions/"),
        ("openai", "POST", "/v1//chat/completions"),
        ("openai", "POST", "/v1/files/../chat/completions"),
        ("openai", "GET", "/v1/models/../files"),
        ("openai", "GET", "/v1/models/%2e%2e/files"),
        ("openai", "GET", "/v1/models/..;/files"),
        ("openai", "GET", "/v1/models/..\\files"),
        ("openai", "POST", "v1/chat/completions"),
        ("openai", "POST", "/V1/chat/completions"),
        ("anthropic", "POST", "/v1/messages/batches"),
        ("anthropic", "POST", "/v1/chat/completions"),
        ("unknown", "POST", "/v1/chat/completions"),
    ] {
        assert_eq!(
            outcome(&policies, &caller(), &native(provider, method, path)),
            Err("path_not_allowed"),
            "{method} {path}"
        );
    }
}

#[test]
fn what_a_policy_lists_of_a_provider_is_open_and_nothing_else() {
    let policies = policies(
        r#"
[[policy]]
name = "files"
[policy.may]
passthrough = [
    { provider = "openai", methods = ["GET", "DELETE"], paths = ["/v1/files/*"] },
    { provider = "openai", methods = ["POST"], paths = ["/v1/images/edits"], models = ["gpt-image-*"] },
]
"#,
    );
    assert!(policies.decide(&caller(), &native("openai", "GET", "/v1/files/f1")).is_ok());
    for (provider, method, path) in [
        ("openai", "POST", "/v1/files/f1"),
        ("openai", "GET", "/v1/files"),
        ("openai", "GET", "/v1/files/f1/content"),
        ("anthropic", "GET", "/v1/files/f1"),
        ("openai", "POST", "/v1/chat/completions"),
        ("openai", "POST", "/v1/images/edits"),
    ] {
        assert!(policies.decide(&caller(), &native(provider, method, path)).is_err(), "{method} {path}");
    }
    let edit = |model| {
        let target = Target::Provider { name: "openai", method: "POST", path: "/v1/images/edits", model };
        policies.decide(&caller(), &Ask::new(target, NOON)).is_ok()
    };
    assert!(edit(Some("gpt-image-1")) && !edit(Some("gpt-5")) && !edit(None));
}

#[test]
fn a_denial_says_what_is_missing_when_only_one_thing_is() {
    let policies = policies(
        "[[policy]]\nname = \"p\"\nwho = { issuer = \"corp\", scope = [\"chat\", \"read\"] }\nmay = { models = \"fast\", tools = false }\n",
    );
    let denial = policies.decide(&caller(), &model("fast")).unwrap_err();
    assert_eq!((denial.code, denial.reason()), ("insufficient_scope", "insufficient_scope"));
    assert_eq!(denial.missing_scopes, ["chat", "read"]);
    assert_eq!(denial.policy.as_ref().map(Name::as_str), Some("p"));
    let far: Denial = policies.decide(&Caller { issuer: "vouchgate", ..caller() }, &model("fast")).unwrap_err();
    assert_eq!((far.code, far.policy, far.missing_scopes.len()), ("model_not_allowed", None, 0));
    let hostile = "x\u{1b}[31m\"\r\nSet-Cookie: a=b";
    let message = policies.decide(&caller(), &model(hostile)).unwrap_err().message;
    assert!(!message.contains(['\u{1b}', '\r', '\n']), "{message:?}");
    let long = policies.decide(&caller(), &model(&"m".repeat(100_000))).unwrap_err();
    assert!(long.message.len() < 400, "{}", long.message.len());
}

#[test]
fn any_one_of_the_proofs_asked_for_will_do() {
    let policies = policies(
        "[server]\ntls = { cert = \"c\", key = \"k\", client_certificates = \"any\" }\n\
         [[policy]]\nname = \"p\"\nwho = { issuer = \"corp\", bound = [\"mtls\", \"signature\"] }\nmay = { models = \"*\" }\n\
         single_use = true\non_revocation = \"cut\"\n",
    );
    let with = |bound: Proven| policies.decide(&Caller { bound, ..caller() }, &model("fast"));
    for proofs in [
        Proven { mtls: true, ..Proven::NONE },
        Proven { signature: true, ..Proven::NONE },
        Proven { dpop: true, mtls: true, signature: true },
    ] {
        let permit = with(proofs).unwrap();
        assert!(permit.single_use() && permit.cut_on_revocation(), "{proofs:?}");
        assert_eq!(proofs.iter().collect::<Proven>(), proofs);
    }
    for proofs in [Proven::NONE, Proven { dpop: true, ..Proven::NONE }] {
        let denial = with(proofs).unwrap_err();
        assert_eq!((denial.code, denial.policy.as_ref().map(Name::as_str)), ("proof_required", Some("p")));
        assert_eq!(denial.missing_proofs, [Bound::Mtls, Bound::Signature]);
        assert!(denial.message.ends_with("mtls or signature."), "{denial}");
    }
    let bound = Proven { dpop: true, ..Proven::NONE };
    let told = policies.explain(&Caller { bound, ..caller() }, &model("fast"));
    let held = told.policies[0].conditions.iter().find(|c| c.condition == "who.bound").unwrap();
    assert!(
        !held.holds
            && held.wants == serde_json::json!(["mtls", "signature"])
            && held.has == serde_json::json!(["dpop"])
    );
}

#[test]
fn a_proof_asked_for_is_not_named_to_whom_more_is_lacking() {
    let text = "[[policy]]\nname = \"p\"\nwho = { issuer = \"corp\", scope = \"chat\", bound = \"dpop\" }\nmay = { models = \"fast\" }\n";
    let policies = policies(text);
    assert_eq!(outcome(&policies, &caller(), &model("fast")), Err("model_not_allowed"));
    let chat = ["chat".to_owned()];
    let scoped = Caller { scopes: &chat, ..caller() };
    assert_eq!(outcome(&policies, &scoped, &model("fast")), Err("proof_required"));
    assert_eq!(outcome(&policies, &scoped, &model("other")), Err("model_not_allowed"));
    assert_eq!(outcome(&policies, &Caller { issuer: "vouchgate", ..scoped }, &model("fast")), Err("model_not_allowed"));
    assert!(policies.visible_models(&scoped, NOON).is_empty());
    let bound = Proven { dpop: true, ..Proven::NONE };
    assert_eq!(policies.visible_models(&Caller { bound, ..scoped }, NOON).len(), 1);
    let unbound = Caller { bound, ..caller() };
    assert_eq!(outcome(&policies, &unbound, &model("fast")), Err("insufficient_scope"));
}

#[test]
fn only_what_may_be_used_is_visible() {
    let policies = policies(
        "[[policy]]\nname = \"p\"\nwho = { issuer = \"corp\" }\nmay = { models = \"claude-*\", services = \"*\" }\n\
         [[policy]]\nname = \"q\"\nwho = { time = \"sun 00:00-24:00 UTC\" }\nmay = { models = \"*\" }\n",
    );
    assert_eq!(
        policies.visible_models(&caller(), NOON),
        ["claude-fast"].map(|n| Name::new(n).unwrap()).iter().collect::<Vec<_>>()
    );
    assert_eq!(policies.visible_services(&caller(), NOON).len(), 1);
    let sunday = Timestamp::from_secs(NOON.as_secs() + 4 * 86_400);
    let all: Vec<&str> = policies.visible_models(&caller(), sunday).into_iter().map(Name::as_str).collect();
    assert_eq!(all, ["fast", "claude-fast", "vouchgate/echo"]);
    let stranger = Caller { issuer: "vouchgate", ..caller() };
    assert!(
        policies.visible_models(&stranger, NOON).is_empty() && policies.visible_services(&stranger, NOON).is_empty()
    );
}

#[test]
fn faults_of_a_set_are_all_named() {
    let config = config(
        "[[policy]]\nname = \"p\"\n[policy.may]\npassthrough = [{ provider = \"openai\", methods = [\"GET\"], paths = [\"/x\"] }]\n",
    );
    let policy = config.policies[0].clone();
    let faults = compile(&[policy.clone(), policy], &World::default()).unwrap_err();
    let (name, provider) = (Name::new("p").unwrap(), Name::new("openai").unwrap());
    let unknown = PolicyFault::UnknownProvider { policy: name.clone(), provider };
    assert_eq!(faults, [unknown.clone(), PolicyFault::DuplicateName(name), unknown]);
}

#[test]
fn an_explanation_names_every_condition_that_is_set() {
    let policies = policies(
        "[[policy]]\nname = \"p\"\nwho = { issuer = \"corp\", scope = \"chat\" }\nmay = { models = [\"fast\"], max_output_tokens = 10 }\n\
         [[policy]]\nname = \"q\"\nmay = { models = \"*\" }\nrate = [{ concurrent = 2, per = \"client\" }]\n",
    );
    let told = serde_json::to_value(policies.explain(&caller(), &model("fast"))).unwrap();
    let expected = serde_json::json!({
        "allowed": true,
        "policy": "q",
        "message": "Allowed by the policy q.",
        "rate": [{"concurrent": 2, "per": "client"}],
        "policies": [
            {"policy": "p", "matches": false, "conditions": [
                {"condition": "who.issuer", "holds": true, "wants": ["corp"], "has": "corp"},
                {"condition": "who.scope", "holds": false, "wants": ["chat"], "has": []},
                {"condition": "may.models", "holds": true, "wants": ["fast"], "has": "fast"},
                {"condition": "may.max_output_tokens", "holds": true, "wants": 10, "has": null},
            ]},
            {"policy": "q", "matches": true, "conditions": [
                {"condition": "may.models", "holds": true, "wants": ["*"], "has": "fast"},
            ]},
        ],
    });
    assert_eq!(told, expected);
    let key = Name::new("k").unwrap();
    let told = policies.explain(&Caller { key: Some(&key), ..caller() }, &model("fast"));
    assert!(!told.allowed && told.policies.iter().all(|p| !p.matches && p.conditions[0].condition == "who.key"));
}

/// A policy drawn at random, in the words of the file.
fn any_policy() -> impl Strategy<Value = String> {
    let issuer = prop_oneof![Just(""), Just("issuer = \"corp\", "), Just("issuer = \"vouchgate\", ")];
    let scope = prop_oneof![Just(""), Just("scope = \"chat\", ")];
    let subject = prop_oneof![Just(""), Just("subject = \"a*\", ")];
    let key = prop_oneof![4 => Just(""), 1 => Just("key = \"k*\", ")];
    let time = prop_oneof![Just(""), Just("time = \"mon-fri 08:00-18:00 UTC\", ")];
    let ip = prop_oneof![Just(""), Just("ip = \"10.0.0.0/8\", ")];
    let bound = prop_oneof![2 => Just(""), 1 => Just("bound = [\"dpop\", \"signature\"], ")];
    let models = prop_oneof![Just("\"*\""), Just("\"fast\""), Just("[\"claude-*\", \"fast\"]")];
    let most = prop_oneof![Just(""), Just(", max_output_tokens = 10")];
    let tools = prop_oneof![Just(""), Just(", tools = false")];
    (issuer, scope, subject, key, time, ip, bound, models, most, tools).prop_map(
        |(issuer, scope, subject, key, time, ip, bound, models, most, tools)| {
            // No rule for keys may ask for proofs.
            let bound = if key.is_empty() { bound } else { "" };
            format!("who = {{ {issuer}{scope}{subject}{key}{time}{ip}{bound}client = \"*\" }}\nmay = {{ models = {models}{most}{tools} }}\n")
        },
    )
}

fn any_set() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(any_policy(), 0..5)
}

fn numbered(set: &[String]) -> Policies {
    let one = |(index, policy): (usize, &String)| format!("[[policy]]\nname = \"p{index}\"\n{policy}");
    policies(&set.iter().enumerate().map(one).collect::<Vec<_>>().concat())
}

/// Facts about a caller and its request, drawn at random.
type Drawn = (bool, bool, bool, bool, bool, &'static str, i64, Option<u64>, bool, bool);

prop_compose! {
    /// Facts about a caller and its request.
    fn any_request()(
        corp in any::<bool>(), alice in any::<bool>(), scoped in any::<bool>(), key in any::<bool>(), inside in any::<bool>(),
        model in prop_oneof![Just("fast"), Just("claude-x"), Just("other"), Just("")],
        hours in -200i64..200, most in prop::option::of(0u64..20), tools in any::<bool>(), dpop in any::<bool>(),
    ) -> Drawn {
        (corp, alice, scoped, key, inside, model, hours, most, tools, dpop)
    }
}

fn asked<R>(request: Drawn, then: impl FnOnce(&Caller<'_>, &Ask<'_>) -> R) -> R {
    let (corp, alice, scoped, keyed, inside, name, hours, most, tools, dpop) = request;
    let (chat, key) = (["chat".to_owned()], Name::new("k1").unwrap());
    let caller = Caller {
        issuer: if corp { "corp" } else { "vouchgate" },
        subject: if alice { "alice" } else { "bob" },
        scopes: if scoped { &chat } else { &[] },
        key: keyed.then_some(&key),
        ip: if inside { "10.0.0.1" } else { "192.0.2.1" }.parse().unwrap(),
        bound: Proven { dpop, ..Proven::NONE },
        ..caller()
    };
    let ask = Ask {
        max_output_tokens: most,
        tools: if tools { Tools::Unknown } else { Tools::None },
        now: Timestamp::from_secs(NOON.as_secs() + hours * 3600),
        ..model(name)
    };
    then(&caller, &ask)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_policy_added_after_the_one_that_matched_changes_nothing(set in any_set(), more in any_set(), request in any_request()) {
        let together: Vec<String> = set.iter().chain(&more).cloned().collect();
        let (before, after) = (numbered(&set), numbered(&together));
        asked(request, |caller, ask| {
            if let Ok(policy) = outcome(&before, caller, ask) {
                prop_assert_eq!(outcome(&after, caller, ask), Ok(policy));
            }
            Ok(())
        })?;
    }

    #[test]
    fn leave_comes_from_a_policy_that_gives_it_alone(set in any_set(), request in any_request()) {
        let all = numbered(&set);
        asked(request, |caller, ask| {
            let alone: Vec<usize> = (0..set.len())
                .filter(|i| numbered(std::slice::from_ref(&set[*i])).decide(caller, ask).is_ok())
                .collect();
            let first = alone.first().map(|i| format!("p{i}"));
            prop_assert_eq!(outcome(&all, caller, ask).ok(), first);
            Ok(())
        })?;
    }

    #[test]
    fn an_explanation_agrees_with_the_decision(set in any_set(), request in any_request()) {
        let all = numbered(&set);
        asked(request, |caller, ask| {
            let told = all.explain(caller, ask);
            prop_assert_eq!(told.allowed, all.decide(caller, ask).is_ok());
            for policy in &told.policies {
                prop_assert_eq!(policy.matches, policy.conditions.iter().all(|c| c.holds), "{:?}", policy);
            }
            let first = told.policies.iter().find(|p| p.matches).map(|p| p.policy.clone());
            if told.allowed {
                prop_assert_eq!(told.policy, first);
            } else {
                prop_assert_eq!(first, None);
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_path_out_of_normal_form_is_let_through(path in "/[a-z%./;\\\\2ef]{0,24}") {
        let open = policies("[[policy]]\nname = \"p\"\n[policy.may]\npassthrough = [{ provider = \"openai\", methods = [\"GET\"], paths = [\"/**\"] }]\n");
        if open.decide(&caller(), &native("openai", "GET", &path)).is_ok() {
            prop_assert!(!path.contains(['%', ';', '\\']) && !path.contains("//"));
            prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
        }
    }
}

#[test]
fn what_a_token_throttles_comes_on_top_of_what_its_policy_limits() {
    let rules = policies(
        "[[policy]]\nname = \"p\"\nmay = { models = \"*\" }\n\
         rate = [{ requests = 60, per = \"subject\", window = \"1m\" }]\n\
         spend = [{ limit = \"5 USD\", per = \"subject\", window = \"1d\" }]\n",
    );
    let throttled = |throttle| Caller {
        attested: Some(Attested {
            level: config::AttestationLevel::HwStrong,
            evidence: &[],
            annotations: &[],
            throttle: Some(throttle),
        }),
        ..caller()
    };
    let plain = rules.decide(&caller(), &model("fast")).unwrap();
    assert_eq!((plain.rates().len(), plain.funds().len()), (1, 1));
    let limit = base::Money::from_nano_usd(100_000_000);
    let both = config::RiskThrottle { rpm: Some(5), usd_day: Some(limit) };
    let permit = rules.decide(&throttled(both), &model("fast")).unwrap();
    let config::Rate::Requests { requests: 5, per: config::Per::Subject, window } = permit.rates()[1] else {
        panic!("{:?}", permit.rates())
    };
    let config::Rate::Requests { window: own, .. } = permit.rates()[0] else { panic!() };
    assert_ne!(window, own, "counted apart from the policy's own");
    let fund = &permit.funds()[1];
    assert_eq!((&**fund.account(), fund.limits()), ("risk throttle", &[(config::BudgetUnit::Money, 100_000_000)][..]));
    assert!(fund.is_enforced() && fund.counts_caller(&crate::Spender::default()));
    let rate_only = config::RiskThrottle { rpm: Some(5), usd_day: None };
    let permit = rules.decide(&throttled(rate_only), &model("fast")).unwrap();
    assert_eq!((permit.rates().len(), permit.funds().len()), (2, 1));
}

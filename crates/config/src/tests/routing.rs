//! Models with several targets, providers with several keys.

use super::{bad, brief, good};

fn model(lines: &str) -> String {
    format!("[[provider]]\nname = \"a\"\nkind = \"ollama\"\n[[model]]\nname = \"m\"\n{lines}\n")
}

/// The faults of a model with these lines, which begin in line 6.
fn faults(lines: &str) -> Vec<String> {
    bad(&model(lines)).iter().map(brief).collect()
}

fn provider(lines: &str) -> Vec<String> {
    bad(&format!("[[provider]]\nname = \"p\"\nkind = \"openai\"\n{lines}\n")).iter().map(brief).collect()
}

#[test]
fn what_a_strategy_does_not_know_is_refused() {
    let one = "{ provider = \"a\", model = \"x\" }";
    good(&model(&format!("strategy = \"weighted\"\nsticky = \"metadata:session\"\ntargets = [{one}, {one}]")));
    good(&model(&format!("sticky = \"subject\"\ntargets = [{one}]")));
    assert_eq!(faults(&format!("sticky = \"subject\"\ntargets = [{one}, {one}]")), ["6:10 conflict model[0].sticky"]);
    assert_eq!(
        faults("targets = [{ provider = \"a\", model = \"x\", weight = 2 }]"),
        ["6:52 conflict model[0].targets[0].weight"]
    );
    assert_eq!(faults(&format!("sticky = \"session\"\ntargets = [{one}]")), ["6:10 bad_value model[0].sticky"]);
    for name in ["authorization", "x-api-key", "dpop", "a b", ""] {
        let lines = format!("strategy = \"weighted\"\nsticky = \"header:{name}\"\ntargets = [{one}]");
        assert_eq!(faults(&lines), ["7:10 bad_value model[0].sticky"], "{name}");
    }
}

#[test]
fn somebody_has_to_take_what_the_canaries_leave() {
    let canary = |percent: u32| format!("{{ provider = \"a\", model = \"x\", canary = {percent} }}");
    assert_eq!(faults(&format!("targets = [{}]", canary(5))), ["6:11 conflict model[0].targets"]);
    let three = format!("targets = [{{ provider = \"a\", model = \"y\" }}, {}, {}]", canary(60), canary(50));
    assert_eq!(faults(&three), ["6:11 conflict model[0].targets"]);
    assert_eq!(faults(&format!("targets = [{{ provider = \"a\", model = \"y\" }}, {}]", canary(0))).len(), 1);
}

#[test]
fn conditions_that_nothing_meets_are_refused() {
    let when = |when: &str| faults(&format!("targets = [{{ provider = \"a\", model = \"x\", when = {{ {when} }} }}]"));
    assert!(
        when("min_body = \"2KiB\", max_body = \"1KiB\"")[0].ends_with("conflict model[0].targets[0].when.max_body")
    );
    assert!(
        when("min_input_tokens = 2, max_input_tokens = 1")[0]
            .ends_with("conflict model[0].targets[0].when.max_input_tokens")
    );
    assert!(when("header = { Authorization = \"*\" }")[0].contains("bad_value model[0].targets[0].when.header"));
    assert!(when("model = \"x\"")[0].contains("unknown_key"));
}

#[test]
fn keys_have_names_of_their_own_and_come_one_way() {
    let key = |name: &str| format!("{{ name = \"{name}\", api_key = {{ env = \"K\" }} }}");
    good(&format!("[[provider]]\nname = \"p\"\nkind = \"openai\"\nkeys = [{}, {}]\n", key("a"), key("b")));
    assert_eq!(
        provider(&format!("keys = [{}, {}]", key("a"), key("a"))),
        ["4:59 duplicate_name provider[0].keys[1].name"]
    );
    assert_eq!(
        provider(&format!("api_key = {{ env = \"K\" }}\nkeys = [{}]", key("a"))),
        ["5:8 conflict provider[0].keys"]
    );
    let literal = provider("keys = [{ name = \"a\", api_key = \"sk-not-a-real-key\" }]");
    assert_eq!(literal, ["4:33 secret_literal provider[0].keys[0].api_key"]);
}

#[test]
fn a_breaker_has_times_that_make_sense() {
    let breaker = |lines: &str| provider(&format!("api_key = {{ env = \"K\" }}\nbreaker = {{ {lines} }}"));
    assert!(breaker("open_for = \"10m\"")[0].ends_with("conflict provider[0].breaker.max_open"));
    assert!(breaker("window = \"1ms\"")[0].ends_with("bad_value provider[0].breaker.window"));
    assert!(breaker("failure_rate = 0")[0].ends_with("bad_value provider[0].breaker.failure_rate"));
}

#[test]
fn a_hedge_needs_another_target_with_another_key_and_an_attempt_for_it() {
    let two = |hedge: &str, more: &str| {
        format!(
            "[[provider]]\nname = \"b\"\nkind = \"ollama\"\n{}",
            model(&format!(
                "targets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"b\", model = \"y\" }}]\nhedge = {hedge}\n{more}"
            ))
        )
    };
    for after in ["10ms", "2s", "p50", "p95", "p99"] {
        good(&two(&format!("{{ after = \"{after}\" }}"), ""));
    }
    let told = |hedge: &str, more: &str| bad(&two(hedge, more)).iter().map(brief).collect::<Vec<_>>();
    for after in ["p4", "p49", "p100", "p+9", "p095", "p", "1ms", "11m", "soon"] {
        assert_eq!(
            told(&format!("{{ after = \"{after}\" }}"), ""),
            ["10:19 bad_value model[0].hedge.after"],
            "{after}"
        );
    }
    assert!(told("{}", "")[0].contains("missing"), "{:?}", told("{}", ""));
    assert_eq!(told("{ after = \"2s\", budget = 0 }", ""), ["10:34 bad_value model[0].hedge.budget"]);
    assert_eq!(told("{ after = \"2s\" }", "retry = { attempts = 1 }"), ["10:9 conflict model[0].hedge"]);
    assert_eq!(told("{ after = \"2s\" }", "timeout = { total = \"2s\" }"), ["10:19 conflict model[0].hedge.after"]);
    let one = "{ provider = \"a\", model = \"x\" }";
    let at = ["7:9 conflict model[0].hedge"];
    let echo = "{ provider = \"vouchgate\", model = \"echo\" }";
    let shadow = "{ provider = \"a\", model = \"y\", shadow = 0.1 }";
    for targets in [one.to_owned(), format!("{one}, {echo}"), format!("{one}, {shadow}")] {
        assert_eq!(faults(&format!("targets = [{targets}]\nhedge = {{ after = \"2s\" }}")), at, "{targets}");
    }
    let other = "{ provider = \"a\", model = \"y\" }";
    assert_eq!(faults(&format!("targets = [{one}, {other}]\nhedge = {{ after = \"2s\" }}")), at, "one key");
    good(&model(&format!("targets = [{one}, {other}]\nhedge = {{ after = \"2s\", same_key = true }}")));
}

#[test]
fn a_shadow_has_a_share_and_stands_beside_a_target_that_answers() {
    let shadow = |more: &str| format!("{{ provider = \"a\", model = \"x\", {more} }}");
    let one = "{ provider = \"a\", model = \"y\" }";
    for share in ["0.05", "1", "1.0", "0.000001"] {
        good(&model(&format!("targets = [{one}, {}]", shadow(&format!("shadow = {share}")))));
    }
    for share in ["0", "-0.1", "1.01", "5", "1e300", "nan", "inf"] {
        let told = faults(&format!("targets = [{one}, {}]", shadow(&format!("shadow = {share}"))));
        assert_eq!(told, ["6:85 bad_value model[0].targets[1].shadow"], "{share}");
    }
    assert_eq!(faults(&format!("targets = [{}]", shadow("shadow = 0.5"))), ["6:11 conflict model[0].targets"]);
    assert_eq!(
        faults(&format!("targets = [{one}, {}]", shadow("shadow = 0.5, canary = 5"))),
        ["6:99 conflict model[0].targets[1].canary"]
    );
    assert_eq!(
        faults(&format!("targets = [{one}, {{ provider = \"vouchgate\", model = \"echo\", shadow = 0.5 }}]")),
        ["6:96 conflict model[0].targets[1].shadow"]
    );
}

//! What may be spent, and what is wrong with how it is said.

use super::{good, only};
use crate::{BudgetMode, BudgetUnit, BudgetWindow, OnUnknown};

fn budget(rest: &str) -> String {
    format!("[[budget]]\nname = \"b\"\n{rest}\n")
}

#[test]
fn a_budget_limits_in_each_unit_and_has_defaults_for_the_rest() {
    let config = good(&budget(
        "limit = \"0.50 USD\"\ntokens = 7\nrequests = 3\naudio = \"2s\"\nwindow = \"1d\"\nsoft = [0.5, 1]",
    ));
    let one = &config.budgets[0];
    assert_eq!(
        one.limits(),
        [
            (BudgetUnit::Money, 500_000_000),
            (BudgetUnit::Tokens, 7),
            (BudgetUnit::Requests, 3),
            (BudgetUnit::Audio, 2000)
        ]
    );
    assert_eq!((one.mode, one.on_unknown), (BudgetMode::Enforce, OnUnknown::Charge));
    assert_eq!(one.soft.iter().map(|share| share.per_mille()).collect::<Vec<_>>(), [500, 1000]);
    for window in ["hour", "day", "week", "month", "total", "1m", "366d"] {
        let config = good(&budget(&format!("requests = 1\nwindow = \"{window}\"")));
        assert_eq!(config.budgets[0].window().to_string(), window);
    }
    assert!(matches!(one.window, Some(BudgetWindow::Rolling(_))));
    let at_once = good(&budget("concurrent = 3\nper = \"provider\""));
    assert_eq!((at_once.budgets[0].concurrent, at_once.budgets[0].limits()), (Some(3), Vec::new()));
}

#[test]
fn what_cannot_be_meant_is_refused_where_it_stands() {
    for (rest, expected) in [
        ("window = \"day\"", "1:1 missing_key budget[0]"),
        ("limit = \"1 USD\"", "1:1 missing_key budget[0]"),
        ("requests = 1\nconcurrent = 1", "1:1 missing_key budget[0]"),
        ("concurrent = 1\nwindow = \"1d\"", "4:10 conflict budget[0].window"),
        ("concurrent = -1", "3:14 bad_value budget[0].concurrent"),
        ("limit = \"1 EUR\"\nwindow = \"day\"", "3:9 bad_value budget[0].limit"),
        ("limit = \"1 USD\"\nwindow = \"daily\"", "4:10 bad_value budget[0].window"),
        ("limit = \"1 USD\"\nwindow = \"30s\"", "4:10 bad_value budget[0].window"),
        ("limit = \"1 USD\"\nwindow = \"400d\"", "4:10 bad_value budget[0].window"),
        ("limit = \"1 USD\"\nwindow = \"day\"\nsoft = [0.5, 1.5]", "5:14 bad_value budget[0].soft[1]"),
        ("limit = \"1 USD\"\nwindow = \"day\"\nsoft = [0]", "5:9 bad_value budget[0].soft[0]"),
        ("limit = \"1 USD\"\nwindow = \"day\"\nmode = \"warn\"", "5:8 bad_value budget[0].mode"),
        ("limit = \"1 USD\"\nwindow = \"day\"\nper = \"ip\"", "5:7 bad_value budget[0].per"),
        ("limit = \"1 USD\"\nwindow = \"day\"\nper = [\"model\", \"model\"]", "5:17 bad_value budget[0].per[1]"),
        ("requests = -1\nwindow = \"day\"", "3:12 bad_value budget[0].requests"),
        ("limit = \"1 USD\"\nwindow = \"day\"\nover = { subject = \"x\" }", "5:20 conflict budget[0].over.subject"),
        (
            "limit = \"1 USD\"\nwindow = \"day\"\nover = { policy = \"x\" }",
            "5:19 unknown_reference budget[0].over.policy[0]",
        ),
        ("limit = \"1 USD\"\nwindow = \"day\"\nover = { tag = \"x\" }", "5:16 unknown_reference budget[0].over.tag[0]"),
        (
            "limit = \"1 USD\"\nwindow = \"day\"\nover = { model = \"x\" }",
            "5:18 unknown_reference budget[0].over.model[0]",
        ),
        ("limit = \"1 USD\"\nwindow = \"day\"\nper_user = true", "5:1 unknown_key budget[0].per_user"),
    ] {
        assert_eq!(only(&budget(rest)), expected, "{rest}");
    }
    let twice = "[[budget]]\nname = \"b\"\nrequests = 1\nwindow = \"day\"\n".repeat(2);
    assert_eq!(only(&twice), "6:8 duplicate_name budget[1].name");
}

#[test]
fn two_limits_of_a_policy_that_would_share_an_account_are_refused() {
    let policy = |spend: &str| format!("[[policy]]\nname = \"p\"\nmay = {{ models = \"*\" }}\nspend = [{spend}]\n");
    let one = "{ limit = \"1 USD\", per = \"subject\", window = \"1d\" }";
    good(&policy(&format!("{one}, {{ tokens = 5, per = \"subject\", window = \"1d\" }}")));
    good(&policy(&format!("{one}, {{ limit = \"9 USD\", per = \"subject\", window = \"day\" }}")));
    let again = format!("{one}, {{ limit = \"9 USD\", per = \"subject\", window = \"24h\" }}");
    assert_eq!(only(&policy(&again)), "4:63 conflict policy[0].spend[1]");
    let twice = "{ concurrent = 1, per = \"subject\" }, { concurrent = 2, per = \"subject\" }";
    assert_eq!(only(&policy(twice)), "4:47 conflict policy[0].spend[1]");
    assert_eq!(only(&policy("{ limit = \"1 USD\", window = \"1d\" }")), "4:10 missing_key policy[0].spend[0]");
}

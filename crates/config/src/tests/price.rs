//! Prices of an operator's own.

use super::{good, only};

const PROVIDER: &str = "[[provider]]\nname = \"p\"\nkind = \"ollama\"\n";

fn price(rest: &str) -> String {
    format!("{PROVIDER}[[price]]\nprovider = \"p\"\nmodel = \"m\"\n{rest}\n")
}

#[test]
fn a_price_is_whole_or_absent_and_may_come_with_limits_only() {
    let config = good(&price("input = \"1.25 USD\"\noutput = \"10 USD\"\ncache_read = \"0.125 USD\"\ncontext = 1000"));
    let first = config.prices.first().expect("one");
    assert_eq!(first.input.map(base::Money::nano_usd), Some(1_250_000_000));
    assert_eq!((first.context, first.max_output), (Some(1000), None));
    good(&price("max_output = 5"));
    assert_eq!(only(&price("")), "4:1 missing_key price[0]");
    assert_eq!(only(&price("input = \"1 USD\"")), "4:1 missing_key price[0]");
    assert_eq!(only(&price("output = \"1 USD\"\ncontext = 4")), "4:1 missing_key price[0]");
    assert_eq!(only(&price("reasoning = \"1 USD\"\ncontext = 4")), "4:1 missing_key price[0]");
}

#[test]
fn an_amount_is_written_with_its_unit_and_never_negative() {
    for wrong in ["1.25", "1.25 EUR", "-1 USD", "1e3 USD", "0.0000000001 USD"] {
        let text = price(&format!("input = \"{wrong}\"\noutput = \"1 USD\""));
        assert_eq!(only(&text), "7:9 bad_value price[0].input", "{wrong}");
    }
    assert_eq!(only(&price("input = 1.25\noutput = \"1 USD\"")), "7:9 wrong_type price[0].input");
}

#[test]
fn tiers_rise_and_limits_fit_into_each_other() {
    let tiers = |a: u32, b: u32| {
        let tier = |above| format!("{{ above = {above}, input = \"2 USD\", output = \"4 USD\" }}");
        price(&format!("input = \"1 USD\"\noutput = \"2 USD\"\ntiers = [{}, {}]", tier(a), tier(b)))
    };
    good(&tiers(200, 300));
    assert!(only(&tiers(200, 200)).ends_with("bad_value price[0].tiers[1].above"));
    assert!(only(&price("context = 10\nmax_input = 11")).ends_with("conflict price[0].max_input"));
}

#[test]
fn a_price_is_of_a_provider_there_is_and_no_model_has_two() {
    let text = format!("{PROVIDER}[[price]]\nprovider = \"q\"\nmodel = \"m\"\ncontext = 1\n");
    assert_eq!(only(&text), "5:12 unknown_reference price[0].provider");
    let text = format!("{}[[price]]\nprovider = \"p\"\nmodel = \"m\"\ncontext = 1\n", price("context = 1"));
    assert_eq!(only(&text), "10:9 duplicate_name price[1].model");
}

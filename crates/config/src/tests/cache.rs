//! Which answers are kept.

use super::{good, only};

const MODEL: &str = "[[provider]]\nname = \"p\"\nkind = \"ollama\"\n[[model]]\nname = \"m\"\ntargets = [{ provider = \"p\", model = \"x\" }]\n";

fn cache(rest: &str) -> String {
    format!("{MODEL}cache = {{ {rest} }}\n")
}

#[test]
fn a_cache_has_a_time_and_defaults_for_the_rest() {
    let config = good(&cache("ttl = \"10m\""));
    let rules = config.models[0].cache.as_ref().expect("a cache");
    assert_eq!((rules.scope, rules.max_entry.as_u64(), &rules.semantic), (crate::CacheScope::Policy, 1 << 20, &None));
    assert_eq!(config.cache.size.as_u64(), 64 << 20);
    good(&cache("ttl = \"1s\", scope = \"subject\", max_entry = \"64MiB\""));
    for (wrong, expected) in [
        ("scope = \"subject\"", "7:9 missing_key model[0].cache"),
        ("ttl = \"0s\"", "7:17 bad_value model[0].cache.ttl"),
        ("ttl = \"31d\"", "7:17 bad_value model[0].cache.ttl"),
        ("ttl = \"1m\", scope = \"tenant\"", "7:31 bad_value model[0].cache.scope"),
        ("ttl = \"1m\", max_entry = \"1B\"", "7:35 bad_value model[0].cache.max_entry"),
    ] {
        assert_eq!(only(&cache(wrong)), expected, "{wrong}");
    }
}

#[test]
fn likeness_is_a_cosine_and_asks_a_provider_there_is() {
    let semantic = |rest: &str| cache(&format!("ttl = \"1m\", semantic = {{ provider = \"p\", model = \"e\"{rest} }}"));
    let threshold = |text: &str| {
        let config = good(&semantic(text));
        config.models[0].cache.as_ref().and_then(|rules| rules.semantic.as_ref()).expect("semantic").threshold.as_f64()
    };
    assert!((threshold("") - 0.95).abs() < 1e-9 && (threshold(", threshold = 0.973") - 0.973).abs() < 1e-9);
    assert!((threshold(", threshold = 1") - 1.0).abs() < 1e-9);
    for wrong in ["0.4", "1.01", "-1", "95", "1e308"] {
        let fault = only(&semantic(&format!(", threshold = {wrong}")));
        assert!(fault.ends_with("bad_value model[0].cache.semantic.threshold"), "{fault}");
    }
    let fault = only(&semantic(", timeout = \"2m\""));
    assert!(fault.ends_with("bad_value model[0].cache.semantic.timeout"), "{fault}");
    let fault = only(&cache("ttl = \"1m\", semantic = { provider = \"q\", model = \"e\" }"));
    assert!(fault.ends_with("unknown_reference model[0].cache.semantic.provider"), "{fault}");
}

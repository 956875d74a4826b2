//! Whatever the text is, the answer is a configuration or faults with a place; never a panic, never a fault that
//! only serde found.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::FULL;
use crate::parse::UNREADABLE;

fn check(text: &str) -> Result<(), TestCaseError> {
    if let Err(faults) = crate::parse(text) {
        prop_assert!(!faults.is_empty());
        let lines = text.lines().count().max(1) + 1;
        for fault in faults {
            prop_assert!(fault.line >= 1 && fault.line <= lines && fault.column >= 1, "{:?}", fault);
            prop_assert!(fault.message != UNREADABLE, "{:?}", fault);
        }
    }
    Ok(())
}

/// Some value that is not what belongs there.
fn odd() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Bool(true)),
        any::<i64>().prop_map(Json::from),
        Just(Json::from(0.5)),
        "[a-z*/: .]{0,12}".prop_map(Json::from),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        Just(serde_json::json!(["x", 1])),
        Just(serde_json::json!({"env": "X"})),
        Just(serde_json::json!({"name": "x", "env": 1})),
        Just(serde_json::json!([{"concurrent": 1}])),
    ]
}

/// The paths of all values below `json`.
fn pointers(json: &Json, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match json {
        Json::Object(members) => members.iter().for_each(|(key, value)| pointers(value, &format!("{at}/{key}"), all)),
        Json::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), all);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_value_prints_as_it_was_written_or_is_refused(
        text in prop_oneof!["[a-zA-Z0-9/*:._~%@?#\\[\\]\\\\ -]{0,40}", "https?://[a-z0-9.:@/\\[\\]?#%-]{0,30}", "\\PC{0,20}"],
    ) {
        macro_rules! same {
            ($($kind:ty),*) => {$(
                if let Ok(value) = text.parse::<$kind>() {
                    prop_assert_eq!(value.to_string(), text.as_str());
                }
            )*};
        }
        same!(
            crate::HttpUrl, crate::Origin, crate::Pattern, crate::PathPattern, crate::RoutePath, crate::Method,
            crate::HeaderName, crate::EnvName, crate::StoreUrl, crate::Scope, crate::RedirectUri
        );
        let _ = text.parse::<crate::TimeWindow>();
        let _ = text.parse::<crate::Cidr>();
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z\\[\\]{}=\"'.,# \\n0-9é]{0,200}") {
        check(&text)?;
    }

    #[test]
    fn a_file_cut_anywhere_is_read_or_refused(at in 0..FULL.len()) {
        check(FULL.get(..at).unwrap_or(""))?;
    }

    #[test]
    fn a_file_with_some_bytes_changed_is_read_or_refused(at in 0..FULL.len(), with in "[a-z\\[\\]{}=\"'.,#\\n0-9]{0,4}") {
        if let (Some(before), Some(after)) = (FULL.get(..at), FULL.get(at + 1..)) {
            check(&format!("{before}{with}{after}"))?;
        }
    }

    #[test]
    fn a_value_replaced_by_another_is_read_or_refused(which in any::<prop::sample::Index>(), odd in odd()) {
        let table: toml::Table = toml::from_str(FULL).unwrap();
        let mut json = serde_json::to_value(&table).unwrap();
        let mut all = Vec::new();
        pointers(&json, "", &mut all);
        let pointer = &all[which.index(all.len())];
        if !pointer.is_empty() {
            *json.pointer_mut(pointer).unwrap() = odd;
            let text = toml::to_string(&json);
            prop_assume!(text.is_ok());
            check(&text.unwrap())?;
        }
    }
}

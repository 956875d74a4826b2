use proptest::prelude::*;

use super::*;

fn tree(text: &str) -> Result<Node<'_>, JsonError> {
    node(text, &Limits::REQUEST)
}

fn names(text: &str) -> Result<Vec<String>, JsonError> {
    Ok(members(text.as_bytes(), &Limits::REQUEST)?.into_iter().map(|member| member.name.into_owned()).collect())
}

#[test]
fn a_document_keeps_every_digit_and_every_place() {
    let text = r#" {"a" : 12345678901234567890.10 , "b":[1e5,-0.0,{"c":"\u00e9\n"}]} "#;
    let found = members(text.as_bytes(), &Limits::REQUEST).unwrap();
    assert_eq!(found[0].raw, "12345678901234567890.10");
    assert_eq!(&text[found[1].at..found[1].at + found[1].raw.len()], found[1].raw);
    let root = tree(text).unwrap();
    assert_eq!(root.get("b").unwrap().items()[0].raw, "1e5");
    assert_eq!(root.get("b").unwrap().items()[2].text_of("c").unwrap(), "é\n");
}

#[test]
fn of_a_long_list_of_numbers_only_the_beginning_is_kept_and_all_of_it_is_counted() {
    let numbers = vec!["7"; 1000].join(",");
    let text = format!("{{\"input\":[{numbers}],\"tools\":[{numbers},{{\"type\":\"f\"}},\"g\"]}}");
    let root = document(text.as_bytes(), &Limits::REQUEST).unwrap();
    assert_eq!(root.raw, text);
    assert_eq!(root.get("input").unwrap().items().len(), 8);
    let tools = root.get("tools").unwrap().items();
    assert_eq!((tools.len(), tools[8].text_of("type").as_deref()), (10, Some("f")));
    let few = Limits { nodes: 1000, ..Limits::REQUEST };
    assert_eq!(document(text.as_bytes(), &few).unwrap_err(), JsonError::Nodes(1000));
    assert_eq!(document(b"{\"input\":[1,2,3,4,5,6,7,8,9,x]}", &few).unwrap_err(), JsonError::Syntax(28));
    assert_eq!(document(b" [1] ", &few).unwrap_err(), JsonError::NotObject);
}

#[test]
fn nesting_and_size_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(tree(&nested(64)).is_ok());
    assert_eq!(tree(&nested(65)).unwrap_err(), JsonError::Depth(64));
    assert_eq!(tree(&"[".repeat(5_000_000)).unwrap_err(), JsonError::Depth(64));
    let many = |count: usize| format!("[{}]", vec!["0"; count].join(","));
    assert!(tree(&many(99_999)).is_ok());
    assert_eq!(tree(&many(100_000)).unwrap_err(), JsonError::Nodes(100_000));
    assert_eq!(tree(&format!("[{}]", vec!["{}"; 200_000].join(","))).unwrap_err(), JsonError::Nodes(100_000));
}

#[test]
fn a_member_named_twice_is_refused_at_every_depth_however_it_is_spelled() {
    for text in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","\u006dodel":"b"}"#,
        r#"{"x":[{"y":{"role":1,"r\u006fle":2}}]}"#,
    ] {
        assert!(matches!(names(text), Err(JsonError::Duplicate(_))), "{text}");
    }
    let wide: Vec<String> = (0..1000).map(|i| format!("\"k{i}\":0")).collect();
    assert!(names(&format!("{{{}}}", wide.join(","))).is_ok());
    assert!(names(&format!("{{{},\"k7\":1}}", wide.join(","))).is_err());
    // An answer may: the last one counts.
    let lenient = node(r#"{"a":1,"a":2}"#, &Limits::RESPONSE).unwrap();
    assert_eq!(lenient.get("a").unwrap().raw, "2");
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "[1,]",
        "{'a':1}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "NaN",
        "nul",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"a",
        "[1 2]",
        "{\"a\":1}{}",
        "\u{feff}{}",
        "/*x*/{}",
        "-",
    ] {
        assert!(tree(text).is_err(), "{text:?}");
    }
    assert_eq!(names("[]"), Err(JsonError::NotObject));
    assert!(matches!(members(b"{\"a\":\"\xff\"}", &Limits::REQUEST), Err(JsonError::Utf8(6))));
    // A name must be text; a value with half a surrogate pair can be passed on, and reads with a replacement.
    assert!(names(r#"{"\ud800":1}"#).is_err());
    assert_eq!(tree(r#"{"a":"x\ud800y"}"#).unwrap().text_of("a").unwrap(), "x\u{fffd}y");
}

#[test]
fn what_is_written_reads_back() {
    let text = "q\"\\\u{0}\u{1f}\n\r\t é \u{10ffff}";
    let written = object(|o| {
        o.text(text, text);
        o.array("list", |a| {
            a.text("x");
            a.object(|o| o.number("n", 7));
            a.raw("1.50");
        });
    });
    let read: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(read[text], text);
    assert_eq!(read["list"], serde_json::json!(["x", {"n": 7}, 1.5]));
}

fn near_json() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\"a\""),
        Just("\"b\\n\""),
        Just("1"),
        Just("-2.5e3"),
        Just("true"),
        Just("null"),
        Just(" "),
        Just("\""),
        Just("\\"),
        Just("0"),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f32>().prop_filter("finite", |x| x.is_finite()).prop_map(|x| f64::from(x).into()),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map(".{0,4}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn it_takes_what_serde_json_takes(text in near_json()) {
        let lenient = Limits { unique_members: false, ..Limits::REQUEST };
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        // A number beyond what a float holds is a number all the same (RFC 8259 section 6).
        prop_assume!(!theirs.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range")));
        let theirs = theirs.is_ok();
        prop_assert_eq!(node(&text, &lenient).is_ok(), theirs, "{}", text);
    }

    #[test]
    fn every_document_reads_as_itself(value in value()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        let read = tree(&text).unwrap();
        prop_assert_eq!(read.to_value(), serde_json::from_str::<serde_json::Value>(&text).unwrap());
        prop_assert_eq!(read.raw, text.as_str());
        if let Some(object) = value.as_object() {
            for (name, inner) in object {
                let found = members(text.as_bytes(), &Limits::REQUEST).unwrap();
                let member = found.iter().find(|member| member.name == name.as_str()).unwrap();
// Both sides read by the same lossy reader: it may change a float's last digit.
                let again = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
                prop_assert_eq!(again(member.raw), again(&inner.to_string()));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = members(&bytes, &Limits::REQUEST);
        let _ = node(&String::from_utf8_lossy(&bytes), &Limits::RESPONSE);
    }
}

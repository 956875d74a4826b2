//! JSON as a verifier must read it: one meaning or none (RFC 8259, RFC 7515 section 4, RFC 8725 section 3.7).
//!
//! On top of `serde_json`, which already refuses invalid UTF-8, a byte order mark, lone surrogates and trailing
//! text, this refuses duplicate member names at every depth (compared after escapes are resolved) and bounds
//! depth and size before anything is built from them.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// An object whose members are in the order they were written.
pub type JsonObject = Map<String, Value>;

/// What a text may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the whole text.
    pub bytes: usize,
    /// Nested objects and arrays, the outermost counted as one.
    pub depth: usize,
    /// Values of any kind, member names not counted.
    pub values: usize,
}

impl Limits {
    /// For a token's header.
    pub const HEADER: Self = Self { bytes: 16 << 10, depth: 16, values: 256 };
    /// For a token's claims.
    pub const CLAIMS: Self = Self { bytes: 64 << 10, depth: 16, values: 4096 };
    /// For a key or a set of keys.
    pub const KEYS: Self = Self { bytes: 1 << 20, depth: 16, values: 16_384 };
}

/// Why a text is not an acceptable JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not in UTF-8.
    #[error("the text is not valid JSON in UTF-8")]
    Syntax,
    /// A member name occurs twice in one object.
    #[error("an object names the same member twice")]
    DuplicateMember,
    /// Nested deeper than the limit.
    #[error("the JSON is nested too deeply")]
    TooDeep,
    /// More bytes or values than the limit.
    #[error("the JSON is too large")]
    TooLarge,
    /// JSON, but not an object.
    #[error("the JSON is not an object")]
    NotAnObject,
}

impl JsonError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Syntax => "malformed_json",
            Self::DuplicateMember => "duplicate_member",
            Self::TooDeep => "json_too_deep",
            Self::TooLarge => "json_too_large",
            Self::NotAnObject => "not_an_object",
        }
    }
}

/// Read one value.
pub fn value(bytes: &[u8], limits: Limits) -> Result<Value, JsonError> {
    if bytes.len() > limits.bytes {
        return Err(JsonError::TooLarge);
    }
    let budget = Budget { left: Cell::new(limits.values), error: Cell::new(None) };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Node { budget: &budget, depth: limits.depth }.deserialize(&mut reader);
    let read = read.and_then(|value| reader.end().map(|()| value));
    read.map_err(|_| budget.error.get().unwrap_or(JsonError::Syntax))
}

/// Read one object.
pub fn object(bytes: &[u8], limits: Limits) -> Result<JsonObject, JsonError> {
    match value(bytes, limits)? {
        Value::Object(object) => Ok(object),
        _ => Err(JsonError::NotAnObject),
    }
}

/// What is left to spend, and the first limit that was hit (serde's error type cannot carry it).
struct Budget {
    left: Cell<usize>,
    error: Cell<Option<JsonError>>,
}

/// Reads one value that may contain `depth` more levels.
#[derive(Clone, Copy)]
struct Node<'b> {
    budget: &'b Budget,
    depth: usize,
}

impl<'b> Node<'b> {
    fn fail<E: Error>(self, error: JsonError) -> E {
        self.budget.error.set(Some(error));
        E::custom(error)
    }

    fn inner<E: Error>(self) -> Result<Node<'b>, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| self.fail(JsonError::TooDeep))?;
        Ok(Node { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let left = self.budget.left.get().checked_sub(1).ok_or_else(|| self.fail(JsonError::TooLarge))?;
        self.budget.left.set(left);
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.fail(JsonError::Syntax))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(value) = from.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(self.fail(JsonError::DuplicateMember));
            }
            let value = from.next_value_seed(inner)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<Value, JsonError> {
        value(text, Limits::HEADER)
    }

    #[test]
    fn a_duplicate_member_is_refused_at_every_depth_and_however_it_is_spelled() {
        for text in [
            r#"{"aud":1,"aud":1}"#,
            r#"{"aud":1,"\u0061ud":2}"#,
            r#"{"cnf":{"jkt":"a","jkt":"b"}}"#,
            r#"[[{"a":1,"b":2,"a":3}]]"#,
            r#"{"":1,"":1}"#,
            r#"{"a\u0000":1,"a\u0000":2}"#,
        ] {
            assert_eq!(read(text.as_bytes()), Err(JsonError::DuplicateMember), "{text}");
        }
        assert!(read(br#"{"a":{"a":{"a":1}},"A":2}"#).is_ok());
    }

    #[test]
    fn only_utf_8_without_a_byte_order_mark_is_json() {
        let utf16: Vec<u8> = "{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&utf16), Err(JsonError::Syntax));
        assert_eq!(read(b"\xef\xbb\xbf{}"), Err(JsonError::Syntax));
        assert_eq!(read(b"{\"a\":\"\xc0\xaf\"}"), Err(JsonError::Syntax), "overlong");
        assert_eq!(read(b"{\"a\":\"\xed\xa0\x80\"}"), Err(JsonError::Syntax), "encoded surrogate");
        for lone in [r#"["\ud800"]"#, r#"["\udc00"]"#, r#"["\ud800\ud800"]"#, r#"["\ud800a"]"#, r#"{"\udead":1}"#] {
            assert_eq!(read(lone.as_bytes()), Err(JsonError::Syntax), "{lone}");
        }
        assert_eq!(read(r#"["\ud834\udd1e"]"#.as_bytes()), Ok(serde_json::json!(["\u{1d11e}"])));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let nested = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
        assert!(read(&nested(16)).is_ok());
        assert_eq!(read(&nested(17)), Err(JsonError::TooDeep));
        assert_eq!(read(&nested(5000)), Err(JsonError::TooDeep));
        assert_eq!(read(&[b'['; 5000]), Err(JsonError::TooDeep));
        let many = format!("[{}1]", "1,".repeat(300));
        assert_eq!(read(many.as_bytes()), Err(JsonError::TooLarge));
        assert_eq!(read(&vec![b' '; 1 << 20]), Err(JsonError::TooLarge));
        assert_eq!(read(b"[1e400]"), Err(JsonError::Syntax));
    }

    #[test]
    fn text_after_the_object_and_other_kinds_of_value_are_refused() {
        assert_eq!(object(b"{} x", Limits::HEADER), Err(JsonError::Syntax));
        assert_eq!(object(b"{}{}", Limits::HEADER), Err(JsonError::Syntax));
        assert_eq!(object(b"[]", Limits::HEADER), Err(JsonError::NotAnObject));
        assert_eq!(object(b"null", Limits::HEADER), Err(JsonError::NotAnObject));
        assert!(object(b" {\"a\":1}\r\n", Limits::HEADER).is_ok());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::hash_map(".{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn text_like_json_is_read_as_serde_json_reads_it_or_refused(text in r#"[\[\]{}",:0-9a\\u+\-.e ]{0,40}"#) {
            if let Ok(ours) = read(text.as_bytes()) {
                prop_assert_eq!(Ok(ours), serde_json::from_str::<Value>(&text).map_err(|e| e.to_string()));
            }
        }

        #[test]
        fn what_is_written_is_read_back(value in any_json()) {
            prop_assert_eq!(read(value.to_string().as_bytes()), Ok(value));
        }
    }
}

//! Google's own `Schema` (a part of `OpenAPI` 3.0) as JSON Schema: types in lower case, `nullable` as a second type.

use crate::json::{Array, Node, array, object};
use crate::model::Json;

/// `schema` as JSON Schema.
pub(super) fn json_schema(schema: &Node<'_>) -> Json {
    Json::trusted(&convert(schema))
}

fn convert(schema: &Node<'_>) -> String {
    if !schema.is_object() {
        return schema.raw.to_owned();
    }
    let nullable = schema.get("nullable").and_then(Node::boolean) == Some(true);
    object(|o| {
        for (name, value) in schema.members() {
            match name.as_ref() {
                "type" => {
                    let names: Vec<String> = if value.is_array() {
                        value.items().iter().filter_map(|item| Some(item.text()?.to_ascii_lowercase())).collect()
                    } else {
                        value.text().into_iter().map(|kind| kind.to_ascii_lowercase()).collect()
                    };
                    let known: Vec<&String> = names.iter().filter(|kind| *kind != "type_unspecified").collect();
                    match known.as_slice() {
                        [] => {}
                        [one] if !nullable && !value.is_array() => o.text("type", one),
                        several => o.array("type", |a: &mut Array<'_>| {
                            for kind in several {
                                a.text(kind);
                            }
                            if nullable && !several.iter().any(|kind| *kind == "null") {
                                a.text("null");
                            }
                        }),
                    }
                }
                // The first is told with the type; the second is an order for the answer that a schema cannot tell.
                "nullable" | "propertyOrdering" | "property_ordering" => {}
                "properties" | "$defs" | "defs" if value.is_object() => o.object(name, |o| {
                    value.members().iter().for_each(|(name, schema)| o.raw(name, &convert(schema)));
                }),
                "items" | "additionalProperties" => o.raw(name, &convert(value)),
                "anyOf" | "any_of" | "prefixItems" => {
                    let name = if name == "any_of" { "anyOf" } else { name };
                    o.raw(name, &array(|a| value.items().iter().for_each(|schema| a.raw(&convert(schema)))));
                }
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties"
                | "min_items" | "max_items" | "min_length" | "max_length" | "min_properties" | "max_properties" => {
                    // 64-bit numbers may come as text.
                    let number = value.text().filter(|text| text.parse::<u64>().is_ok());
                    o.raw(&camel(name), number.as_deref().unwrap_or(value.raw));
                }
                _ => o.raw(name, value.raw),
            }
        }
    })
}

fn camel(name: &str) -> String {
    let mut up = false;
    name.chars().fold(String::with_capacity(name.len()), |mut out, c| {
        match (c, up) {
            ('_', _) => up = true,
            (c, true) => {
                out.push(c.to_ascii_uppercase());
                up = false;
            }
            (c, false) => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, node};

    #[test]
    fn a_schema_of_googles_becomes_json_schema() {
        let text = r#"{"type":"OBJECT","properties":{"type":{"type":"STRING","nullable":true,"enum":["A"]},"n":{"type":"ARRAY","items":{"type":"INTEGER"},"min_items":"1"}},"required":["type"],"propertyOrdering":["type"]}"#;
        let schema = json_schema(&node(text, &Limits::REQUEST).unwrap());
        assert_eq!(
            schema.as_str(),
            r#"{"type":"object","properties":{"type":{"type":["string","null"],"enum":["A"]},"n":{"type":"array","items":{"type":"integer"},"minItems":1}},"required":["type"]}"#
        );
    }
}

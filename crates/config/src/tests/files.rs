//! The examples and the documentation hold what they promise, and the schema describes what is accepted.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::{FULL, good};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_example_is_a_good_configuration() {
    let (mut seen, mut folders) = (0, vec![workspace().join("examples"), workspace().join("packaging")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "toml") {
                let text = std::fs::read_to_string(&path).unwrap();
                if let Err(faults) = crate::parse(&text) {
                    panic!("{}: {faults:#?}", path.display());
                }
                seen += 1;
            }
        }
    }
    assert!(seen >= 7, "{seen} examples");
}

#[test]
fn the_chart_begins_with_a_good_configuration() {
    let values = std::fs::read_to_string(workspace().join("packaging/helm/vouchgate/values.yaml")).unwrap();
    let (_, block) = values.split_once("\nconfig: |\n").unwrap();
    let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("  "));
    let text = lines.map(|line| line.get(2..).unwrap_or_default()).collect::<Vec<_>>().join("\n");
    assert!(text.contains("[[policy]]"), "{text}");
    good(&text);
}

#[test]
fn every_toml_block_of_the_documentation_is_a_good_configuration() {
    let mut seen = 0;
    for entry in std::fs::read_dir(workspace().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut rest = text.as_str();
        while let Some((_, after)) = rest.split_once("```toml\n") {
            let (block, after) = after.split_once("```").unwrap();
            if let Err(faults) = crate::parse(block) {
                panic!("{}: {block}\n{faults:#?}", path.display());
            }
            seen += 1;
            rest = after;
        }
    }
    assert!(seen >= 30, "{seen} blocks");
}

#[test]
fn the_reference_example_uses_every_key() {
    let schema = crate::shared_schema();
    let table: toml::Table = toml::from_str(FULL).unwrap();
    let written = serde_json::to_value(&table).unwrap();
    let mut missing = Vec::new();
    unused(schema, schema, &[&written], "", &mut missing);
    assert_eq!(missing, Vec::<String>::new(), "show these in examples/reference.toml, commented or not");
}

/// Collect the keys of tables in the schema that no value has and no comment shows.
fn unused(root: &Json, schema: &Json, values: &[&Json], path: &str, missing: &mut Vec<String>) {
    let schema = match schema.get("$ref").and_then(Json::as_str) {
        Some(target) => root.pointer(target.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
        for branch in branches.iter().filter(|b| b.get("$ref").is_some()) {
            unused(root, branch, values, path, missing);
        }
    }
    if let Some(items) = schema.get("items") {
        let items_of: Vec<&Json> = values.iter().filter_map(|v| v.as_array()).flatten().collect();
        unused(root, items, &items_of, path, missing);
    }
    for (key, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let below: Vec<&Json> = values.iter().filter_map(|value| value.get(key)).collect();
        let commented = FULL.lines().any(|line| {
            line.trim_start().strip_prefix('#').is_some_and(|line| line.trim_start().starts_with(&format!("{key} =")))
        });
        if below.is_empty() && !commented {
            missing.push(format!("{path}.{key}"));
        }
        unused(root, property, &below, &format!("{path}.{key}"), missing);
    }
}

#[test]
fn the_documentation_names_every_key() {
    let docs = ["configuration.md", "policy.md"]
        .map(|file| std::fs::read_to_string(workspace().join("docs").join(file)).unwrap());
    let docs = docs.concat();
    let mut missing = Vec::new();
    let tables = crate::shared_schema()["$defs"].as_object().unwrap().values();
    for key in tables.filter_map(|table| table.get("properties")).flat_map(|p| p.as_object().unwrap().keys()) {
        if !docs.contains(&format!("`{key}`"))
            && !docs.contains(&format!("{key} ="))
            && !docs.contains(&format!(" {key},"))
        {
            missing.push(key);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_schema_describes_every_key_and_uses_only_words_the_checker_knows() {
    const KNOWN: &[&str] = &[
        "$defs",
        "$ref",
        "$schema",
        "additionalProperties",
        "anyOf",
        "const",
        "default",
        "description",
        "enum",
        "examples",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "oneOf",
        "properties",
        "required",
        "title",
        "type",
        "x-kind",
    ];
    fn visit(schema: &Json, path: &str) {
        let object = schema.as_object().unwrap_or_else(|| panic!("{path}: {schema}"));
        for (word, value) in object {
            assert!(KNOWN.contains(&word.as_str()), "{path}: {word}");
            match word.as_str() {
                "properties" | "$defs" => {
                    for (key, schema) in value.as_object().unwrap() {
                        let described = schema.get("description").is_some() || schema.get("const").is_some();
                        assert!(described || path.contains("SecretRef"), "{path}.{key} has no description");
                        visit(schema, &format!("{path}.{key}"));
                    }
                }
                "anyOf" | "oneOf" => value.as_array().unwrap().iter().for_each(|schema| visit(schema, path)),
                "items" => visit(value, path),
                "additionalProperties" if value.is_object() => visit(value, path),
                _ => {}
            }
        }
        if object.get("properties").is_some() {
            assert_eq!(object.get("additionalProperties"), Some(&Json::Bool(false)), "{path} takes unknown keys");
        }
    }
    visit(crate::shared_schema(), "");
}

#[test]
fn a_default_in_the_schema_is_a_value_its_key_takes() {
    fn visit(root: &Json, schema: &Json, seen: &mut usize) {
        let keys = schema.get("type").is_some_and(Json::is_object);
        if let Some(default) = schema.get("default").filter(|_| !keys) {
            let mut faults = crate::fault::Faults::default();
            crate::walk::check(root, schema, &crate::tree::Node::from_json(default), "default", &mut faults);
            let faults = faults.without_lines();
            assert!(faults.is_empty(), "{schema}: {faults:?}");
            *seen += 1;
        }
        match schema {
            Json::Object(members) => {
                for (_, member) in members.iter().filter(|(key, _)| *key != "default") {
                    visit(root, member, seen);
                }
            }
            Json::Array(items) => items.iter().for_each(|v| visit(root, v, seen)),
            _ => {}
        }
    }
    let (root, mut seen) = (crate::shared_schema(), 0);
    visit(root, root, &mut seen);
    assert!(seen > 30, "{seen}");
}

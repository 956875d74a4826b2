//! CSV (RFC 4180) that spreadsheets open as data: a text that they would take for a formula gets an apostrophe before it.

use serde_json::Value;

/// The line that names the columns.
pub fn header(columns: &[&str]) -> String {
    line(columns.iter().map(|column| text(column)))
}

/// The line of a row: its members of these names, empty where it has none.
pub fn row(columns: &[&str], row: &Value) -> String {
    line(columns.iter().map(|column| row.get(column).map(cell).unwrap_or_default()))
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let mut line = cells.collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(value) => text(value),
        Value::Array(items) => {
            let items: Vec<_> =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect();
            text(&items.join(" "))
        }
        // Numbers begin with a sign at most, and no spreadsheet takes them for more.
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Object(_) => text(&value.to_string()),
    }
}

fn text(value: &str) -> String {
    // (owasp.org, "CSV Injection"; full-width signs are taken for the others by some.)
    let formula =
        value.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    let value = if formula { format!("'{value}") } else { value.to_owned() };
    if value.contains(['"', ',', '\r', '\n', ';', '\t']) || value.trim() != value {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_that_is_a_formula_is_none_any_more_and_numbers_stay_numbers() {
        let columns = ["a", "b", "c", "d", "e", "f", "g"];
        let line = row(
            &columns,
            &json!({ "a": "=HYPERLINK(\"http://x\",\"y\")", "b": "-1+1|cmd", "c": -5, "d": "@SUM(A1)", "e": "\tx", "f": null }),
        );
        assert_eq!(line, "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\",'-1+1|cmd,-5,'@SUM(A1),\"'\tx\",,\r\n");
        assert_eq!(row(&["a"], &json!({ "a": "+49" })), "'+49\r\n");
        assert_eq!(row(&["a"], &json!({ "a": ["=x", "y"] })), "'=x y\r\n");
    }

    #[test]
    fn a_text_stays_one_cell() {
        assert_eq!(header(&["a", "b"]), "a,b\r\n");
        assert_eq!(
            row(&["a", "b"], &json!({ "a": "x,y", "b": "two\nlines \"quoted\"" })),
            "\"x,y\",\"two\nlines \"\"quoted\"\"\"\r\n"
        );
        assert_eq!(row(&["a"], &json!({ "a": true })), "true\r\n");
    }
}

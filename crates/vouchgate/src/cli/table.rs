//! Lists as tables to read.

use serde_json::Value;

use super::io::{Failure, Io};

/// A column: its title and how a row shows it.
pub(super) type Column = (&'static str, fn(&Value) -> String);

/// Print `rows` in columns, or say on standard error that there are none.
pub(super) fn print(io: &mut Io<'_>, columns: &[Column], rows: &[Value], none: &str) -> Result<(), Failure> {
    if rows.is_empty() {
        io.note(none);
        return Ok(());
    }
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|(_, show)| printable(&show(row))).collect()).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(i, (title, _))| {
            let widest = cells.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max();
            widest.unwrap_or(0).max(title.len())
        })
        .collect();
    io.line(&line(columns.iter().map(|(title, _)| title.to_uppercase()), &widths))?;
    for row in cells {
        io.line(&line(row.into_iter(), &widths))?;
    }
    Ok(())
}

fn line(cells: impl Iterator<Item = String>, widths: &[usize]) -> String {
    let mut text = String::new();
    for (cell, width) in cells.zip(widths) {
        if !text.is_empty() {
            text.push_str("  ");
        }
        text.push_str(&cell);
        text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
    }
    text.truncate(text.trim_end().len());
    text
}

/// What is stored may hold anything; a terminal obeys escape sequences.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The text of a member, empty when absent.
pub(super) fn text(row: &Value, member: &str) -> String {
    match row.get(member) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            items.iter().map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned)).collect::<Vec<_>>().join(" ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(printable("a\u{1b}[31mb\r\n"), "a\u{fffd}[31mb\u{fffd}\u{fffd}");
    }

    #[test]
    fn members_of_any_type_show_as_text() {
        let row = json!({"a": "x", "b": ["p", "q"], "c": true, "d": null});
        assert_eq!(["a", "b", "c", "d", "e"].map(|m| text(&row, m)), ["x", "p q", "true", "", ""]);
    }

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        assert_eq!(line(["a".to_owned(), String::new()].into_iter(), &[3, 4]), "a");
        assert_eq!(line(["a".to_owned(), "b".to_owned()].into_iter(), &[3, 4]), "a    b");
    }
}

//! A file tells one story: most stay under 500 lines, none passes 1,000; a function stays under 100.

use super::{Findings, Source};

const FILE_REMARK: usize = 500;
const FILE_BREACH: usize = 1_000;
const FUNCTION_BREACH: usize = 100;
const CODE: [&str; 6] = ["rs", "py", "js", "mjs", "ts", "sh"];

pub(super) fn check(sources: &[Source]) -> Findings {
    let mut found = Findings::default();
    for source in sources.iter().filter(|source| CODE.contains(&source.extension())) {
        let lines = source.text.lines().count();
        if lines > FILE_BREACH {
            found.breach(format!("{}: {lines} lines (limit {FILE_BREACH})", source.path));
        } else if lines > FILE_REMARK {
            found.remarks.push(format!("{}: {lines} lines (does it tell one story?)", source.path));
        }
        if source.extension() == "rs" {
            for (line, length) in long_functions(&source.text) {
                let path = &source.path;
                found.breach(format!("{path}:{line}: a function of {length} lines (limit {FUNCTION_BREACH})"));
            }
        }
    }
    found
}

/// The line and length of each function past the limit. Relies on rustfmt: a function ends with a brace in the column
/// it began in.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if !is_function(line.trim_start()) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let length = lines.iter().skip(start).position(|line| *line == closing).map_or(0, |after| after + 1);
        if length > FUNCTION_BREACH {
            long.push((start + 1, length));
        }
    }
    long
}

fn is_function(line: &str) -> bool {
    let name = line.split_once("fn ").map(|(before, _)| before);
    let qualifier = |word: &str| {
        matches!(word, "pub" | "const" | "async" | "in") || word.starts_with("pub(") || word.ends_with(')')
    };
    name.is_some_and(|before| before.split_whitespace().all(qualifier))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: String) -> Vec<Source> {
        vec![Source { path: path.to_owned(), text }]
    }

    #[test]
    fn a_file_over_a_thousand_lines_is_a_breach_and_over_five_hundred_a_remark() {
        assert_eq!(check(&source("a.rs", "\n".repeat(1_001))).breaches.len(), 1);
        let remarked = check(&source("a.rs", "\n".repeat(501)));
        assert_eq!((remarked.breaches.len(), remarked.remarks.len()), (0, 1));
        assert_eq!(check(&source("a.rs", "\n".repeat(500))), Findings::default());
        assert_eq!(check(&source("data.json", "\n".repeat(5_000))), Findings::default());
    }

    #[test]
    fn a_function_over_a_hundred_lines_is_a_breach() {
        for head in ["fn f() {", "pub async fn f<T>(", "    pub(crate) fn f() {", "pub(in crate::x) const fn f() {"] {
            let indent = " ".repeat(head.len() - head.trim_start().len());
            let fits = format!("{head}\n{}{indent}}}\n", "    x();\n".repeat(98));
            assert!(check(&source("a.rs", fits)).breaches.is_empty(), "{head}");
            let long = format!("{head}\n{}{indent}}}\n", "    x();\n".repeat(99));
            assert_eq!(check(&source("a.rs", long)).breaches.len(), 1, "{head}");
        }
    }
}

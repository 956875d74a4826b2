//! Every code the outside can see is documented, and every documented code exists.

use super::{Findings, Source};

const PAGE: &str = "docs/errors.md";

pub(super) fn check(sources: &[Source]) -> Findings {
    let mut found = Findings::default();
    let page = sources.iter().find(|source| source.path == PAGE).map_or("", |source| source.text.as_str());
    let documented = documented(page);
    let product = sources.iter().filter(|source| {
        let path = source.path.as_str();
        let test = path.contains("/tests/") || path.ends_with("tests.rs");
        path.starts_with("crates/") && source.extension() == "rs" && !test
    });
    let mut product_text = String::new();
    for source in product.filter(|source| !source.path.starts_with("crates/testkit/")) {
        let text = without_tests(&source.text);
        for code in codes(text) {
            if !documented.contains(&code) {
                found.breach(format!("{}: the error code `{code}` is not in {PAGE}", source.path));
            }
        }
        product_text.push_str(text);
    }
    for code in documented {
        if !product_text.contains(&format!("\"{code}\"")) {
            found.breach(format!("{PAGE}: nothing gives the code `{code}`"));
        }
    }
    found.breaches.dedup();
    found
}

/// The codes in the first column of the page's tables.
fn documented(page: &str) -> Vec<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|rest| rest.split('`').next())
        .filter(|code| is_code(code))
        .collect()
}

/// What comes before the tests, which stand last.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// The codes given to `Problem`'s constructors: the first string among the arguments that looks like one.
fn codes(text: &str) -> Vec<&str> {
    ["Problem::client(", "Problem::us(", "Problem::provider("]
        .iter()
        .flat_map(|constructor| text.split(constructor).skip(1))
        .filter_map(|arguments| {
            let call = arguments.split(';').next().unwrap_or_default();
            // Strings are every second piece between quotation marks; the code comes before the message.
            let first = call.split('"').nth(1)?;
            is_code(first).then_some(first)
        })
        .collect()
}

fn is_code(text: &str) -> bool {
    text.len() > 2 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn an_undocumented_code_is_a_breach_and_so_is_one_that_nothing_gives() {
        let code = file(
            "crates/gateway/src/edge.rs",
            "Problem::client(StatusCode::BAD_REQUEST, \"two_credentials\", \"Send one credential.\")",
        );
        let page = file(PAGE, "| code | status |\n|---|---|\n| `gone_code` | 400 |\n");
        let found = check(&[code, page]);
        assert_eq!(found.breaches.len(), 2, "{found:?}");
    }

    #[test]
    fn a_documented_code_is_fine_also_when_given_over_several_lines() {
        let code = file("crates/gateway/src/edge.rs", "Problem::us(\n    status,\n    \"not_ready\",\n    text,\n)");
        let page = file(PAGE, "| `not_ready` | 503 |\n");
        assert_eq!(check(&[code, page]), Findings::default());
    }

    #[test]
    fn what_a_test_makes_up_is_not_looked_at() {
        let code = file("crates/base/src/problem.rs", "#[cfg(test)]\nProblem::us(s, \"made_up\", \"\")");
        assert_eq!(check(&[code]), Findings::default());
    }
}

//! Every code the outside can see is documented, and every documented code exists.

use super::{Findings, Source};

const PAGE: &str = "docs/errors.md";

/// What stands right before a code that goes out.
const GIVEN: [&str; 4] = ["Problem::client(", "Problem::us(", "Problem::provider(", "near(rule,"];

/// Where the codes of `reason()` go out too, or into the metric of refused requests.
const REASONS: [&str; 36] = [
    "crates/gateway/src/",
    "crates/control/src/apps/",
    "crates/control/src/oauth/",
    "crates/control/src/operations/error.rs",
    "crates/llm/src/error.rs",
    "crates/llm/src/json/mod.rs",
    "crates/net/src/error.rs",
    "crates/net/src/body.rs",
    "crates/proof/src/assertion.rs",
    "crates/proof/src/attest/altcha.rs",
    "crates/proof/src/attest/android.rs",
    "crates/proof/src/attest/appcheck.rs",
    "crates/proof/src/attest/apple.rs",
    "crates/proof/src/attest/apple/receipt.rs",
    "crates/proof/src/attest/approov",
    "crates/proof/src/attest/cbor.rs",
    "crates/proof/src/attest/chain.rs",
    "crates/proof/src/attest/inspect.rs",
    "crates/proof/src/attest/jwe.rs",
    "crates/proof/src/attest/online.rs",
    "crates/proof/src/attest/play.rs",
    "crates/proof/src/attest/possession.rs",
    "crates/proof/src/attest/status.rs",
    "crates/proof/src/attest/webauthn.rs",
    "crates/proof/src/dpop/error.rs",
    "crates/proof/src/jose/compact.rs",
    "crates/proof/src/jose/json.rs",
    "crates/proof/src/jose/jwk.rs",
    "crates/proof/src/jose/keyset.rs",
    "crates/proof/src/jose/secret.rs",
    "crates/proof/src/mtls/mod.rs",
    "crates/proof/src/secevent/error.rs",
    "crates/proof/src/signature/error.rs",
    "crates/proof/src/signature/field.rs",
    "crates/proof/src/token/error.rs",
    "crates/vouchgate/src/listen/caps.rs",
];

pub(super) fn check(sources: &[Source]) -> Findings {
    let mut found = Findings::default();
    let page = sources.iter().find(|source| source.path == PAGE).map_or("", |source| source.text.as_str());
    let documented = documented(page);
    let product = sources.iter().filter(|source| {
        let path = source.path.as_str();
        let test = path.contains("/tests/") || path.ends_with("tests.rs") || path.starts_with("crates/testkit/");
        path.starts_with("crates/") && source.extension() == "rs" && !test
    });
    let mut product_text = String::new();
    for source in product {
        let text = without_tests(&source.text);
        let mut codes = given(text);
        if REASONS.iter().any(|place| source.path.starts_with(place)) {
            codes.extend(reasons(text));
        }
        codes.sort_unstable();
        codes.dedup();
        for code in codes.iter().filter(|code| !documented.contains(code)) {
            found.breach(format!("{}: the code `{code}` is not in {PAGE}", source.path));
        }
        product_text.push_str(text);
    }
    for code in documented {
        if !product_text.contains(&format!("\"{code}\"")) {
            found.breach(format!("{PAGE}: nothing gives the code `{code}`"));
        }
    }
    found
}

/// The codes in the first column of the page's tables.
fn documented(page: &str) -> Vec<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split(" |").next())
        .flat_map(|cell| cell.split('`').step_by(2))
        .filter(|code| is_code(code))
        .collect()
}

/// What comes before the tests, which stand last. (Tests in a file of their own are only named, anywhere.)
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// The codes handed to what makes errors: the first string among the arguments, if it looks like one.
fn given(text: &str) -> Vec<&str> {
    GIVEN
        .iter()
        .flat_map(|constructor| text.split(constructor).skip(1))
        .filter_map(|arguments| {
            // Strings are every second piece between quotation marks; the code comes before the message.
            let call = arguments.split(';').next().unwrap_or_default();
            call.split('"').nth(1).filter(|first| is_code(first))
        })
        .collect()
}

/// The codes in the bodies of `reason()`.
fn reasons(text: &str) -> Vec<&str> {
    text.split("fn reason(")
        .skip(1)
        // Relies on rustfmt: a method ends with a brace in its own column.
        .filter_map(|rest| rest.split("\n    }\n").next())
        .flat_map(|body| body.split('"').skip(1).step_by(2))
        .filter(|text| is_code(text))
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
    fn the_codes_of_reason_count_where_they_go_out() {
        let text = "impl E {\n    fn reason(&self) -> &str {\n        match self {\n            _ => \"gone_away\",\n        }\n    }\n    fn other() { \"no_code\" }\n}\n";
        let page = file(PAGE, "| `first_code`, `gone_away` | 502 |\n");
        let first = file("crates/net/src/fetch.rs", "\"first_code\"");
        assert_eq!(check(&[file("crates/gateway/src/x.rs", text), page, first]), Findings::default());
        assert_eq!(check(&[file("crates/gateway/src/x.rs", text)]).breaches.len(), 1);
        assert_eq!(check(&[file("crates/store/src/x.rs", text)]), Findings::default());
    }

    #[test]
    fn what_a_test_makes_up_is_not_looked_at() {
        let code = file("crates/base/src/problem.rs", "#[cfg(test)]\nmod tests {\nProblem::us(s, \"made_up\", \"\")");
        assert_eq!(check(&[code]), Findings::default());
    }
}

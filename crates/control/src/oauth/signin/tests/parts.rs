//! What is sent to the client's URI, and what is asked of the provider.

use proptest::prelude::*;
use url::Url;

use super::super::{scopes, told_on, with_parameters};

#[test]
fn parameters_are_added_to_whatever_query_there_is() {
    let add = |uri| with_parameters(uri, &[("code", "a b&c"), ("iss", "https://x/")]);
    assert_eq!(add("https://a.example/cb"), "https://a.example/cb?code=a+b%26c&iss=https%3A%2F%2Fx%2F");
    assert_eq!(add("com.example.app:/cb?x=1"), "com.example.app:/cb?x=1&code=a+b%26c&iss=https%3A%2F%2Fx%2F");
}

#[test]
fn an_error_of_the_provider_is_told_on_by_a_known_name_only() {
    assert_eq!(told_on("access_denied"), "access_denied");
    assert_eq!(told_on("x&code=1"), "server_error");
    assert_eq!(scopes(&["profile".to_owned(), "openid".to_owned()]), "openid profile");
}

proptest! {
    #[test]
    fn an_added_value_never_becomes_another_parameter(value in "\\PC{0,40}") {
        let uri = with_parameters("https://a.example/cb?x=1", &[("state", &value)]);
        let url = Url::parse(&uri).unwrap();
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        prop_assert_eq!(pairs, vec![("x".to_owned(), "1".to_owned()), ("state".to_owned(), value)]);
        prop_assert_eq!(url.fragment(), None);
    }
}

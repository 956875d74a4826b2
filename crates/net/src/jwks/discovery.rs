//! From an issuer identifier to its keys' URL (RFC 8414 section 3, OpenID Connect Discovery 1.0 section 4).

use proof::jose::{JsonObject, json};
use url::Url;

use super::{Documents, JwksError};
use crate::Reach;

/// The places an issuer's metadata may be, in the order they are tried: appended as OpenID Connect has it, then
/// inserted between host and path as RFC 8414 has it, under both names.
pub(super) fn candidates(issuer: &str) -> Result<Vec<Url>, JwksError> {
    let url = Url::parse(issuer).map_err(|_| JwksError::Issuer)?;
    let web = matches!(url.scheme(), "https" | "http") && url.has_host();
    if !web || url.query().is_some() || url.fragment().is_some() {
        return Err(JwksError::Issuer);
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let mut paths = vec![
        format!("{path}/.well-known/openid-configuration"),
        format!("/.well-known/oauth-authorization-server{path}"),
    ];
    if !path.is_empty() {
        paths.push(format!("/.well-known/openid-configuration{path}"));
    }
    let at = |path: String| {
        let mut place = url.clone();
        place.set_path(&path);
        place
    };
    Ok(paths.into_iter().map(at).collect())
}

/// What `issuer` says about itself. The first place that has metadata decides; metadata of another issuer is never
/// used (RFC 8414 section 3.3).
pub async fn metadata(documents: &dyn Documents, issuer: &str, reach: Reach) -> Result<JsonObject, JwksError> {
    found(documents, issuer, reach).await.map(|(metadata, _)| metadata)
}

/// Where `issuer` says its keys are.
pub(super) async fn keys_url(documents: &dyn Documents, issuer: &str, reach: Reach) -> Result<Url, JwksError> {
    let (metadata, place) = found(documents, issuer, reach).await?;
    url_of_keys(&metadata).ok_or_else(|| JwksError::Metadata { url: place.into() })
}

async fn found(documents: &dyn Documents, issuer: &str, reach: Reach) -> Result<(JsonObject, Url), JwksError> {
    let mut first_error = None;
    for place in candidates(issuer)? {
        match documents.get(&place, reach).await {
            Ok(fetched) => return read(&fetched.body, issuer, &place).map(|metadata| (metadata, place)),
            Err(error) => {
                first_error.get_or_insert(JwksError::Fetch { url: place.into(), error });
            }
        }
    }
    Err(first_error.unwrap_or(JwksError::Issuer))
}

fn read(body: &[u8], issuer: &str, place: &Url) -> Result<JsonObject, JwksError> {
    let unusable = || JwksError::Metadata { url: place.to_string() };
    // The strict reader: a member that occurs twice could name one issuer to us and another to somebody else.
    let metadata = json::object(body, json::Limits::KEYS).map_err(|_| unusable())?;
    match metadata.get("issuer").and_then(serde_json::Value::as_str) {
        None => Err(unusable()),
        Some(named) if named != issuer => Err(JwksError::Mismatch { url: place.to_string() }),
        Some(_) => Ok(metadata),
    }
}

fn url_of_keys(metadata: &JsonObject) -> Option<Url> {
    metadata.get("jwks_uri").and_then(serde_json::Value::as_str).and_then(|text| Url::parse(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(issuer: &str) -> Vec<String> {
        candidates(issuer).unwrap().into_iter().map(String::from).collect()
    }

    #[test]
    fn both_well_known_forms_are_tried() {
        assert_eq!(
            places("https://id.example/realms/a/"),
            [
                "https://id.example/realms/a/.well-known/openid-configuration",
                "https://id.example/.well-known/oauth-authorization-server/realms/a",
                "https://id.example/.well-known/openid-configuration/realms/a",
            ]
        );
        assert_eq!(places("https://id.example").len(), 2);
    }

    #[test]
    fn an_identifier_that_is_no_https_url_is_refused() {
        for bad in
            ["", "id.example", "https://id.example/?a=b", "https://id.example/#x", "file:///etc/passwd", "data:,"]
        {
            assert_eq!(candidates(bad), Err(JwksError::Issuer), "{bad}");
        }
    }

    #[test]
    fn metadata_counts_only_if_it_names_exactly_the_issuer() {
        let place = Url::parse("https://id.example/").unwrap();
        let unusable = || JwksError::Metadata { url: place.to_string() };
        let read = |text: &str| {
            read(text.as_bytes(), "https://id.example", &place)
                .and_then(|metadata| url_of_keys(&metadata).ok_or_else(unusable))
        };
        assert!(read(r#"{"issuer":"https://id.example","jwks_uri":"https://keys.example/","x":[1]}"#).is_ok());
        for (text, code) in [
            (r#"{"issuer":"https://id.example/","jwks_uri":"https://keys.example/"}"#, "discovery_issuer_mismatch"),
            (r#"{"issuer":"https://ID.example","jwks_uri":"https://keys.example/"}"#, "discovery_issuer_mismatch"),
            (r#"{"issuer":["https://id.example"],"jwks_uri":"https://keys.example/"}"#, "discovery_metadata"),
            (r#"{"issuer":"https://id.example"}"#, "discovery_metadata"),
            (r#"{"issuer":"x","issuer":"https://id.example","jwks_uri":"https://k.example/"}"#, "discovery_metadata"),
            ("<html>", "discovery_metadata"),
        ] {
            assert_eq!(read(text).unwrap_err().reason(), code, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_identifier_and_any_document_are_read_without_fault(issuer in ".{0,60}", body in any::<Vec<u8>>()) {
            let _ = candidates(&issuer);
            if let Ok(metadata) = read(&body, &issuer, &Url::parse("https://id.example/").unwrap()) {
                let _ = url_of_keys(&metadata);
            }
        }

        #[test]
        fn metadata_is_looked_for_on_the_issuers_own_host_only(path in "[a-z./%@:;]{0,30}") {
            let Ok(found) = candidates(&format!("https://id.example/{path}")) else { return Ok(()) };
            for place in found {
                prop_assert_eq!(place.host_str(), Some("id.example"));
            }
        }
    }
}

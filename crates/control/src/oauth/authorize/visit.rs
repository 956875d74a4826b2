//! A browser's request: parameters in the query of a GET or the form of a POST, and whether a page of ours sent it.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, HeaderValue, Method, Request};

use crate::form::Form;
use crate::oauth::request::Asked;
use crate::oauth::{Oauth, OauthError};
use crate::{ClientAddress, ClientCertificate};

/// A query has at most so many bytes.
const MAX_QUERY: usize = 8 * 1024;

/// Read a request.
pub(in crate::oauth) async fn read(oauth: &Oauth, request: Request<Body>) -> Result<Asked, OauthError> {
    if request.method() == Method::POST {
        return Asked::posted(oauth, request).await;
    }
    let query = request.uri().query().unwrap_or_default();
    if query.len() > MAX_QUERY {
        return Err(OauthError::TooLarge);
    }
    let form = Form::parse(query.as_bytes()).map_err(|_| OauthError::InvalidRequest("the query is not readable"))?;
    let (parts, _) = request.into_parts();
    let Some(ClientAddress(address)) = parts.extensions.get().copied() else {
        tracing::error!("the listener gave no client address");
        return Err(OauthError::Unavailable);
    };
    let certificate = parts.extensions.get::<Arc<ClientCertificate>>().map(Arc::clone);
    Ok(Asked { parts, address, certificate, form })
}

/// Whether the browser says that a page of another site sent a form (Fetch Metadata). One that says nothing is an old one:
/// the token in the form decides alone then.
pub(in crate::oauth) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    site.is_some_and(|site| site != b"same-origin")
}

//! Token and proof on a request.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::{Client, Session, origin};
use crate::error::Error;
use crate::proof::{self, Proof, Target};

/// Fields that mean something to the gateway or would carry a provider's key: ours replace them.
const REPLACED: [&str; 9] = [
    "authorization",
    "dpop",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "signature",
    "signature-input",
    "content-digest",
    "content-length",
];

impl Client {
    /// The path and query of a request to the gateway.
    pub(super) fn path(&self, uri: &Uri) -> Result<String, Error> {
        if let Some(scheme) = uri.scheme_str() {
            let named = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
            let (origin, _) = origin(&format!("{scheme}://{named}"))?;
            if origin != self.inner.origin {
                return Err(Error::Request("another host than the gateway's"));
            }
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if path.starts_with('/') { Ok(path.to_owned()) } else { Err(Error::Request("not a path")) }
    }

    pub(super) fn sign_with(
        &self,
        session: &Session,
        request: (&Method, &str),
        headers: &mut HeaderMap,
        body: &Bytes,
    ) -> Result<(), Error> {
        self.sign_as((self.inner.proof, session), request, headers, body)
    }

    /// Put token and proof onto a request in place of whatever stands there.
    pub(super) fn sign_as(
        &self,
        (with, session): (Proof, &Session),
        (method, path): (&Method, &str),
        headers: &mut HeaderMap,
        body: &Bytes,
    ) -> Result<(), Error> {
        for name in REPLACED {
            headers.remove(name);
        }
        if let Some(name) = &self.inner.user_header {
            headers.remove(name);
            if let Some(user) = &session.user {
                headers.insert(name.clone(), user.clone());
            }
        }
        let (bare, query) = path.split_once('?').map_or((path, None), |(bare, query)| (bare, Some(query)));
        let url = format!("{}{bare}", self.inner.origin);
        let target = Target { method: method.as_str(), url: &url, query, now: self.gateway_now() };
        let signer = &*session.signer;
        // The scheme says which proof comes with the token.
        let scheme = if with == Proof::Dpop { "DPoP" } else { "Bearer" };
        let authorization = format!("{scheme} {}", session.token);
        let mut fields = vec![("authorization", authorization.clone())];
        match with {
            Proof::Dpop => {
                let proof = proof::dpop(signer, target, &session.token, self.nonce().as_deref())?;
                fields.push(("dpop", proof));
            }
            Proof::Signature => {
                let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str).transpose();
                let content_type = content_type.map_err(|_| Error::Request("a content type that is no text"))?;
                let body = (!body.is_empty()).then(|| (content_type.unwrap_or_default(), body.as_ref()));
                fields.extend(proof::signature(signer, target, &authorization, body)?);
            }
        }
        for (name, value) in fields {
            let value = HeaderValue::try_from(value).map_err(|_| Error::Internal)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(())
    }
}

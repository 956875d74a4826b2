//! Google's protocol for uploads (ai.google.dev/api/files): a request begins one and is told an address, to which the pieces are
//! sent.
//!
//! Whoever has that address may send to it, so it is not told as it is. The address told is one of ours, with Google's sealed in
//! it, whose it is, and the credential it was begun with: Google's SDKs send the pieces with no credential at all. That credential
//! is judged anew for every piece, so it ends, and is revoked, as everywhere else; one that is bound to a key or certificate does
//! not suffice alone.

use std::sync::Arc;

use base::{Problem, Secret, Tenant};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use serde_json::{Value, json};
use store::{Owner, StoredObject};
use vault::{Label, Purpose, Sealed};

use super::Asked;
use crate::edge;
use crate::objects;
use crate::settle::Receipt;
use crate::snapshot::{Provider, Snapshot};
use crate::upstream::UpstreamError;

/// What begins the sealed part of an address.
const PREFIX: &str = "vgu_";
const UPLOAD_ID: &str = "upload_id";
const URL: HeaderName = HeaderName::from_static("x-goog-upload-url");
/// What of an upload's answers means something to whoever sends the pieces.
const TOLD: [&str; 3] = ["x-goog-upload-status", "x-goog-upload-size-received", "x-goog-upload-chunk-granularity"];

/// Whether a path below `/providers/NAME` takes files by Google's protocol.
pub(crate) fn is_upload(provider: &Provider, rest: &str) -> bool {
    provider.takes_uploads() && rest.starts_with("/upload/")
}

/// Whether the body of a request is (a piece of) a file, whatever its type says: everything but what begins an upload.
pub(super) fn is_media(asked: &Asked<'_>, provider: &Provider, rest: &str) -> bool {
    let command = asked.head.headers.get("x-goog-upload-command").map(HeaderValue::as_bytes);
    is_upload(provider, rest) && !command.is_some_and(|command| command.trim_ascii().eq_ignore_ascii_case(b"start"))
}

/// The credential that an upload was begun with, for its pieces.
pub(crate) fn sealed_credential(
    snapshot: &Snapshot,
    (provider, rest): (&Provider, &str),
    query: Option<&str>,
) -> Option<Secret<String>> {
    let begun = opened(snapshot, provider, sealed(query).filter(|_| is_upload(provider, rest))?)?;
    begun.get("credential").and_then(Value::as_str).map(|text| Secret::new(text.to_owned()))
}

/// The provider's address for a piece, and the name of the key it goes with, where the provider has several.
type Continued = (PathAndQuery, Option<Arc<str>>);

/// Where a piece goes: to the address its upload was given by the provider, if it is this caller's; with the key it was begun with,
/// where the provider has several.
pub(super) fn continued(
    asked: &Asked<'_>,
    (provider, rest): (&Provider, &str),
    receipt: &Receipt,
) -> Result<Option<Continued>, Problem> {
    let query = asked.head.uri.query();
    if !provider.takes_uploads() || !edge::query_names(query, UPLOAD_ID) {
        return Ok(None);
    }
    let begun = sealed(query).filter(|_| is_upload(provider, rest));
    let begun = begun.and_then(|sealed| opened(asked.snapshot, provider, sealed)).ok_or_else(objects::not_found)?;
    let owned = begun.get("owner") == Some(&owner(&objects::owner_of(receipt.caller())));
    let target = begun.get("target").and_then(Value::as_str).filter(|_| owned).ok_or_else(objects::not_found)?;
    let key = begun.get("key").and_then(Value::as_str).map(Arc::from);
    PathAndQuery::try_from(target).map(|path| Some((path, key))).map_err(|_| objects::not_found())
}

/// What the caller is told of an upload besides the answer: how far it is, and where the pieces go.
pub(super) fn told(
    asked: &Asked<'_>,
    (provider, rest): (&Provider, &str),
    headers: &HeaderMap,
    maker: &StoredObject,
) -> Result<HeaderMap, Problem> {
    let mut told = HeaderMap::new();
    if !is_upload(provider, rest) {
        return Ok(told);
    }
    for name in TOLD.map(HeaderName::from_static) {
        told.extend(headers.get(&name).map(|value| (name, value.clone())));
    }
    let Some(address) = headers.get(&URL) else { return Ok(told) };
    let wrong = || UpstreamError::Kind.problem();
    let url = address.to_str().ok().and_then(|text| url::Url::parse(text).ok()).ok_or_else(wrong)?;
    // The key goes nowhere else, and neither does the file.
    let root = format!("{}/upload/", provider.root_path());
    if url.origin().ascii_serialization() != provider.origin || !url.path().starts_with(&root) {
        return Err(wrong());
    }
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let here = |credential: Option<&str>| {
        let owner = owner(&maker.owner);
        let begun = json!({"target": target, "owner": owner, "credential": credential, "key": maker.key});
        let sealed =
            asked.snapshot.keys.vault().seal(&label(&Tenant::default(), provider), begun.to_string().as_bytes());
        let sealed = URL_SAFE_NO_PAD.encode(sealed.ok()?.as_bytes());
        Some(format!("/providers/{}{rest}?{UPLOAD_ID}={PREFIX}{sealed}&upload_protocol=resumable", provider.name))
    };
    let credential = edge::presented(asked.snapshot, asked.head).map(|presented| presented.text);
    let fits = |path: &String| path.len() <= asked.snapshot.limits.uri;
    // One that is too long for an address has to be sent with every piece.
    let path = here(credential).filter(fits).or_else(|| here(None)).ok_or_else(wrong)?;
    let address = format!("{}{path}", origin(asked));
    told.insert(URL, HeaderValue::try_from(address).map_err(|_| wrong())?);
    Ok(told)
}

/// The origin by which the caller reaches us, else the one that tokens name.
fn origin<'s>(asked: &Asked<'s>) -> &'s str {
    let authority = asked.head.uri.authority().map(http::uri::Authority::as_str);
    let host = authority.or_else(|| asked.head.headers.get(header::HOST)?.to_str().ok()).unwrap_or_default();
    let origins = &asked.snapshot.origins;
    let same = |origin: &&String| origin.split_once("://").is_some_and(|(_, ours)| ours.eq_ignore_ascii_case(host));
    origins.iter().find(same).or_else(|| origins.first()).map_or("", String::as_str)
}

fn owner(owner: &Owner) -> Value {
    json!([owner.issuer, owner.subject, owner.client])
}

fn label<'a>(tenant: &'a Tenant, provider: &'a Provider) -> Label<'a> {
    Label::new(tenant, Purpose::Upload, provider.name.as_str(), 1).origin(Some(&provider.origin))
}

/// The sealed part of an address, as we wrote it.
fn sealed(query: Option<&str>) -> Option<&str> {
    let mut named = query?.split('&').filter_map(|pair| pair.strip_prefix(UPLOAD_ID)?.strip_prefix('='));
    let first = named.next()?;
    first.strip_prefix(PREFIX).filter(|_| named.next().is_none())
}

fn opened(snapshot: &Snapshot, provider: &Provider, sealed: &str) -> Option<Value> {
    let sealed = Sealed::from_bytes(URL_SAFE_NO_PAD.decode(sealed).ok()?).ok()?;
    let opened = snapshot.keys.vault().open(&label(&Tenant::default(), provider), &sealed).ok()?;
    serde_json::from_slice(opened.expose()).ok()
}

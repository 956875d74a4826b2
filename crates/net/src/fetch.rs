//! Small JSON documents from places the operator named: key sets and discovery documents are fetched, an identity
//! provider's token endpoint is sent a form.

use std::time::Duration;

use base::{LimitedBuffer, Secret, Who};
use bytes::Buf;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use url::Url;

use crate::{BodyError, Deadlines, Egress, EgressError, OutBody, Reach, Target, TargetError, UpstreamBody};

/// Limits of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// Size of the document, bytes.
    pub bytes: usize,
    /// Time for everything together.
    pub time: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { bytes: 256 * 1024, time: Duration::from_secs(5) }
    }
}

/// A fetched document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The body: said to be JSON, not parsed yet.
    pub body: Vec<u8>,
    /// How long it may be kept, if the server says so (`Cache-Control: max-age`; `no-store` and `no-cache` are zero).
    pub max_age: Option<Duration>,
}

/// Why a document was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL cannot be a destination.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The request failed.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The body ended early.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Not 200. Redirects are not followed.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// Not `application/json` or `application/*+json`, or compressed.
    #[error("the answer is not plain JSON")]
    Type,
    /// Over the size limit.
    #[error("the document is too large")]
    TooLarge,
    /// Over the time limit.
    #[error("the fetch took too long")]
    Timeout,
}

impl FetchError {
    /// A stable short code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Target(error) => error.reason(),
            Self::Egress(error) => error.reason(),
            Self::Body(error) => error.reason(),
            Self::Status(_) => "fetch_status",
            Self::Type => "fetch_type",
            Self::TooLarge => "fetch_too_large",
            Self::Timeout => "fetch_timeout",
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::Target(_) => Who::Us,
            Self::Egress(error) => error.who(),
            _ => Who::Provider,
        }
    }
}

/// GET `url`: TLS only (plain HTTP where `reach` allows private addresses, and only there), no redirects, JSON type,
/// bounded in size and time.
pub async fn fetch_json(egress: &Egress, url: &Url, reach: Reach, limits: FetchLimits) -> Result<Fetched, FetchError> {
    let target = Target::new(url, reach)?;
    tokio::time::timeout(limits.time, get(egress, &target, url, limits)).await.map_err(|_| FetchError::Timeout)?
}

/// A form to be sent (`application/x-www-form-urlencoded`).
#[derive(Debug)]
pub struct FormPost {
    /// The encoded parameters. They hold codes and secrets.
    pub body: Secret<String>,
    /// The `Authorization` header, if there is one.
    pub authorization: Option<HeaderValue>,
}

/// What a form was answered with: JSON, whatever the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The status: an OAuth error is 400 or 401 (RFC 6749 section 5.2).
    pub status: StatusCode,
    /// The body: said to be JSON, not parsed yet.
    pub body: Vec<u8>,
}

/// POST a form to `url`, under the same rules as [`fetch_json`]; never repeated, since what it holds is for one use. A
/// status that is neither success nor an OAuth error is a [`FetchError::Status`].
pub async fn post_form(
    egress: &Egress,
    url: &Url,
    reach: Reach,
    form: FormPost,
    limits: FetchLimits,
) -> Result<Posted, FetchError> {
    let target = Target::new(url, reach)?;
    tokio::time::timeout(limits.time, post(egress, &target, url, (form, limits.bytes)))
        .await
        .map_err(|_| FetchError::Timeout)?
}

/// Something small that is asked of a place the operator named, with header fields of its own.
#[derive(Debug, Default)]
pub struct Question {
    /// The header fields; `Accept` and `User-Agent` are there already.
    pub headers: HeaderMap,
    /// What is posted: JSON. Absent: GET.
    pub json: Option<Secret<String>>,
}

/// What a [`Question`] was answered with.
#[derive(Debug)]
pub struct Replied {
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, of whatever type.
    pub body: Secret<Vec<u8>>,
}

/// Ask `url`, under the same rules as [`fetch_json`] but for the answer's type and status, which are the caller's to look at; never
/// repeated.
pub async fn query(
    egress: &Egress,
    url: &Url,
    reach: Reach,
    question: Question,
    limits: FetchLimits,
) -> Result<Replied, FetchError> {
    let target = Target::new(url, reach)?;
    let asked = async {
        let body =
            question.json.as_ref().map_or_else(OutBody::empty, |json| OutBody::from(json.expose().as_bytes().to_vec()));
        let mut request = request_for(url, body)?;
        request.headers_mut().extend(question.headers);
        if question.json.is_some() {
            *request.method_mut() = Method::POST;
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let response = egress.send(&target, request, &patient()).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(FetchError::Type);
        }
        let body = Secret::new(read_any(response, limits.bytes).await?);
        Ok(Replied { status, headers, body })
    };
    tokio::time::timeout(limits.time, asked).await.map_err(|_| FetchError::Timeout)?
}

async fn get(egress: &Egress, target: &Target, url: &Url, limits: FetchLimits) -> Result<Fetched, FetchError> {
    let request = request_for(url, OutBody::empty())?;
    let response = egress.send(target, request, &patient()).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let max_age = max_age(response.headers());
    Ok(Fetched { body: read(response, limits.bytes).await?, max_age })
}

async fn post(
    egress: &Egress,
    target: &Target,
    url: &Url,
    (form, most): (FormPost, usize),
) -> Result<Posted, FetchError> {
    let mut request = request_for(url, OutBody::from(form.body.expose().as_bytes().to_vec()))?;
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if let Some(mut authorization) = form.authorization {
        authorization.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, authorization);
    }
    let response = egress.send(target, request, &patient()).await?;
    let status = response.status();
    match status {
        StatusCode::OK | StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => {
            Ok(Posted { status, body: read(response, most).await? })
        }
        other => Err(FetchError::Status(other)),
    }
}

pub(crate) fn request_for(url: &Url, body: OutBody) -> Result<Request<OutBody>, FetchError> {
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::new(body);
    *request.uri_mut() = path.parse().map_err(|_| TargetError::Host)?;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("vouchgate"));
    Ok(request)
}

/// The limit on everything together is the caller's; no step needs one of its own.
pub(crate) fn patient() -> Deadlines {
    let never = Duration::from_hours(1);
    Deadlines { connect: never, tls: never, first_byte: never, idle: never }
}

/// The body, if it is plain JSON of at most `most` bytes.
async fn read(response: Response<UpstreamBody>, most: usize) -> Result<Vec<u8>, FetchError> {
    if !is_json(response.headers()) {
        return Err(FetchError::Type);
    }
    read_any(response, most).await
}

/// The body, of at most `most` bytes.
async fn read_any(response: Response<UpstreamBody>, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = response.into_body();
    let mut document = LimitedBuffer::new(most);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data()
            && !document.push(data.chunk())
        {
            return Err(FetchError::TooLarge);
        }
    }
    Ok(document.into_vec())
}

fn is_json(headers: &HeaderMap) -> bool {
    let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
    let Some(Ok(kind)) = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) else {
        return false;
    };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = match essence.strip_prefix("application/") {
        Some(subtype) => subtype == "json" || subtype.ends_with("+json"),
        None => false,
    };
    plain && json
}

/// `max-age` of RFC 9111 section 5.2.2.1; the smallest if there are several.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    directives
        .filter_map(|directive| {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "max-age" => value.trim().trim_matches('"').parse().ok().map(Duration::from_secs),
                "no-store" | "no-cache" => Some(Duration::ZERO),
                _ => None,
            }
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: &header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn json_is_what_says_it_is_json() {
        for yes in ["application/json", "application/JSON; charset=utf-8", "application/jwk-set+json"] {
            assert!(is_json(&headers(&header::CONTENT_TYPE, &[yes])), "{yes}");
        }
        for no in ["text/html", "text/json", "application/xml", "application/jsonp", "json"] {
            assert!(!is_json(&headers(&header::CONTENT_TYPE, &[no])), "{no}");
        }
        assert!(!is_json(&HeaderMap::new()));
        let mut zipped = headers(&header::CONTENT_TYPE, &["application/json"]);
        zipped.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(!is_json(&zipped));
    }

    #[test]
    fn the_shortest_age_counts() {
        let age = |values: &[&str]| max_age(&headers(&header::CACHE_CONTROL, values));
        assert_eq!(age(&["public, max-age=300"]), Some(Duration::from_mins(5)));
        assert_eq!(age(&["max-age=300", "Max-Age=\"20\""]), Some(Duration::from_secs(20)));
        assert_eq!(age(&["max-age=300, no-cache"]), Some(Duration::ZERO));
        assert_eq!(age(&["private, s-maxage=3, max-age=-1, max-age="]), None);
    }

    proptest! {
        #[test]
        fn any_cache_control_is_read_without_fault(text in "[ -~]{0,80}") {
            let _ = max_age(&headers(&header::CACHE_CONTROL, &[&text]));
            let _ = is_json(&headers(&header::CONTENT_TYPE, &[&text]));
        }
    }
}

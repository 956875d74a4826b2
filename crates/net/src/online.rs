//! Asking another service about evidence a client brought ([`proof::attest::online`]): one POST, bounded in size and time,
//! never repeated, since most evidence counts once.

use std::time::Duration;

use base::{LimitedBuffer, Who};
use bytes::Buf;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use proof::attest::online::{MAX_ANSWER_LEN, OnlineCheck, OnlineError, OnlineRequest};
use url::Url;

use crate::fetch::{patient, request_for};
use crate::{Egress, FetchError, OutBody, Reach, Target, TargetError, UpstreamBody};

/// Time for everything together, where nothing else is configured: a client waits.
pub const ASK_TIME: Duration = Duration::from_secs(5);

/// Why a check has no good end. Whatever it is, the evidence does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The service could not be asked.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The service was asked, or what to ask it could not be said.
    #[error(transparent)]
    Check(#[from] OnlineError),
}

impl AskError {
    /// A stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.reason(),
            Self::Check(error) => error.reason(),
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::Fetch(error) => error.who(),
            Self::Check(error) => error.who(),
        }
    }
}

/// Ask, and judge the answer. TLS only, but where `reach` allows private addresses; no redirects.
pub async fn ask<C: OnlineCheck>(
    egress: &Egress,
    reach: Reach,
    check: &C,
    time: Duration,
) -> Result<C::Answer, AskError> {
    let (status, body) = post(egress, reach, check.request()?, time).await?;
    Ok(check.judge(status, &body)?)
}

/// Send a question, and read status and body of what is answered, which somebody else judges.
pub async fn post(
    egress: &Egress,
    reach: Reach,
    question: OnlineRequest,
    time: Duration,
) -> Result<(u16, Vec<u8>), AskError> {
    let url = Url::parse(&question.url).map_err(|_| FetchError::Target(TargetError::Host))?;
    let target = Target::new(&url, reach).map_err(FetchError::Target)?;
    let exchange = exchange(egress, &target, &url, question);
    let (status, body) = tokio::time::timeout(time, exchange).await.map_err(|_| FetchError::Timeout)??;
    Ok((status.as_u16(), body))
}

async fn exchange(
    egress: &Egress,
    target: &Target,
    url: &Url,
    question: OnlineRequest,
) -> Result<(StatusCode, Vec<u8>), AskError> {
    let mut request = request_for(url, OutBody::from(question.body.expose().clone()))?;
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(question.content_type));
    if let Some(authorization) = question.authorization {
        let value = HeaderValue::from_str(authorization.expose());
        let mut value = value.map_err(|_| OnlineError::Key(proof::jose::SignError::Claims))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    let response = egress.send(target, request, &patient()).await.map_err(FetchError::Egress)?;
    Ok((response.status(), read(response).await?))
}

/// The body, of whatever type: Apple answers in words where there is nothing to say.
async fn read(response: Response<UpstreamBody>) -> Result<Vec<u8>, FetchError> {
    if response.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(FetchError::Type);
    }
    let mut body = response.into_body();
    let mut answer = LimitedBuffer::new(MAX_ANSWER_LEN);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data()
            && !answer.push(data.chunk())
        {
            return Err(FetchError::TooLarge);
        }
    }
    Ok(answer.into_vec())
}

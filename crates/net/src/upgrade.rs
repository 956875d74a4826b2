//! Connections that stop speaking HTTP (RFC 9110 section 7.8): each opened for one exchange, none of them kept.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::egress::{address, exchange, explain, strip};
use crate::pool::{Slot, Wire};
use crate::{Deadlines, Egress, EgressError, OutBody, Target, UpstreamBody};

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that speaks something else from now on.
pub type Tunnel = Box<dyn Duplex>;

impl Egress {
    /// Send a request that asks to switch to `protocol`, over a new HTTP/1.1 connection. Where the peer does (101), the
    /// response's body holds the [`Tunnel`]; the caller judges the protocol's own headers. Otherwise as [`Egress::send`].
    pub async fn upgrade(
        &self,
        to: &Target,
        mut request: Request<OutBody>,
        protocol: &'static str,
        deadlines: &Deadlines,
    ) -> Result<Response<UpstreamBody>, EgressError> {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        strip(&mut request);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
        // A slot of its own: the connection is never anybody else's.
        let slot = Arc::new(Slot::new(self.pool_limits()));
        let mut lease = self.connector().connect_once(to, &slot, deadlines).await?;
        address(&mut request, to, &path, &lease.wire);
        let sent = tokio::time::timeout(deadlines.first_byte, exchange(&mut lease, request))
            .await
            .map_err(|_| EgressError::FirstByteTimeout)?;
        let response = sent.map_err(|failed| explain(&failed.into_error(), false))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response.map(|body| UpstreamBody::new(body, deadlines.idle, lease)));
        }
        let named = response.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
        if !named.is_some_and(|named| named.eq_ignore_ascii_case(protocol)) {
            return Err(EgressError::Malformed);
        }
        let mut response = response;
        let switched = hyper::upgrade::on(&mut response);
        let switched = match &mut lease.wire {
            Wire::H1(connection) => connection.until(switched).await,
            Wire::H2(_) => switched.await,
        };
        let stream = switched.map_err(|error| explain(&error, false))?;
        let tunnel: Tunnel = Box::new(TokioIo::new(stream));
        Ok(response.map(|body| UpstreamBody::switched(body, deadlines.idle, tunnel)))
    }
}

//! What can go wrong on the way out, until the response's headers have arrived.

use base::Who;

/// Why a request got no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// Every address of the host is out of reach for this destination.
    #[error("{host} resolves to {class} addresses only, which this destination may not reach")]
    Refused {
        /// The host.
        host: String,
        /// The class of the first address refused.
        class: &'static str,
    },
    /// The name has no address, or the resolver failed.
    #[error("{host} cannot be resolved")]
    Resolve {
        /// The host.
        host: String,
    },
    /// No address accepted a connection.
    #[error("no connection to {host}: {kind}")]
    Connect {
        /// The host.
        host: String,
        /// What the last attempt met.
        kind: std::io::ErrorKind,
    },
    /// Resolving and connecting took longer than allowed.
    #[error("connecting to {host} took too long")]
    ConnectTimeout {
        /// The host.
        host: String,
    },
    /// The TLS handshake failed: most often an untrusted or wrong certificate.
    #[error("no TLS with {host}: {detail}")]
    Tls {
        /// The host.
        host: String,
        /// What rustls says.
        detail: String,
    },
    /// The TLS handshake took longer than allowed.
    #[error("the TLS handshake with {host} took too long")]
    TlsTimeout {
        /// The host.
        host: String,
    },
    /// No response headers in time.
    #[error("no response within the time allowed")]
    FirstByteTimeout,
    /// The connection ended before a response.
    #[error("the connection was closed before a response came")]
    Closed {
        /// Whether the connection had carried a request before: then it may just have idled out.
        reused: bool,
    },
    /// The response is not HTTP, or of a kind not asked for.
    #[error("the response is not valid HTTP")]
    Malformed,
    /// The response's headers are over the limit.
    #[error("the response's headers are too large")]
    HeadTooLarge,
    /// The request's own body failed while it was being sent.
    #[error("the request's body ended early")]
    RequestBody,
    /// The peer refused the request unprocessed (HTTP/2 `REFUSED_STREAM`), or every connection closed at once.
    #[error("the peer does not take requests now")]
    Busy,
    /// The trust roots or TLS parameters cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl EgressError {
    /// A stable short code, for metrics, logs and error bodies.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "address_refused",
            Self::Resolve { .. } => "dns_failed",
            Self::Connect { .. } => "connect_failed",
            Self::ConnectTimeout { .. } => "connect_timeout",
            Self::Tls { .. } => "tls_failed",
            Self::TlsTimeout { .. } => "tls_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Closed { .. } => "upstream_closed",
            Self::Malformed => "upstream_malformed",
            Self::HeadTooLarge => "upstream_head_too_large",
            Self::RequestBody => "request_body_failed",
            Self::Busy => "upstream_busy",
            Self::Setup(_) => "tls_setup",
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::Refused { .. } | Self::Setup(_) => Who::Us,
            Self::RequestBody => Who::Client,
            _ => Who::Provider,
        }
    }

    /// Whether the same request may succeed later.
    pub const fn retryable(&self) -> bool {
        !matches!(self, Self::Refused { .. } | Self::Setup(_) | Self::RequestBody)
    }

    /// Whether the request certainly was not processed, so that sending it again cannot double its effect.
    pub const fn unsent(&self) -> bool {
        !matches!(
            self,
            Self::FirstByteTimeout | Self::Closed { .. } | Self::Malformed | Self::HeadTooLarge | Self::RequestBody
        )
    }

    /// Whether it is a matter of time: 504 rather than 502.
    pub const fn timed_out(&self) -> bool {
        matches!(self, Self::ConnectTimeout { .. } | Self::TlsTimeout { .. } | Self::FirstByteTimeout)
    }
}

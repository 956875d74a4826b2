//! The listeners from outside, as bytes on a socket.

mod caps;
mod client_cert;
mod desync;
mod drain;
mod http2;
mod limits;
mod slow;
mod support;
mod tls;

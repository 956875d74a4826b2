//! Clients known by the certificate of their TLS connection (RFC 8705 section 2). That the client holds the
//! certificate's key was shown in the handshake.

use proof::mtls::ClientCertificate;

use super::super::Oauth;
use super::super::request::Asked;
use crate::operations::Authentication;

impl Oauth {
    /// Whether the request's certificate is one the client is known by.
    pub(super) fn certificate_holds(&self, auth: &Authentication, asked: &Asked) -> bool {
        let Some(shown) = &asked.certificate else { return false };
        let certificate = match ClientCertificate::parse(&shown.der) {
            Ok(certificate) => certificate,
            Err(error) => {
                tracing::info!(reason = error.reason(), "client certificate refused");
                return false;
            }
        };
        if !certificate.in_date(self.operations().clock().now()) {
            tracing::info!(reason = "certificate_out_of_date", "client certificate refused");
            return false;
        }
        match auth {
            // A name means something only if an authority we trust has signed it.
            Authentication::Tls(rule) => shown.trusted && certificate.matches(rule),
            Authentication::SelfSignedTls(known) => known.contains(certificate.thumbprint()),
            _ => false,
        }
    }
}

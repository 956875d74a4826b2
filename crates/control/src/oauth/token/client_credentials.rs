//! The client credentials grant (RFC 6749 section 4.4): a program asks for itself.

use super::super::request::unavailable;
use super::super::{Oauth, OauthError};
use super::Applicant;
use crate::operations::{MintedToken, NewToken, granted, parse_scopes};

impl Oauth {
    pub(super) async fn client_credentials(&self, applicant: Applicant<'_>) -> Result<MintedToken, OauthError> {
        let Applicant { asked, client, binding, .. } = applicant;
        // A name alone proves nothing (RFC 6749 section 4.4.2).
        if client.is_public() {
            return Err(OauthError::UnauthorizedClient);
        }
        let wanted = asked.form.get("scope").map(parse_scopes).transpose().map_err(|_| OauthError::InvalidScope)?;
        let scopes = granted(client, wanted).map_err(|_| OauthError::InvalidScope)?;
        let new = NewToken { binding, ..NewToken::new(client, client.name.as_str(), &scopes) };
        self.operations().issue(&new).await.map_err(|error| unavailable(&error))
    }
}

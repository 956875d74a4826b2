//! The client credentials grant (RFC 6749 section 4.4): a program asks for itself.

use super::super::request::{Asked, unavailable};
use super::super::{Oauth, OauthError};
use crate::operations::{MintedToken, NewToken, Registration, granted, parse_scopes};

impl Oauth {
    pub(super) async fn client_credentials(
        &self,
        client: &Registration,
        asked: &Asked,
    ) -> Result<MintedToken, OauthError> {
        let wanted = asked.form.get("scope").map(parse_scopes).transpose().map_err(|_| OauthError::InvalidScope)?;
        let scopes = granted(client, wanted).map_err(|_| OauthError::InvalidScope)?;
        let token = self.operations().issue(&NewToken::new(client, client.name.as_str(), &scopes)).await;
        token.map_err(|error| unavailable(&error))
    }
}

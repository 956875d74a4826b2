//! What is kept between two steps of a flow: the stored bodies that the browser's side writes and the token endpoint
//! redeems. They hold no credential; codes themselves are stored as hashes.

use base::{Name, Rng, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Somebody who signed in at the OpenID provider of `[signin]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedIn {
    /// The configured name of the issuer that vouched for them.
    pub issuer: Name,
    /// `sub` there. With the issuer the identity; in our tokens written by [`SignedIn::own_subject`].
    pub subject: String,
    /// Groups, by the issuer's claim mapping.
    #[serde(default)]
    pub groups: Vec<String>,
    /// When they authenticated there (`auth_time`, else `iat` of the ID token).
    pub auth_time: Timestamp,
    /// When they came back to us. A revocation reaches every sign-in from before it.
    pub at: Timestamp,
    /// Our own session (`sid`): new for every sign-in ([`new_session`]). Ends with everything issued in it.
    pub sid: String,
    /// The provider's session (`sid` of its ID token), by which its security events speak of it: `orig_sid` in our tokens.
    #[serde(default)]
    pub upstream_sid: Option<String>,
}

impl SignedIn {
    /// The subject of our tokens for this person: the pair (issuer, subject) in one text. A name of ours has no `|`, so no
    /// two pairs give the same.
    pub fn own_subject(&self) -> String {
        own_subject(&self.issuer, &self.subject)
    }
}

/// The subject of our tokens for somebody whom `issuer` knows as `subject`.
pub fn own_subject(issuer: &Name, subject: &str) -> String {
    format!("{issuer}|{subject}")
}

/// An authorization code (RFC 6749 section 4.1), stored under the hash of the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationCode {
    /// The client it was issued to.
    pub client: Name,
    /// The `redirect_uri` of the authorization request, as sent there; the token request must repeat it exactly if it was
    /// sent. With PAR or without, absent only if the client has one and sent none.
    pub redirect_uri: Option<String>,
    /// The scopes granted.
    pub scopes: Vec<String>,
    /// The PKCE challenge, method S256 (RFC 7636 section 4.2): never absent.
    pub code_challenge: String,
    /// `nonce` for the ID token.
    pub nonce: Option<String>,
    /// The thumbprint the code is bound to (RFC 9449 section 10), base64url.
    pub dpop_jkt: Option<String>,
    /// Who.
    pub person: SignedIn,
}

/// A device's request (RFC 8628), stored under the hash of the device code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceGrant {
    /// The client that asked.
    pub client: Name,
    /// The scopes asked for.
    pub scopes: Vec<String>,
    /// The thumbprint the grant is bound to, when the client proved a key at the device authorization endpoint, base64url.
    #[serde(default)]
    pub dpop_jkt: Option<String>,
    /// What the person at the other device has said.
    pub decision: Decision,
}

/// What became of a device's request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Nobody has decided yet: `authorization_pending`.
    Waiting,
    /// Yes.
    Approved {
        /// Who said so.
        person: SignedIn,
    },
    /// No: `access_denied`.
    Denied,
}

/// A new session of our own: 128 random bits.
pub fn new_session(rng: &dyn Rng) -> String {
    let mut random = [0u8; 16];
    rng.fill(&mut random);
    URL_SAFE_NO_PAD.encode(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person() -> SignedIn {
        SignedIn {
            issuer: Name::new("corp").unwrap(),
            subject: "a|b".to_owned(),
            groups: vec!["staff".to_owned()],
            auth_time: Timestamp::from_secs(1_800_000_000),
            at: Timestamp::from_secs(1_800_000_000),
            sid: "s".to_owned(),
            upstream_sid: None,
        }
    }

    #[test]
    fn what_is_stored_comes_back_and_the_subject_names_the_pair() {
        let code = AuthorizationCode {
            client: Name::new("app").unwrap(),
            redirect_uri: Some("http://127.0.0.1:1/cb".to_owned()),
            scopes: vec!["chat".to_owned()],
            code_challenge: "x".to_owned(),
            nonce: None,
            dpop_jkt: None,
            person: person(),
        };
        let text = serde_json::to_string(&code).unwrap();
        assert_eq!(serde_json::from_str::<AuthorizationCode>(&text).unwrap(), code);
        assert_eq!(code.person.own_subject(), "corp|a|b");
        assert_ne!(new_session(&base::SystemRng), new_session(&base::SystemRng));
        for decision in [Decision::Waiting, Decision::Denied, Decision::Approved { person: person() }] {
            let grant = DeviceGrant { client: code.client.clone(), scopes: Vec::new(), dpop_jkt: None, decision };
            let text = serde_json::to_string(&grant).unwrap();
            assert_eq!(serde_json::from_str::<DeviceGrant>(&text).unwrap(), grant);
        }
    }
}

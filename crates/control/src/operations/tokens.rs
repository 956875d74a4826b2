//! Minting access tokens (RFC 9068).

use std::time::Duration;

use base::Span;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Once, OperationError, Operations, Registration, parse_scopes};

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 256;

/// A token an administrator asks for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MintToken {
    /// The client it is for.
    pub client: String,
    /// The subject. Absent: the client's name.
    #[serde(default)]
    pub subject: Option<String>,
    /// Scopes, separated by spaces; all must be the client's. Absent: all of the client's.
    #[serde(default)]
    pub scope: Option<String>,
    /// How long it lives, at most the client's `token_ttl`, which it is when absent.
    #[serde(default)]
    pub ttl: Option<String>,
}

/// A token (RFC 6749 section 5.1).
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MintedToken {
    /// The token.
    pub access_token: Once,
    /// `Bearer`.
    pub token_type: &'static str,
    /// Seconds until it expires.
    pub expires_in: u64,
    /// Its scopes, separated by spaces. Absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl Operations {
    /// Mint a token for a client, without its secret: for whoever administers.
    pub async fn token_mint(&self, mint: &MintToken, by: &str) -> Result<MintedToken, OperationError> {
        let client = self
            .client_registration(&mint.client)
            .await?
            .ok_or_else(|| OperationError::NotFound { kind: "client", name: mint.client.clone() })?;
        if client.disabled {
            return Err(OperationError::NotAllowed(format!("the client {} is disabled", client.name)));
        }
        let asked = mint.scope.as_deref().map(parse_scopes).transpose()?;
        let scopes = granted(&client, asked).map_err(|missing| {
            OperationError::value("scope", format!("the client {} does not have the scope {missing}", client.name))
        })?;
        let ttl = asked_ttl(&client, mint.ttl.as_deref())?;
        let subject = mint.subject.as_deref().unwrap_or(client.name.as_str());
        if subject.is_empty() || subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
            return Err(OperationError::value(
                "subject",
                "a subject is 1 to 256 bytes of text without control characters",
            ));
        }
        let token = self.issue(&client, subject, &scopes, ttl).await?;
        tracing::info!(target: "audit", by, client = %client.name, subject, "token minted");
        Ok(token)
    }

    /// Sign a token for a client that has been authenticated. The caller has checked scopes and time.
    pub(crate) async fn issue(
        &self,
        client: &Registration,
        subject: &str,
        scopes: &[String],
        ttl: Duration,
    ) -> Result<MintedToken, OperationError> {
        let keys = self.published_keys().await?;
        let signer = keys.signer().ok_or_else(|| {
            OperationError::NotAllowed("there is no signing key yet; start the server once".to_owned())
        })?;
        let mut jti = [0u8; 18];
        self.rng.fill(&mut jti);
        let (now, seconds) = (self.clock.now().as_secs(), ttl.as_secs());
        let scope = (!scopes.is_empty()).then(|| scopes.join(" "));
        let mut claims = json!({
            "iss": self.external_url,
            "sub": subject,
            "aud": self.external_url,
            "client_id": client.name,
            "iat": now,
            "exp": now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
            "jti": URL_SAFE_NO_PAD.encode(jti),
        });
        if let (Some(claims), Some(scope)) = (claims.as_object_mut(), &scope) {
            claims.insert("scope".into(), scope.as_str().into());
        }
        let token = signer.sign("at+jwt", &claims)?;
        Ok(MintedToken { access_token: Once(token.into()), token_type: "Bearer", expires_in: seconds, scope })
    }
}

fn asked_ttl(client: &Registration, asked: Option<&str>) -> Result<Duration, OperationError> {
    let Some(text) = asked else { return Ok(client.token_ttl) };
    let span: Span = text.parse().map_err(|e: base::UnitError| OperationError::value("ttl", e.to_string()))?;
    if span.duration() < Duration::from_secs(1) || span.duration() > client.token_ttl {
        let most = Span::new(client.token_ttl);
        return Err(OperationError::value(
            "ttl",
            format!("tokens of the client {} live 1s to {most}; raise its token_ttl for more", client.name),
        ));
    }
    Ok(span.duration())
}

/// The scopes a token gets: all of the client's when none were asked for; else those asked for, if the client has them
/// all. The error is one it does not have. Compared whole and exactly.
pub(crate) fn granted(client: &Registration, asked: Option<Vec<String>>) -> Result<Vec<String>, String> {
    match asked {
        None => Ok(client.scopes.clone()),
        Some(asked) => match asked.iter().find(|scope| !client.scopes.contains(scope)) {
            Some(missing) => Err(missing.clone()),
            None => Ok(asked),
        },
    }
}

//! Minting access tokens (RFC 9068).

use std::time::Duration;

use aws_lc_rs::digest;
use base::{Secret, Span, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::Requirement;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
    /// The thumbprint (RFC 7638, base64url) of the key that whoever uses it has to prove (RFC 9449). Absent: whoever has
    /// the token can use it.
    #[serde(default)]
    pub jkt: Option<String>,
}

/// A token (RFC 6749 section 5.1).
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MintedToken {
    /// The token.
    pub access_token: Once,
    /// `DPoP` if it is bound to a key that is proved so (RFC 9449 section 5), else `Bearer`.
    pub token_type: &'static str,
    /// Seconds until it expires.
    pub expires_in: u64,
    /// Its scopes, separated by spaces. Absent: it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// For the next access token (RFC 6749 section 6).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub refresh_token: Option<Once>,
    /// Who signed in (OpenID Connect Core section 3.1.3.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub id_token: Option<Once>,
    /// What an exchange gave (RFC 8693 section 2.2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub issued_token_type: Option<&'static str>,
}

/// The key or certificate that whoever uses a token must hold (`cnf`, RFC 7800).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// Thumbprint of a DPoP key (RFC 9449 section 6.1).
    pub jkt: Option<[u8; 32]>,
    /// SHA-256 of a client certificate (RFC 8705 section 3.1).
    pub x5t_s256: Option<[u8; 32]>,
    /// The public key itself (RFC 7800 section 3.2), for whoever verifies request signatures.
    pub jwk: Option<Value>,
}

impl Binding {
    fn cnf(&self) -> Option<Value> {
        let mut cnf = Map::new();
        for (name, thumbprint) in [("jkt", self.jkt), ("x5t#S256", self.x5t_s256)] {
            if let Some(thumbprint) = thumbprint {
                cnf.insert(name.to_owned(), URL_SAFE_NO_PAD.encode(thumbprint).into());
            }
        }
        if let Some(jwk) = &self.jwk {
            cnf.insert("jwk".to_owned(), jwk.clone());
        }
        (!cnf.is_empty()).then_some(Value::Object(cnf))
    }
}

/// An access token to be issued. Made with [`NewToken::new`] and what differs from it.
#[derive(Debug, Clone)]
pub(crate) struct NewToken<'a> {
    /// For whom.
    pub(crate) client: &'a Registration,
    /// About whom.
    pub(crate) subject: &'a str,
    /// What it is for.
    pub(crate) scopes: &'a [String],
    /// How long it lives.
    pub(crate) ttl: Duration,
    /// Who may use it.
    pub(crate) binding: Binding,
    /// The client that acts for the subject (`act`, RFC 8693 section 4.1).
    pub(crate) actor: Option<&'a str>,
    /// The subject's groups.
    pub(crate) groups: &'a [String],
    /// Our session (`sid`): revoking it revokes the token.
    pub(crate) session: Option<&'a str>,
    /// The session at the issuer that vouches for the subject (`orig_sid`).
    pub(crate) upstream_session: Option<&'a str>,
    /// The device (`device_id`).
    pub(crate) device: Option<&'a str>,
    /// When the subject signed in.
    pub(crate) auth_time: Option<Timestamp>,
}

impl<'a> NewToken<'a> {
    /// A token of the client's usual lifetime that whoever has it may use.
    pub(crate) fn new(client: &'a Registration, subject: &'a str, scopes: &'a [String]) -> Self {
        Self {
            client,
            subject,
            scopes,
            ttl: client.token_ttl,
            binding: Binding::default(),
            actor: None,
            groups: &[],
            session: None,
            upstream_session: None,
            device: None,
            auth_time: None,
        }
    }
}

/// An ID token to be issued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewIdToken<'a> {
    /// For whom.
    pub(crate) client: &'a Registration,
    /// Who signed in, as in the access token.
    pub(crate) subject: &'a str,
    /// When.
    pub(crate) auth_time: Timestamp,
    /// Our session.
    pub(crate) session: &'a str,
    /// What the client sent along to recognise its request by.
    pub(crate) nonce: Option<&'a str>,
    /// The access token that is issued with it.
    pub(crate) access_token: &'a str,
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
        must_be_bound(&client, mint)?;
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
        let binding = Binding { jkt: mint.jkt.as_deref().map(thumbprint).transpose()?, ..Binding::default() };
        let token = self.issue(&NewToken { ttl, binding, ..NewToken::new(&client, subject, &scopes) }).await?;
        tracing::info!(target: "audit", by, client = %client.name, subject, "token minted");
        Ok(token)
    }

    /// Sign an access token: the one place that does. The caller has authenticated the client and checked subject,
    /// scopes and time.
    pub(crate) async fn issue(&self, new: &NewToken<'_>) -> Result<MintedToken, OperationError> {
        let (now, seconds) = (self.clock.now().as_secs(), new.ttl.as_secs());
        let mut jti = [0u8; 18];
        self.rng.fill(&mut jti);
        let scope = (!new.scopes.is_empty()).then(|| new.scopes.join(" "));
        let mut claims = json!({
            "iss": self.external_url,
            "sub": new.subject,
            "aud": self.external_url,
            "client_id": new.client.name,
            "iat": now,
            "exp": now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
            "jti": URL_SAFE_NO_PAD.encode(jti),
        });
        if let Some(claims) = claims.as_object_mut() {
            new.optional_claims(claims, scope.as_deref());
        }
        let event = audit::Event::new("token.issued").by(new.client.name.as_str()).about(config::OWN_NAME, new.subject);
        let event =
            event.maybe("scope", scope.as_deref()).with("ttl", seconds).with("jti", URL_SAFE_NO_PAD.encode(jti));
        let event = event.maybe("session", new.session).maybe("device", new.device).maybe("actor", new.actor);
        // Before there is a token: one that nobody knows of must not be.
        self.audit.happened(event).await?;
        let access_token = self.sign("at+jwt", &claims).await?;
        Ok(MintedToken {
            access_token,
            token_type: if new.binding.jkt.is_some() { "DPoP" } else { "Bearer" },
            expires_in: seconds,
            scope,
            refresh_token: None,
            id_token: None,
            issued_token_type: None,
        })
    }

    /// Sign an ID token (OpenID Connect Core section 2) to tell `client` who signed in; nobody takes it for an access
    /// token.
    pub(crate) async fn issue_id_token(&self, new: &NewIdToken<'_>) -> Result<Once, OperationError> {
        let now = self.clock.now().as_secs();
        let mut claims = json!({
            "iss": self.external_url,
            "sub": new.subject,
            "aud": new.client.name,
            "iat": now,
            "exp": now.saturating_add(i64::try_from(new.client.token_ttl.as_secs()).unwrap_or(i64::MAX)),
            "auth_time": new.auth_time.as_secs(),
            "sid": new.session,
            "at_hash": left_half_hash(new.access_token),
        });
        if let (Some(claims), Some(nonce)) = (claims.as_object_mut(), new.nonce) {
            claims.insert("nonce".into(), nonce.into());
        }
        self.sign("JWT", &claims).await
    }

    pub(super) async fn sign(&self, typ: &str, claims: &Value) -> Result<Once, OperationError> {
        let keys = self.published_keys().await?;
        let signer = keys.signer().ok_or_else(|| {
            OperationError::NotAllowed("there is no signing key yet; start the server once".to_owned())
        })?;
        Ok(Once(signer.sign(typ, claims)?.into()))
    }
}

impl From<Secret<String>> for Once {
    fn from(credential: Secret<String>) -> Self {
        Self(credential)
    }
}

impl NewToken<'_> {
    fn optional_claims(&self, claims: &mut Map<String, Value>, scope: Option<&str>) {
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value);
            }
        };
        add("scope", scope.map(Value::from));
        add("cnf", self.binding.cnf());
        add("act", self.actor.map(|actor| json!({ "sub": actor })));
        add("groups", (!self.groups.is_empty()).then(|| self.groups.into()));
        add("sid", self.session.map(Value::from));
        add("orig_sid", self.upstream_session.map(Value::from));
        add("device_id", self.device.map(Value::from));
        add("auth_time", self.auth_time.map(|at| at.as_secs().into()));
    }
}

/// `at_hash` of OpenID Connect Core section 3.1.3.6, for a token we sign: SHA-256 goes with both of our algorithms.
fn left_half_hash(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..16).unwrap_or_default())
}

/// What a client requires of its tokens holds for those it did not ask for itself: a stolen one is worth nothing.
fn must_be_bound(client: &Registration, mint: &MintToken) -> Result<(), OperationError> {
    if client.requires(Requirement::Mtls) {
        let message =
            format!("tokens of the client {} are bound to its certificate: it has to ask itself", client.name);
        return Err(OperationError::NotAllowed(message));
    }
    let key = client.requires(Requirement::Dpop) || client.requires(Requirement::Signature);
    if key && mint.jkt.is_none() {
        let message =
            format!("tokens of the client {} are bound to a key: say which by its thumbprint, jkt", client.name);
        return Err(OperationError::NotAllowed(message));
    }
    Ok(())
}

/// A thumbprint from its text: 32 bytes, base64url.
fn thumbprint(text: &str) -> Result<[u8; 32], OperationError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| OperationError::value("jkt", "a thumbprint is 43 base64url characters (RFC 7638)"))
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

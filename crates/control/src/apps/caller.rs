//! An installation that calls one of these endpoints with its token, as it calls a data route: the token and a proof of
//! its key.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use proof::dpop::TargetUri;
use proof::signature::{ExpectedRequest, SignatureProofError, SignedRequest, verify};
use proof::token::VerifiedToken;
use serde_json::Value;
use store::{Claim, Instance, InstanceStatus};

use super::enroll::{malformed, unavailable};
use super::evidence::sha256;
use super::refusal::{Action, AppsError, Refused};
use super::{AppInForce, Apps, Visit};
use crate::operations::OperationError;

/// A little longer than the longest `dpop.skew` there can be, as on data routes.
const LONGEST_SKEW: Duration = Duration::from_secs(61);

/// An installation that has shown who it is.
#[derive(Debug)]
pub(crate) struct AppCaller {
    /// The app.
    pub(crate) app: Arc<AppInForce>,
    /// The installation.
    pub(crate) instance: Instance,
    /// The nonce of its signature, where it brought one.
    pub(crate) signed: Option<String>,
}

impl Apps {
    /// The installation that makes this request: its token, bound to its key, and a proof of that key. With a signature over the
    /// request ([`AppCaller::signed`]) the body is covered too. The proof is used up here.
    pub(crate) async fn caller(&self, visit: &mut Visit, parts: &Parts, body: &[u8]) -> Result<AppCaller, AppsError> {
        let text = credential(&parts.headers)?;
        let anew = || Refused::new(Action::Refresh, "token_invalid");
        let token = self.parts.oauth.app_token(text).await.map_err(|_| AppsError::Unavailable("token_service"))?;
        let token = token.ok_or_else(anew)?;
        let claimed = token.client_id().filter(|_| token.claims().contains_key("lvl")).ok_or_else(anew)?;
        let app = self.app(claimed)?;
        visit.app = Some(Arc::clone(&app));
        let found = self.operations().store().instances().get(token.subject()).await;
        let found = found.map_err(|error| unavailable(&error.into()))?;
        let instance = found.filter(|found| found.app == app.config.name);
        let instance = instance.ok_or_else(|| Refused::new(Action::ReEnroll, "instance_unknown"))?;
        let signed = self.signature(&token, (parts, body)).await?;
        if signed.is_none() {
            let by_signature = token.claims().get("pop").and_then(Value::as_str) != Some("dpop");
            if by_signature {
                return Err(malformed("signature_missing").into());
            }
            self.parts.oauth.app_proof(parts, &token).await.map_err(malformed)?;
        }
        check_user(&token, &parts.headers, &app)?;
        visit.instance = Some(instance.id.clone());
        if instance.status != InstanceStatus::Active {
            return Err(malformed("instance_barred").with("status", instance.status.as_str()).into());
        }
        Ok(AppCaller { app, instance, signed })
    }

    /// Check the request's signature, if it has one of ours, and use it up: its nonce.
    async fn signature(
        &self,
        token: &VerifiedToken,
        (parts, body): (&Parts, &[u8]),
    ) -> Result<Option<String>, AppsError> {
        let fields: Vec<(&str, &[u8])> =
            parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let parsed = SignedRequest::parse(fields.iter().copied()).map_err(|error| malformed(error.reason()))?;
        let Some(request) = parsed else { return Ok(None) };
        let key = token.cnf().and_then(|bound| bound.jwk.as_ref());
        let key = key.ok_or_else(|| malformed("signature_no_key"))?;
        let file = self.operations().file();
        let origins = file.server.origins(&self.parts.listening);
        let path = parts.uri.path();
        let targets = origins.iter().filter_map(|origin| TargetUri::parse(&format!("{origin}{path}")).ok());
        let targets: Vec<TargetUri> = targets.collect();
        let now = self.operations().clock().now();
        let expected = ExpectedRequest {
            query: parts.uri.query(),
            credential: "authorization",
            has_body: !body.is_empty(),
            skew: file.dpop.skew.duration(),
            remembered_since: Some(self.parts.remembered_since),
            ..ExpectedRequest::new(parts.method.as_str(), &targets, now)
        };
        let verified = verify(&request, key, &expected).map_err(|error| match error {
            // Another signature, made a little later, does.
            SignatureProofError::BeforeStart => Refused::new(Action::RetryAfter, error.reason()),
            _ => malformed(error.reason()),
        })?;
        verified.check_body(body).map_err(|error| malformed(error.reason()))?;
        let until = verified.expires().plus(LONGEST_SKEW);
        match self.parts.oauth.claim(verified.replay_key(), until).await {
            Ok(Claim::First) => Ok(Some(request.nonce().to_owned())),
            Ok(Claim::Seen) => Err(malformed("signature_replayed").into()),
            Err(reason) => {
                tracing::error!(reason, "the replay store cannot be used");
                Err(AppsError::Unavailable(reason))
            }
        }
    }
}

/// The token, from the one `Authorization` there is.
fn credential(headers: &HeaderMap) -> Result<&str, AppsError> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::to_str);
    let (Some(Ok(field)), None) = (fields.next(), fields.next()) else {
        return Err(Refused::new(Action::Refresh, "token_missing").into());
    };
    let (scheme, token) = field.split_once(' ').unwrap_or((field, ""));
    if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("dpop") {
        return Err(Refused::new(Action::Refresh, "token_missing").into());
    }
    Ok(token.trim())
}

/// A token that was given together with the app's own user's token is good beside that one only, here as on data routes.
fn check_user(token: &VerifiedToken, headers: &HeaderMap, app: &AppInForce) -> Result<(), Refused> {
    let Some(bound) = token.claims().get("pay") else { return Ok(()) };
    let (bound, name) = (bound.as_str().unwrap_or_default(), app.config.user_token.as_ref());
    let other = || malformed("user_token_mismatch");
    let mut values = headers.get_all(name.ok_or_else(other)?.as_str()).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(other()) };
    let found = STANDARD.encode(sha256(value.as_bytes()));
    verify_slices_are_equal(found.as_bytes(), bound.as_bytes()).map_err(|_| other())
}

impl From<OperationError> for AppsError {
    fn from(error: OperationError) -> Self {
        unavailable(&error)
    }
}

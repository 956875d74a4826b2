//! Access tokens for installations of apps.

use std::collections::BTreeSet;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use config::{App, AppProof};
use policy::risk::Decision;
use proof::ja4::Ja4;
use serde_json::{Map, Value, json};
use store::Instance;

use super::{MintedToken, OperationError, Operations};

impl Operations {
    /// Sign a token for an installation whose evidence has been judged. It is bound to the installation's key, which it carries,
    /// because whoever verifies a signature over a request needs it.
    pub(crate) async fn issue_to_instance(
        &self,
        app: &App,
        instance: &Instance,
        (user_token, decision): (Option<&str>, &Decision),
    ) -> Result<MintedToken, OperationError> {
        let (now, seconds) = (self.clock.now().as_secs(), app.token_ttl.duration().as_secs());
        let mut jti = [0u8; 18];
        self.rng.fill(&mut jti);
        let jti = URL_SAFE_NO_PAD.encode(jti);
        let scopes: Vec<String> = app.scopes.iter().map(ToString::to_string).collect();
        let scope = (!scopes.is_empty()).then(|| scopes.join(" "));
        let of = &instance.attested;
        let jwk: Value = serde_json::from_str(&instance.jwk).unwrap_or_default();
        let kinds: Vec<&str> = of.evidence.split(' ').collect();
        let annotations: BTreeSet<&String> = of.annotations.iter().chain(&decision.annotations).collect();
        let mut claims = json!({
            "iss": self.external_url,
            "sub": instance.id,
            "aud": self.external_url,
            "client_id": app.name,
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
            "jti": jti,
            "cnf": { "jkt": instance.jkt, "jwk": jwk },
            "plat": of.platform,
            "lvl": of.level,
            "att": kinds,
            "anno": annotations,
            "pv": self.judge().rules().version(),
            "arc": instance.arc,
            "pop": app.proof.as_str(),
        });
        if let Some(claims) = claims.as_object_mut() {
            optional(
                claims,
                [
                    ("scope", scope.clone()),
                    ("ver", of.version.clone()),
                    ("env", of.environment.clone()),
                    ("tls", enrolled_stack(&of.flags)),
                    // As Approov has it: over the whole value of the header.
                    ("pay", user_token.map(|text| STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes())))),
                ],
            );
        }
        if let (Some(claims), Some(throttle)) = (claims.as_object_mut(), decision.throttle) {
            let nano_usd = throttle.usd_day.map(|money| i64::try_from(money.nano_usd()).unwrap_or(i64::MAX));
            claims.insert("thr".to_owned(), json!({ "rpm": throttle.rpm, "nano_usd_day": nano_usd }));
        }
        let event = audit::Event::new("token.issued").by(app.name.as_str()).about(config::OWN_NAME, &instance.id);
        let event = event.maybe("scope", scope.as_deref()).with("ttl", seconds).with("jti", jti);
        let event = event.with("arc", instance.arc.as_str()).with("level", of.level.as_str());
        // Before there is a token: one that nobody knows of must not be.
        self.audit.happened(event).await?;
        Ok(MintedToken {
            access_token: self.sign("at+jwt", &claims).await?,
            token_type: if app.proof == AppProof::Dpop { "DPoP" } else { "Bearer" },
            expires_in: seconds,
            scope,
            refresh_token: None,
            id_token: None,
            issued_token_type: None,
        })
    }
}

/// The TLS stack an installation enrolled with: what its later connections are compared with.
fn enrolled_stack(flags: &str) -> Option<String> {
    let flags: Vec<Value> = serde_json::from_str(flags).ok()?;
    let named = flags.iter().find(|flag| flag.get("name").and_then(Value::as_str) == Some("tls_fingerprint"))?;
    Some(Ja4::parse(named.get("value")?.as_str()?).ok()?.stack())
}

fn optional<const N: usize>(claims: &mut Map<String, Value>, members: [(&str, Option<String>); N]) {
    for (name, value) in members {
        if let Some(value) = value {
            claims.insert(name.to_owned(), value.into());
        }
    }
}

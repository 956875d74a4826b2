//! Whether clouds give what providers are called with: access tokens of Google and Microsoft, and whether AWS knows who asks.

use base::{Secret, SystemClock};
use config::{Config, Provider, SecretRef};
use gateway::{Trial, Tried, try_credentials};
use net::Egress;

use super::{Findings, Verdict};
use crate::references;

/// Try each key of each cloud.
pub(super) async fn look(config: &Config, egress: &Egress, findings: &mut Findings) {
    for provider in &config.providers {
        if !is_tried(provider) {
            continue;
        }
        let what = format!("credentials of {}", provider.name);
        let token = provider.session_token.as_ref().map(references::read).transpose();
        if provider.credentials.is_some() {
            told(&what, tried(provider, None, None, egress).await, findings);
        }
        for key in provider.key_refs() {
            let what = if provider.keys.is_empty() { what.clone() } else { format!("{what}, key {}", key.name) };
            let session = provider.session_token.as_ref();
            if [Some(key.reference), session].into_iter().flatten().any(|of| matches!(of, SecretRef::Secret(_))) {
                findings.ok(what, "in the vault: not tried from here; the first request shows");
                continue;
            }
            match (references::read(key.reference), &token) {
                (Ok(key), Ok(session)) => {
                    told(&what, tried(provider, Some(&key), session.as_ref(), egress).await, findings);
                }
                (Err(error), _) => findings.add(what, Verdict::Failure, error.to_string(), Some("give the key")),
                (_, Err(error)) => {
                    findings.add(what, Verdict::Failure, error.to_string(), Some("give the session token"));
                }
            }
        }
    }
}

fn is_tried(provider: &Provider) -> bool {
    provider.token_endpoint().is_some() || provider.kind == config::ProviderKind::Bedrock
}

async fn tried(
    provider: &Provider,
    key: Option<&Secret<String>>,
    session_token: Option<&Secret<String>>,
    egress: &Egress,
) -> Option<Result<Tried, gateway::Trouble>> {
    try_credentials(Trial { provider, key, session_token }, egress, &SystemClock).await
}

fn told(what: &str, came: Option<Result<Tried, gateway::Trouble>>, findings: &mut Findings) {
    match came {
        None => {}
        Some(Ok(Tried::Token(lifetime))) => {
            findings.ok(what, format!("an access token is given, for {} minutes", lifetime.as_secs() / 60));
        }
        Some(Ok(Tried::Known)) => findings.ok(what, "AWS knows who asks"),
        Some(Ok(Tried::Key)) => findings.ok(what, "an API key, sent as it is: not tried"),
        Some(Err(trouble)) => findings.add(what, Verdict::Failure, trouble.seen, Some(trouble.todo)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::EgressConfig;
    use serde_json::json;
    use testkit::mock::{Answer, Mock};

    async fn seen(text: &str) -> Vec<(Verdict, String)> {
        let (config, mut findings) = (config::parse(text).unwrap(), Findings::default());
        look(&config, &Egress::new(EgressConfig::default()).unwrap(), &mut findings).await;
        findings.0.into_iter().map(|finding| (finding.verdict, finding.seen)).collect()
    }

    fn file(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("{{ file = {:?} }}", path.display().to_string())
    }

    #[tokio::test]
    async fn a_cloud_that_gives_a_token_is_well_and_one_that_refuses_is_told_of() {
        let (mock, dir) = (Mock::start().await, tempfile::tempdir().unwrap());
        let azure = format!(
            "[[provider]]\nname = \"a\"\nkind = \"azure\"\nbase_url = \"{0}\"\ntoken_url = \"{0}/token\"\nallow_private = true\n\
             api_key = {1}\nentra = {{ tenant = \"t\", client_id = \"c\" }}\n",
            mock.url(),
            file(&dir, "secret", "fake-client-secret")
        );
        mock.push(Answer::json(200, &json!({"access_token": "t", "token_type": "Bearer", "expires_in": 3599})));
        assert_eq!(seen(&azure).await, [(Verdict::Ok, "an access token is given, for 59 minutes".to_owned())]);
        mock.push(Answer::json(401, &json!({"error": "invalid_client", "error_description": "fake-client-secret"})));
        let refused = seen(&azure).await;
        assert_eq!(refused[0].0, Verdict::Failure);
        assert!(refused[0].1.contains("invalid_client") && !refused[0].1.contains("fake-client-secret"), "{refused:?}");
        let vertex = format!(
            "[[provider]]\nname = \"v\"\nkind = \"vertex\"\nproject = \"p\"\nbase_url = \"{0}\"\ntoken_url = \"{0}/token\"\nallow_private = true\n",
            mock.url()
        );
        let metadata = format!("{vertex}credentials = \"metadata\"\n");
        mock.push(Answer::json(404, &json!({})).header("metadata-flavor", "Google"));
        assert_eq!(seen(&metadata).await[0].0, Verdict::Failure);
        let kept = seen(&format!("{vertex}api_key = {{ secret = \"s\" }}\n")).await;
        assert!(kept[0].1.contains("in the vault"), "{kept:?}");
        let broken = seen(&format!("{vertex}api_key = {}\n", file(&dir, "key", "{}"))).await;
        assert_eq!(broken[0].0, Verdict::Failure);
        let plain = seen(&format!("{vertex}api_key = {}\n", file(&dir, "plain", "AIza-fake"))).await;
        assert!(plain[0].1.contains("sent as it is"), "{plain:?}");
    }

    #[tokio::test]
    async fn aws_is_asked_who_asks_and_nothing_that_costs() {
        let (mock, dir) = (Mock::start().await, tempfile::tempdir().unwrap());
        let text = format!(
            "[[provider]]\nname = \"b\"\nkind = \"bedrock\"\nregion = \"us-east-1\"\nbase_url = \"{}\"\nallow_private = true\n\
             access_key_id = \"AKIDEXAMPLE\"\nsecret_access_key = {}\nsession_token = {}\n",
            mock.url(),
            file(&dir, "secret", "fake-secret-access-key"),
            file(&dir, "session", "fake-session")
        );
        for (status, kind, verdict, word) in [
            (400, "ValidationException", Verdict::Ok, "AWS knows who asks"),
            (404, "ResourceNotFoundException", Verdict::Ok, "AWS knows who asks"),
            (403, "InvalidSignatureException", Verdict::Failure, "InvalidSignatureException"),
            (403, "ExpiredTokenException", Verdict::Failure, "ExpiredTokenException"),
            (403, "AccessDeniedException", Verdict::Failure, "does not let them"),
            (500, "InternalServerException", Verdict::Failure, "500"),
        ] {
            mock.push(Answer::json(status, &json!({"message": "x"})).header("x-amzn-errortype", kind));
            let found = seen(&text).await;
            assert!(found.len() == 1 && found[0].0 == verdict && found[0].1.contains(word), "{kind}: {found:?}");
        }
        let asked = mock.request(0).await;
        assert_eq!(asked.path(), "/model/vouchgate.none-v1/converse");
        assert!(asked.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
        assert_eq!(asked.header("x-amz-security-token"), Some("fake-session"));
        assert!(!String::from_utf8_lossy(&asked.head).contains("fake-secret-access-key"));
    }
}

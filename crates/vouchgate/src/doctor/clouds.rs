//! Whether clouds give what providers are called with: access tokens of Google and Microsoft, and whether AWS knows who asks.

use std::sync::Arc;

use base::{Secret, SystemClock, SystemRng};
use config::{Config, Provider, SecretRef};
use gateway::{Credential, Trial, Tried, try_credentials, try_kept};
use net::Egress;
use store::Store;
use tokio::net::UnixStream;

use super::{Findings, Verdict};
use crate::wire::Credentials;
use crate::{master_keys, references};

/// Try each key of each cloud.
pub(super) async fn look(config: &Config, egress: &Egress, findings: &mut Findings) {
    let kept = if config.providers.iter().any(|provider| is_tried(provider) && is_kept(provider)) {
        kept(config).await
    } else {
        Ok(Kept::default())
    };
    for provider in &config.providers {
        if !is_tried(provider) {
            continue;
        }
        let what = format!("credentials of {}", provider.name);
        let token = provider.session_token.as_ref().map(references::read).transpose();
        if provider.credentials.is_some() {
            told(&what, tried(provider, None, None, egress).await, findings);
        }
        for (index, key) in provider.key_refs().into_iter().enumerate() {
            let what = if provider.keys.is_empty() { what.clone() } else { format!("{what}, key {}", key.name) };
            let session = provider.session_token.as_ref();
            if [Some(key.reference), session].into_iter().flatten().any(|of| matches!(of, SecretRef::Secret(_))) {
                match &kept {
                    Ok(kept) => {
                        let of = kept.of(provider, index);
                        told(&what, tried_kept(provider, of, egress).await, findings);
                    }
                    Err(NotOpen::Running) => findings
                        .ok(what, "in the vault, which the server that runs here has open: its detailed /readyz tells"),
                    Err(NotOpen::Failed(why)) => findings.add(what, Verdict::Failure, why, None),
                }
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

/// What the vault keeps of providers.
#[derive(Default)]
struct Kept(Credentials);

/// Why it cannot be had.
enum NotOpen {
    /// A server has it open.
    Running,
    Failed(String),
}

impl Kept {
    /// A provider's key, by its place among the provider's, and its session token.
    fn of(&self, provider: &Provider, index: usize) -> Option<(&Credential, Option<&Credential>)> {
        let key = self.0.providers.get(&provider.name)?.get(index)?.current();
        let field = (provider.name.clone(), Provider::SESSION_TOKEN_FIELD.to_owned());
        Some((key, self.0.fields.get(&field)))
    }
}

/// Whether the vault keeps a key of it.
fn is_kept(provider: &Provider) -> bool {
    let keys = provider.key_refs();
    let all = keys.iter().map(|key| key.reference).chain(&provider.session_token);
    all.into_iter().any(|reference| matches!(reference, SecretRef::Secret(_)))
}

/// Open the store and the vault, as a command does that changes nothing.
async fn kept(config: &Config) -> Result<Kept, NotOpen> {
    let failed = |why: &dyn std::fmt::Display| NotOpen::Failed(why.to_string());
    let data_dir = &config.server.data_dir;
    if UnixStream::connect(data_dir.join(control::admin::SOCKET_NAME)).await.is_ok() {
        return Err(NotOpen::Running);
    }
    let vault = master_keys::vault(config, |_| Ok(None), Arc::new(SystemRng)).map_err(|error| failed(&error))?;
    let vault = Arc::new(vault);
    let url = references::store_url(config).map_err(|error| failed(&error))?;
    let store = Store::open(&url, data_dir, Arc::new(SystemClock), Arc::new(SystemRng)).await;
    let store = store.map_err(|error| failed(&error))?;
    let found = Credentials::collect(config, &store, &vault).await;
    store.close().await;
    found.map(Kept).map_err(|error| failed(&error))
}

async fn tried_kept(
    provider: &Provider,
    kept: Option<(&Credential, Option<&Credential>)>,
    egress: &Egress,
) -> Option<Result<Tried, gateway::Trouble>> {
    try_kept(provider, kept?, egress, &SystemClock).await
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
    use vault::{MasterKey, Vault};

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

    #[tokio::test]
    async fn a_key_that_the_vault_keeps_is_tried_for_the_place_it_was_set_for() {
        let (mock, dir) = (Mock::start().await, tempfile::tempdir().unwrap());
        let config = |base: &str| {
            format!(
                "[server]\ndata_dir = {:?}\n[[provider]]\nname = \"b\"\nkind = \"bedrock\"\nregion = \"us-east-1\"\nbase_url = \"{base}\"\n\
                 allow_private = true\naccess_key_id = \"AKIDEXAMPLE\"\nsecret_access_key = {{ secret = \"aws\" }}\n",
                dir.path().join("data").display().to_string()
            )
        };
        let missing = seen(&config(&mock.url())).await;
        assert_eq!(missing[0].0, Verdict::Failure, "{missing:?}");
        let data = dir.path().join("data");
        let store = Store::open(&store::StoreUrl::default(), &data, Arc::new(SystemClock), Arc::new(SystemRng)).await;
        let store = store.unwrap();
        let key = MasterKey::generate(&SystemRng).unwrap();
        key.create_file(&data.join("master.key")).unwrap();
        let vault = Vault::new(key, Arc::new(SystemRng)).unwrap();
        let (name, origin) = (base::Name::new("aws").unwrap(), mock.url());
        let label = vault::Label::new(store.tenant(), vault::Purpose::Secret, name.as_str(), 1).origin(Some(&origin));
        let sealed = vault.seal(&label, b"fake-secret-access-key").unwrap();
        let new = store::NewSecret {
            name,
            version: 1,
            sealed,
            origin: Some(origin),
            fingerprint: "x".to_owned(),
            hint: None,
            created_by: "test".to_owned(),
        };
        store.secrets().put(new).await.unwrap();
        store.close().await;

        for (kind, verdict) in
            [("ResourceNotFoundException", Verdict::Ok), ("InvalidSignatureException", Verdict::Failure)]
        {
            let status = if verdict == Verdict::Ok { 404 } else { 403 };
            mock.push(Answer::json(status, &json!({"message": "x"})).header("x-amzn-errortype", kind));
            let found = seen(&config(&mock.url())).await;
            assert_eq!(found[0].0, verdict, "{kind}: {found:?}");
        }
        let asked = mock.count();
        let elsewhere = seen(&config("http://127.0.0.1:9")).await;
        assert_eq!(elsewhere[0].0, Verdict::Failure, "{elsewhere:?}");
        assert_eq!(mock.count(), asked);
    }
}

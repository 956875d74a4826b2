//! What only shows when a configuration is put to use: keys that are not there, secrets that are too weak, policies
//! that do not compile. `check`, `serve` and a reload all ask here, so that they agree.

use config::{Config, Fault, SecretRef};
use control::operations::{client_auth_fault, pin_file_faults};
use net::WebhookKey;
use policy::World;

use crate::authorities;
use crate::listen::{ServerTls, TlsFiles};
use crate::references::{self, SharedUrlError, StoreUrlError};
use crate::wire::{self, issuers};

/// Read a configuration and look at everything it refers to. Opens no store and no listener: secrets of the vault are
/// looked for when the server starts.
pub fn read(text: &str) -> Result<Config, Vec<Fault>> {
    let config = config::parse(text)?;
    let found = faults(&config);
    if found.is_empty() {
        return Ok(config);
    }
    let placed = found.into_iter().map(|fault| {
        let (line, column) = config::locate(text, &fault.path);
        Fault { line, column, ..fault }
    });
    Err(placed.collect())
}

/// What works and still deserves a second look: ways to databases on which others can read along.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(url) = references::store_url(config)
        && !url.is_protected()
    {
        found.push(format!(
            "[store] url: {url}: the server's certificate is not verified; use sslmode=verify-full, and sslrootcert for a CA of \
             your own"
        ));
    }
    if let Ok(Some(url)) = references::shared_url(config)
        && !store::shared_is_protected(url.expose())
    {
        found.push(
            "[store] shared: what nodes share crosses the network readable; use rediss://, and shared_ca for a CA of your own"
                .to_owned(),
        );
    }
    found
}

/// What is wrong with where state is kept: where, its code, and why.
fn stores(config: &Config) -> Vec<(&'static str, &'static str, String)> {
    let mut found = Vec::new();
    if let Err(error) = references::store_url(config) {
        let code = if matches!(error, StoreUrlError::Reference(_)) { "missing_secret" } else { "unusable_store" };
        found.push(("store.url", code, error.to_string()));
    }
    if let Err(error) = references::shared_state(config, &base::SystemRng) {
        let (path, code) = match error {
            SharedUrlError::Reference(_) => ("store.shared", "missing_secret"),
            SharedUrlError::Ca(_) => ("store.shared_ca", "missing_secret"),
            SharedUrlError::Url(_) => ("store.shared", "unusable_store"),
        };
        found.push((path, code, error.to_string()));
    }
    found
}

/// Every fault, each with its path.
fn faults(config: &Config) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut add = |path: String, code: &'static str, message: String| {
        found.push(Fault { line: 0, column: 0, path, code, message, hint: None });
    };
    let missing = |reference: &SecretRef| match reference {
        SecretRef::Secret(_) => None,
        other => references::read(other).err().map(|error| error.to_string()),
    };
    for (path, code, message) in stores(config) {
        add(path.to_owned(), code, message);
    }
    for (index, issuer) in config.issuers.iter().enumerate() {
        let key = if issuer.hs256_secret.is_some() { "hs256_secret" } else { "jwks_file" };
        if let Err(error) = issuers::static_keys(issuer) {
            add(format!("issuer[{index}].{key}"), "unusable_keys", error.to_string());
        }
    }
    for (index, provider) in config.providers.iter().enumerate() {
        for (key, reference) in provider.secrets() {
            if let Some(message) = missing(reference) {
                add(format!("provider[{index}].{key}"), "missing_secret", message);
            }
        }
    }
    for (index, upstream) in config.upstreams.iter().enumerate() {
        for (key, reference) in upstream.inject.iter().flat_map(config::Inject::values) {
            if let Some(message) = missing(reference) {
                add(format!("upstream[{index}].inject.{key}"), "missing_secret", message);
            }
        }
    }
    for (index, place) in config.audit.publish.iter().enumerate() {
        if let Some(message) = place.key.as_ref().and_then(missing) {
            add(format!("audit.publish[{index}].key"), "missing_secret", message);
        }
    }
    if let Some(message) = config.signin.as_ref().and_then(|signin| signin.client_secret.as_ref()).and_then(missing) {
        add("signin.client_secret".to_owned(), "missing_secret", message);
    }
    for (index, client) in config.clients.iter().enumerate() {
        if let Some(message) = client.auth.as_ref().and_then(client_auth_fault) {
            add(format!("client[{index}].auth"), "unusable_keys", message);
        }
    }
    for (index, transmitter) in config.transmitters.iter().enumerate() {
        if let Some(message) = transmitter.bearer.as_ref().and_then(missing) {
            add(format!("transmitter[{index}].bearer"), "missing_secret", message);
        }
        let keys = transmitter.jwks_file.as_deref().map(issuers::keys_in_file);
        if let Some(Err(message)) = keys {
            add(format!("transmitter[{index}].jwks_file"), "unusable_keys", message);
        }
    }
    for (index, app) in config.apps.iter().enumerate() {
        for (key, reference) in app.secrets() {
            if let Some(message) = missing(reference) {
                add(format!("app[{index}].{key}"), "missing_secret", message);
            }
        }
        let approov = app.approov.as_ref().and_then(|approov| approov.jwks_file.as_deref());
        if let Some(Err(message)) = approov.map(issuers::keys_in_file) {
            add(format!("app[{index}].approov.jwks_file"), "unusable_keys", message);
        }
    }
    for (path, message) in pin_file_faults(config) {
        add(path, "unusable_keys", message);
    }
    for (index, webhook) in config.webhooks.iter().enumerate() {
        if let SecretRef::Secret(_) = &webhook.secret {
            continue;
        }
        let at = format!("webhook[{index}].secret");
        match references::read(&webhook.secret) {
            Err(error) => add(at, "missing_secret", error.to_string()),
            Ok(text) => {
                if let Err(error) = WebhookKey::parse(&text) {
                    add(at, "unusable_keys", error.to_string());
                }
            }
        }
    }
    for fault in policy::compile(&config.policies, &World::of(config)).err().into_iter().flatten() {
        add("policy".to_owned(), "unusable_policy", fault.to_string());
    }
    if let Some(message) = wire::obstacle(config, &control::external_url(&config.server)) {
        add(String::new(), "not_usable", message);
    }
    for (path, message) in tls_faults(config) {
        add(path, "unusable_tls", message);
    }
    found
}

/// What is wrong with certificates and authorities in files.
fn tls_faults(config: &Config) -> Vec<(String, String)> {
    let server = &config.server;
    let authorities = server.upstream_ca.iter().enumerate().filter_map(|(index, ca)| {
        let error = authorities::fault(ca)?;
        Some((format!("server.upstream_ca[{index}].file"), error.to_string()))
    });
    let shown = [("server.tls", &server.tls), ("server.admin_tls", &server.admin_tls)];
    let shown = shown.into_iter().filter_map(|(path, tls)| {
        let error = ServerTls::load(TlsFiles::from(tls.as_ref()?)).err()?;
        Some((path.to_owned(), error.to_string()))
    });
    authorities.chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let text =
            "[[provider]]\nname = \"openai\"\nkind = \"openai\"\napi_key = { env = \"VOUCHGATE_NO_SUCH_KEY\" }\n";
        let faults = read(text).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!((faults[0].line, faults[0].code), (4, "missing_secret"), "{faults:?}");
        assert!(faults[0].message.contains("VOUCHGATE_NO_SUCH_KEY"), "{faults:?}");
    }

    #[test]
    fn a_store_that_cannot_be_opened_is_a_fault_at_its_place() {
        for (text, code) in [
            ("[store]\nurl = { env = \"VOUCHGATE_NO_SUCH_KEY\" }\n", "missing_secret"),
            ("[store]\nurl = \"postgres://u:hunter2@db/v?sslmod=disable\"\n", "unusable_store"),
            ("[store]\nurl = \"postgres://db/v\"\n", "unusable_store"),
        ] {
            let faults = read(text).unwrap_err();
            assert_eq!((faults.len(), faults[0].line, faults[0].code), (1, 2, code), "{faults:?}");
            assert!(!faults[0].message.contains("hunter2"), "{faults:?}");
        }
    }

    #[test]
    fn what_clients_sign_in_and_transmitters_need_is_looked_at() {
        let text = "[[issuer]]\nname = \"corp\"\nissuer = \"https://id.example.com/\"\naudience = [\"a\"]\ndiscovery = true\n\
            [signin]\nissuer = \"corp\"\nclient_id = \"x\"\nclient_secret = { env = \"VOUCHGATE_NO_SUCH_KEY\" }\n\
            [[client]]\nname = \"batch\"\nauth = { method = \"private_key_jwt\", jwks_file = \"/nonexistent.json\" }\n\
            [[transmitter]]\nname = \"events\"\nissuer = \"https://id.example.com/\"\naudience = [\"a\"]\nsubjects = \"corp\"\n\
            jwks_file = \"/nonexistent.json\"\nbearer = { env = \"VOUCHGATE_NO_SUCH_KEY\" }\n";
        let faults = read(text).unwrap_err();
        let found: Vec<(usize, &str)> = faults.iter().map(|fault| (fault.line, fault.code)).collect();
        let expected = [(9, "missing_secret"), (12, "unusable_keys"), (19, "missing_secret"), (18, "unusable_keys")];
        assert_eq!(found, expected, "{faults:?}");
    }

    #[test]
    fn a_secret_from_a_tutorial_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "your-256-bit-secret").unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let text =
            format!("[[issuer]]\nname = \"app\"\nhs256_secret = {{ file = {:?} }}\n", path.display().to_string());
        let faults = read(&text).unwrap_err();
        assert!(faults.iter().any(|fault| fault.code == "unusable_keys" && fault.line == 3), "{faults:?}");
    }
}

//! Keys that lie in files, and that of the audit log.

use std::path::Path;
use std::time::Duration;

use base::Timestamp;
use config::Config;
use proof::mtls::ClientCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{RotationView, known};
use crate::operations::{OperationError, Operations};

/// A certificate that ends sooner ends soon.
const CERTIFICATE_SOON: Duration = Duration::from_hours(30 * 24);

impl Operations {
    /// The root keys that apps have: of each the public half is known here.
    pub(super) async fn rotation_roots(&self, config: &Config) -> Result<Vec<RotationView>, OperationError> {
        let (now, limit) = (self.clock.now(), config.rotation.root_keys.duration());
        let known = self.store.known_keys().of_kind(known::ROOT).await?;
        let of = |path: &std::path::PathBuf| {
            let name = path.display().to_string();
            let row = RotationView::new("root key", name.as_str(), "current").since(known.get(&name).copied(), now);
            row.limit(limit).todo("vouchgate pins root new, offline; build it into the app as its spare, and name it in [app_config] roots")
        };
        Ok(config.app_config.roots.iter().map(of).collect())
    }

    /// The keys of audit logs: one for each node that has ever had one on this store.
    pub(super) async fn rotation_audit(&self, config: &Config) -> Result<Vec<RotationView>, OperationError> {
        let (now, limit) = (self.clock.now(), config.rotation.audit_key.duration());
        let mut logs: Vec<_> = self.store.known_keys().of_kind(known::AUDIT).await?.into_iter().collect();
        logs.sort();
        let of = |(log, since)| {
            let row = RotationView::new("audit key", log, "current").since(Some(since), now).limit(limit);
            row.todo("vouchgate audit rotate-key; keep the new key of every log elsewhere")
        };
        Ok(logs.into_iter().map(of).collect())
    }
}

/// The certificates this server shows.
pub(super) fn certificates(config: &Config, now: Timestamp) -> Vec<RotationView> {
    let server = &config.server;
    let shown = [&server.tls, &server.admin_tls].into_iter().flatten();
    let of = |tls: &config::Tls| {
        let name = tls.cert.display().to_string();
        let row = RotationView::new("certificate", name, "current");
        let Some(certificate) = first_certificate(&tls.cert) else {
            return row.due(true).todo("it cannot be read");
        };
        let (begin, end) = (certificate.not_before(), certificate.not_after());
        let row = row.since(Some(begin), now).ends(Some(end)).due(end < now.plus(CERTIFICATE_SOON));
        row.todo("replace its files: they are read again when they change")
    };
    shown.map(of).collect()
}

/// The first certificate of a file.
pub fn first_certificate(path: &Path) -> Option<ClientCertificate> {
    let der = CertificateDer::pem_file_iter(path).ok()?.next()?.ok()?;
    ClientCertificate::parse(&der).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[tokio::test]
    async fn root_keys_and_those_of_audit_logs_have_an_age_and_a_limit() {
        let toml = "[rotation]\nroot_keys = \"60d\"\naudit_key = \"30d\"\nissuer_secrets = \"20d\"\n\
                    [[issuer]]\nname = \"node\"\nhs256_secret = { env = \"J\" }\nnext_hs256_secret = { env = \"J2\" }\n\
                    [app_config]\nroots = [\"root-active.jwk\"]\n";
        let fixture = Fixture::with(toml).await;
        let known_keys = fixture.operations.store().known_keys();
        known_keys.seen(known::ROOT, "root-active.jwk", &[[1; 32]]).await.unwrap();
        known_keys.seen(known::AUDIT, "ai.example.com/audit/1", &[[1; 32]]).await.unwrap();
        known_keys.seen(known::REFERRED, "issuer.node", &[[1; 32]]).await.unwrap();
        known_keys.seen(known::REFERRED, "issuer.node.next", &[[2; 32]]).await.unwrap();
        fixture.clock.advance(Duration::from_hours(31 * 24));
        let rows = fixture.operations.rotation_list().await.unwrap();
        let row = |kind: &str, state: &str| {
            let row = rows.iter().find(|row| row.kind == kind && row.state == state).unwrap();
            (row.name.as_str(), row.age_days, row.limit_days, row.due)
        };
        assert_eq!(row("root key", "current"), ("root-active.jwk", Some(31), Some(60), false));
        assert_eq!(row("audit key", "current"), ("ai.example.com/audit/1", Some(31), Some(30), true));
        assert_eq!(row("issuer secret", "current"), ("node", Some(31), Some(20), true));
        assert_eq!(row("issuer secret", "next"), ("node", Some(31), None, false));
    }
}

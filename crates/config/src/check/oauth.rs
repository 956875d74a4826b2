//! What clients, sign-in and transmitters need of others.

use std::collections::BTreeMap;

use super::{Sign, World};
use crate::alone::destination;
use crate::fault::{Code, Faults};
use crate::{Client, ClientAuth, ClientCertificates, KeySource, Requirement, Signin};

/// What kind of certificate a client is to show.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    /// Any that passes the handshake.
    Some,
    /// One that an authority vouches for.
    Trusted,
    /// One that nobody vouches for.
    SelfSigned,
}

impl World<'_> {
    /// Find what the token service lacks.
    pub(super) fn token_service(&self, faults: &mut Faults) {
        for (path, client) in self.clients.iter() {
            self.client(&path, client, faults);
        }
        if let Sign::In(signin) = self.signin {
            self.signs_in(signin, faults);
        }
        let mut claimed: BTreeMap<&str, String> = BTreeMap::new();
        for (path, transmitter) in self.transmitters.iter() {
            self.issuers.need(transmitter.subjects.as_str(), format!("{path}.subjects"), faults);
            if let Some(first) = claimed.get(transmitter.issuer.as_str()) {
                faults
                    .add(format!("{path}.issuer"), Code::Conflict, "two transmitters with the same iss claim")
                    .see(format!("{first}.issuer"));
            } else {
                claimed.insert(&transmitter.issuer, path);
            }
        }
    }

    fn client(&self, path: &str, client: &Client, faults: &mut Faults) {
        for (index, issuer) in client.exchange.iter().enumerate() {
            self.issuers.need(issuer.as_str(), format!("{path}.exchange[{index}]"), faults);
        }
        if client.auth.is_none() && client.grants.as_ref().is_some_and(|grants| !grants.is_empty()) {
            faults
                .add(format!("{path}.grants"), Code::Conflict, "without auth it cannot ask for tokens")
                .hint("add auth; for an app that can keep no secret, auth = { method = \"none\" }");
        }
        if client.auth.is_none() && client.introspect {
            faults.add(format!("{path}.introspect"), Code::Conflict, "without auth it cannot ask").hint("add auth");
        }
        if matches!(self.signin, Sign::Nowhere)
            && let Some(index) = client.grants().iter().position(|grant| grant.signs_in())
        {
            faults
                .add(format!("{path}.grants[{index}]"), Code::Conflict, "nothing says where people sign in")
                .hint("add [signin]");
        }
        if let Some(auth) = client.auth.as_ref().filter(|auth| auth.uses_certificate()) {
            let kind =
                if matches!(auth, ClientAuth::TlsClientAuth { .. }) { Shown::Trusted } else { Shown::SelfSigned };
            self.certificates(kind, format!("{path}.auth"), faults);
        } else if let Some(index) = client.require.iter().position(|r| *r == Requirement::Mtls) {
            self.certificates(Shown::Some, format!("{path}.require[{index}]"), faults);
        }
    }

    /// Add a fault unless clients can show such a certificate: on our own TLS, or through a proxy that is believed.
    pub(super) fn certificates(&self, kind: Shown, path: String, faults: &mut Faults) {
        let Some(server) = self.server.filter(|server| server.trusted_proxies.is_empty()) else { return };
        let Some(tls) = &server.tls else {
            faults
                .add(path, Code::Conflict, "no client can show a certificate here")
                .hint("add tls to [server], or name the proxy that ends TLS in trusted_proxies");
            return;
        };
        match (tls.client_certificates(), kind) {
            (_, Shown::Trusted) if tls.client_ca.is_none() => {
                faults
                    .add(path, Code::Conflict, "nothing says whose certificates are trusted")
                    .hint("add client_ca to tls in [server]");
            }
            (ClientCertificates::Off, _) => {
                faults
                    .add(path, Code::Conflict, "no client is asked for a certificate here")
                    .hint("add client_certificates = \"any\" to tls in [server]");
            }
            (ClientCertificates::Ca, Shown::SelfSigned) => {
                faults
                    .add(path, Code::Conflict, "only certificates of client_ca pass the handshake")
                    .hint("set client_certificates = \"any\" in tls of [server]");
            }
            _ => {}
        }
    }

    fn signs_in(&self, signin: &Signin, faults: &mut Faults) {
        self.issuers.need(signin.issuer.as_str(), "signin.issuer".to_owned(), faults);
        let Some((_, issuer)) = self.issuers.iter().find(|(_, issuer)| issuer.name == signin.issuer) else { return };
        let given = signin.authorization_endpoint.is_some() || signin.token_endpoint.is_some();
        match issuer.key_source() {
            Some(KeySource::SharedSecret(_)) => {
                faults.add("signin.issuer", Code::Conflict, "who signs with a shared secret is no OpenID provider");
            }
            Some(KeySource::Discovery) if given => {
                faults
                    .add("signin", Code::Conflict, "endpoints beside those the issuer publishes")
                    .hint("leave out authorization_endpoint and token_endpoint, or discovery of the issuer");
            }
            Some(KeySource::JwksUrl(_) | KeySource::JwksFile(_)) if !given => {
                faults
                    .add("signin.issuer", Code::MissingKey, "nothing says where people sign in")
                    .hint("give the issuer discovery = true, or authorization_endpoint and token_endpoint here");
            }
            _ => {}
        }
        let endpoints =
            [("authorization_endpoint", &signin.authorization_endpoint), ("token_endpoint", &signin.token_endpoint)];
        for (key, url) in endpoints {
            if let Some(url) = url {
                destination(url, issuer.allow_private, &format!("signin.{key}"), faults);
            }
        }
    }
}

//! Faults of clients, of the token service's sections and of transmitters.

use base::Span;

use super::{DAY, between, destination, own_name, public_algorithms, twice};
use crate::fault::{Code, Faults};
use crate::resource::Alone;
use crate::values::HttpUrl;
use crate::{Client, ClientAuth, DpopSection, Grant, KeySource, Requirement, Signin, TokenSection, Transmitter};

impl Alone for Client {
    fn alone(&self, faults: &mut Faults) {
        own_name(self.name.as_str(), faults);
        between(self.token_ttl, Span::secs(10), DAY, "token_ttl", faults);
        twice(&self.scopes, "scopes", faults);
        twice(&self.require, "require", faults);
        twice(&self.exchange, "exchange", faults);
        twice(&self.redirect_uris, "redirect_uris", faults);
        twice(self.grants.as_deref().unwrap_or_default(), "grants", faults);
        if let Some(auth) = &self.auth {
            auth_alone(auth, faults);
        }
        self.public(faults);
        self.attested(faults);
        self.grants_alone(faults);
    }
}

impl Client {
    /// A public client can prove nothing about itself, so its tokens have to be worth nothing to others.
    fn public(&self, faults: &mut Faults) {
        if self.auth != Some(ClientAuth::None) {
            return;
        }
        if !self.requires(Requirement::Dpop) {
            faults
                .add("", Code::MissingKey, "a public client has to bind its tokens to a key")
                .hint("add require = [\"dpop\"]");
        }
        if let Some(index) = self.grants().iter().position(|grant| *grant == Grant::ClientCredentials) {
            faults
                .add(format!("grants[{index}]"), Code::Conflict, "a public client has no credentials")
                .hint("give it an auth of another method, or another grant");
        }
        if self.introspect {
            faults.add("introspect", Code::Conflict, "anybody can say to be this client, and would learn about tokens");
        }
    }

    /// An app's client gets its tokens for evidence, and only there.
    fn attested(&self, faults: &mut Faults) {
        if self.auth != Some(ClientAuth::Attestation {}) {
            return;
        }
        if !self.grants().is_empty() {
            faults.add("grants", Code::Conflict, "an app gets its tokens for evidence, not by a grant");
        }
        if !self.require.is_empty() {
            faults
                .add("require", Code::Conflict, "what its requests bring stands in the app")
                .hint("set proof in [[app]]");
        }
        if self.introspect {
            faults.add("introspect", Code::Conflict, "an app on somebody's device is no resource server");
        }
    }

    /// What grants need, and what is of no use without one.
    fn grants_alone(&self, faults: &mut Faults) {
        let grants = self.grants.as_deref().unwrap_or_default();
        let has = |grant: Grant| grants.contains(&grant);
        let at = |grant: Grant| grants.iter().position(|g| *g == grant).map(|index| format!("grants[{index}]"));
        if let Some(place) = at(Grant::RefreshToken)
            && !has(Grant::AuthorizationCode)
            && !has(Grant::DeviceCode)
            && !has(Grant::TokenExchange)
        {
            faults
                .add(place, Code::Conflict, "nothing here gives it a refresh token")
                .hint("add authorization_code, device_code or token_exchange; client_credentials asks anew");
        }
        match at(Grant::AuthorizationCode) {
            Some(place) if self.redirect_uris.is_empty() => {
                faults.add(place, Code::MissingKey, "nothing says where people come back to").hint("add redirect_uris");
            }
            None if !self.redirect_uris.is_empty() => {
                faults
                    .add("redirect_uris", Code::Conflict, "nobody is sent there")
                    .hint("add authorization_code to grants");
            }
            _ => {}
        }
        match at(Grant::TokenExchange) {
            Some(place) if self.exchange.is_empty() => {
                faults.add(place, Code::MissingKey, "nothing says whose tokens it may exchange").hint("add exchange");
            }
            None if !self.exchange.is_empty() => {
                faults.add("exchange", Code::Conflict, "it exchanges nothing").hint("add token_exchange to grants");
            }
            _ => {}
        }
        if let Some(index) = self.require.iter().position(|r| *r == Requirement::Par)
            && !has(Grant::AuthorizationCode)
        {
            faults
                .add(format!("require[{index}]"), Code::Conflict, "it makes no authorization requests")
                .hint("add authorization_code to grants");
        }
    }
}

fn auth_alone(auth: &ClientAuth, faults: &mut Faults) {
    match auth {
        ClientAuth::PrivateKeyJwt { jwks_file, jwks_url, algorithms, allow_private } => {
            match (jwks_file, jwks_url) {
                (None, None) => {
                    faults
                        .add("auth", Code::MissingKey, "nothing says where its keys come from")
                        .hint("give one of jwks_file, jwks_url");
                }
                (Some(_), Some(_)) => {
                    faults.add("auth", Code::Conflict, "its keys come from more than one place");
                }
                (None, Some(url)) => destination(url, *allow_private, "auth.jwks_url", faults),
                (Some(_), None) => {}
            }
            public_algorithms(algorithms, "auth.algorithms", faults);
        }
        ClientAuth::TlsClientAuth { subject_dn, san_dns, san_uri, san_ip, san_email } => {
            let given =
                [subject_dn.is_some(), san_dns.is_some(), san_uri.is_some(), san_ip.is_some(), san_email.is_some()];
            match given.into_iter().filter(|given| *given).count() {
                0 => {
                    faults
                        .add("auth", Code::MissingKey, "nothing says what its certificate looks like")
                        .hint("give one of subject_dn, san_dns, san_uri, san_ip, san_email (RFC 8705 section 2.1.2)");
                }
                1 => {}
                _ => {
                    faults
                        .add("auth", Code::Conflict, "its certificate is described in more than one way")
                        .hint("keep one");
                }
            }
            if subject_dn.as_deref().is_some_and(|dn| !is_distinguished_name(dn)) {
                faults
                    .add("auth.subject_dn", Code::BadValue, "not a distinguished name")
                    .hint("write it as RFC 4514 does: \"CN=batch,O=Example\", without spaces around = and ,");
            }
            let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
            if san_dns
                .as_deref()
                .is_some_and(|dns| !dns.bytes().all(name) || dns.starts_with('.') || dns.contains(".."))
            {
                faults.add("auth.san_dns", Code::BadValue, "not a DNS name").hint("one whole name, without wildcards");
            }
            if san_uri.as_deref().is_some_and(|uri| !uri.contains(':') || !uri.bytes().all(|b| b.is_ascii_graphic())) {
                faults.add("auth.san_uri", Code::BadValue, "not a URI").hint("write \"spiffe://example.com/batch\"");
            }
            let address = |text: &str| {
                text.split_once('@').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains('@'))
            };
            if san_email.as_deref().is_some_and(|mail| !address(mail) || !mail.bytes().all(|b| b.is_ascii_graphic())) {
                faults.add("auth.san_email", Code::BadValue, "not a mail address");
            }
        }
        ClientAuth::ClientSecret { .. }
        | ClientAuth::SelfSignedTlsClientAuth { .. }
        | ClientAuth::Attestation {}
        | ClientAuth::None => {}
    }
}

/// Whether a text has the outer form of a distinguished name (RFC 4514 section 3): `type=value` joined by commas or `+`,
/// with no space that is not part of a value.
fn is_distinguished_name(text: &str) -> bool {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        match c {
            _ if c.is_control() => return false,
            ',' | '+' if !escaped => parts.push(String::new()),
            _ => {
                if let Some(part) = parts.last_mut() {
                    part.push(c);
                }
            }
        }
        escaped = c == '\\' && !escaped;
    }
    parts.iter().all(|part| {
        let Some((kind, value)) = part.split_once('=') else { return false };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
        !kind.is_empty() && kind.bytes().all(plain) && !value.is_empty() && !value.starts_with(' ')
    })
}

impl Alone for TokenSection {
    fn alone(&self, faults: &mut Faults) {
        const YEAR: Span = Span::secs(366 * 86_400);
        let times = [
            ("refresh_idle", self.refresh_idle, Span::secs(60), YEAR),
            ("refresh_lifetime", self.refresh_lifetime, Span::secs(60), Span::secs(10 * 366 * 86_400)),
            ("refresh_grace", self.refresh_grace, Span::secs(0), Span::secs(60)),
            ("key_lifetime", self.key_lifetime, Span::secs(600), YEAR),
            ("key_publish", self.key_publish, Span::secs(60), YEAR),
            // RFC 6749 section 4.1.2 allows ten minutes at most.
            ("code_ttl", self.code_ttl, Span::secs(1), Span::secs(600)),
            ("device_ttl", self.device_ttl, Span::secs(10), Span::secs(3600)),
            // RFC 9126 section 2.2.
            ("par_ttl", self.par_ttl, Span::secs(5), Span::secs(600)),
        ];
        for (key, time, least, most) in times {
            between(time, least, most, key, faults);
        }
        if self.refresh_idle > self.refresh_lifetime {
            faults.add("refresh_idle", Code::Conflict, "longer than refresh_lifetime, which ends it anyway");
        }
        if self.key_publish.duration() > self.key_lifetime.duration() / 2 {
            faults
                .add("key_publish", Code::Conflict, "longer than half of key_lifetime")
                .hint("the next key has to be published while the one before it signs");
        }
    }
}

impl Alone for DpopSection {
    fn alone(&self, faults: &mut Faults) {
        between(self.max_age, Span::secs(5), Span::secs(300), "max_age", faults);
        between(self.skew, Span::secs(0), Span::secs(60), "skew", faults);
    }
}

impl Alone for Signin {
    fn alone(&self, faults: &mut Faults) {
        if self.client_id.chars().any(char::is_control) {
            faults.add("client_id", Code::BadValue, "it has control characters");
        }
        twice(&self.scopes, "scopes", faults);
        if !self.scopes.iter().any(|scope| scope.as_str() == "openid") {
            faults
                .add("scopes", Code::BadValue, "without openid nobody says who signed in")
                .hint("add \"openid\" (OpenID Connect Core section 3.1.2.1)");
        }
        let lone = match (&self.authorization_endpoint, &self.token_endpoint) {
            (Some(_), None) => Some("authorization_endpoint"),
            (None, Some(_)) => Some("token_endpoint"),
            _ => None,
        };
        if let Some(key) = lone {
            faults.add(key, Code::Conflict, "one endpoint without the other").hint("give both, or neither");
        }
    }
}

impl Alone for Transmitter {
    fn alone(&self, faults: &mut Faults) {
        own_name(self.name.as_str(), faults);
        match self.key_source() {
            None => {
                let given = self.discovery || self.jwks_url.is_some() || self.jwks_file.is_some();
                let (code, message) = if given {
                    (Code::Conflict, "its keys come from more than one place")
                } else {
                    (Code::MissingKey, "nothing says where its keys come from")
                };
                faults.add("", code, message).hint("give one of discovery = true, jwks_url, jwks_file");
            }
            Some(KeySource::Discovery) => match self.issuer.parse::<HttpUrl>() {
                Ok(url) => destination(&url, self.allow_private, "issuer", faults),
                Err(error) => {
                    faults.add("issuer", Code::BadValue, format!("discovery needs a URL here: {error}"));
                }
            },
            Some(KeySource::JwksUrl(url)) => destination(url, self.allow_private, "jwks_url", faults),
            Some(KeySource::JwksFile(_) | KeySource::SharedSecret(_)) => {}
        }
        public_algorithms(&self.algorithms, "algorithms", faults);
        twice(&self.audience, "audience", faults);
    }
}

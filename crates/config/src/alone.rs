//! What can be wrong with a resource or section on its own, beyond what the schema says.

mod app;
mod audit;
mod oauth;
mod resilience;
mod risk;
mod routing;

use base::{ByteSize, Span};

use crate::fault::{Code, Faults};
use crate::resource::Alone;
use crate::template::{Template, is_variable};
use crate::values::{HeaderName, HttpUrl};
use crate::{
    Algorithm, Bound, CacheSection, ClientCertificates, FieldValue, Issuer, KeySource, Limits, Model, OWN_NAME, Policy,
    Provider, ProviderDialect, ProviderKind, Rate, Scalar, SecretRef, Server, Service, SharedAddress, Spend,
    StoreAddress, StoreSection, StoreUrl, TelemetrySection, Timeout, Upstream, VariableKind, VaultSection, routes,
};

/// An address requests are sent to: HTTPS on the public internet, anything else only if it was asked for.
pub(crate) fn destination(url: &HttpUrl, allow_private: bool, key: &str, faults: &mut Faults) {
    const HINT: &str = "add allow_private = true if that is meant";
    if allow_private {
        return;
    }
    if url.is_loopback() || url.is_private_literal() {
        faults.add(key, Code::BadValue, "a loopback or private address").hint(HINT);
    } else if !url.is_https() {
        faults.add(key, Code::BadValue, "plain HTTP to another machine").hint("begin with https://");
    }
}

/// Algorithms of somebody with public keys.
fn public_algorithms(algorithms: &[Algorithm], key: &str, faults: &mut Faults) {
    for (index, algorithm) in algorithms.iter().enumerate() {
        if algorithm.is_symmetric() {
            let message = "HMAC with public keys would let anybody sign";
            faults.add(format!("{key}[{index}]"), Code::Conflict, message).hint("HS256 goes with hs256_secret only");
        }
    }
    twice(algorithms, key, faults);
}

/// A fault for each value of a list that stands in it before.
pub(crate) fn twice<T: PartialEq>(list: &[T], key: &str, faults: &mut Faults) {
    for (index, value) in list.iter().enumerate() {
        if list.iter().take(index).any(|before| before == value) {
            faults.add(format!("{key}[{index}]"), Code::BadValue, "named twice");
        }
    }
}

/// A name that is ours.
pub(crate) fn own_name(name: &str, faults: &mut Faults) {
    if name == OWN_NAME {
        faults.add("name", Code::BadValue, format!("{OWN_NAME} is Vouchgate's own name")).hint("choose another");
    }
}

/// A duration from `least` to `most`.
pub(crate) fn between(value: Span, least: Span, most: Span, key: &str, faults: &mut Faults) {
    if value < least || value > most {
        faults.add(key, Code::BadValue, format!("a duration from {least} to {most} belongs here"));
    }
}

const DAY: Span = Span::secs(86_400);

impl Alone for Issuer {
    fn alone(&self, faults: &mut Faults) {
        own_name(self.name.as_str(), faults);
        let shared = self.hs256_secret.is_some();
        match self.key_source() {
            None => {
                let given = [self.discovery, self.jwks_url.is_some(), self.jwks_file.is_some(), shared];
                let (code, message) = if given.contains(&true) {
                    (Code::Conflict, "its keys come from more than one place")
                } else {
                    (Code::MissingKey, "nothing says where its keys come from")
                };
                faults.add("", code, message).hint("give one of discovery = true, jwks_url, jwks_file, hs256_secret");
            }
            Some(KeySource::Discovery) => self.discovery(faults),
            Some(KeySource::JwksUrl(url)) => destination(url, self.allow_private, "jwks_url", faults),
            Some(KeySource::JwksFile(_) | KeySource::SharedSecret(_)) => {}
        }
        if !shared && self.next_hs256_secret.is_some() {
            faults.add("next_hs256_secret", Code::Conflict, "it follows hs256_secret, and there is none");
        }
        if !shared && self.issuer.is_none() {
            faults
                .add("", Code::MissingKey, "the key issuer is missing")
                .hint("write the iss claim exactly as it stands in the tokens");
        }
        if !shared && self.audience.is_empty() {
            faults
                .add("", Code::MissingKey, "the key audience is missing")
                .hint("without it tokens meant for others would be accepted: name what aud says");
        }
        self.algorithms_alone(faults);
        if let Some(leeway) = self.leeway {
            between(leeway, Span::secs(0), Span::secs(60), "leeway", faults);
        }
        if let Some(lifetime) = self.max_lifetime {
            between(lifetime, Span::secs(1), Span::secs(366 * 86_400), "max_lifetime", faults);
        }
        for (index, typ) in self.typ.iter().enumerate() {
            let plain = typ.to_ascii_lowercase();
            let plain = plain.strip_prefix("application/").unwrap_or(&plain);
            if ["dpop+jwt", "logout+jwt", "secevent+jwt"].contains(&plain) {
                faults.add(format!("typ[{index}]"), Code::BadValue, "tokens of this type are not access tokens");
            }
        }
    }
}

impl Issuer {
    fn discovery(&self, faults: &mut Faults) {
        let Some(text) = &self.issuer else { return };
        match text.parse::<HttpUrl>() {
            Ok(url) => destination(&url, self.allow_private, "issuer", faults),
            Err(error) => {
                faults.add("issuer", Code::BadValue, format!("discovery needs a URL here: {error}"));
            }
        }
    }

    fn algorithms_alone(&self, faults: &mut Faults) {
        if self.hs256_secret.is_none() {
            return public_algorithms(&self.algorithms, "algorithms", faults);
        }
        if self.algorithms.len() > 1 {
            faults.add("algorithms", Code::BadValue, "a shared secret is used with one algorithm");
        }
        for (index, algorithm) in self.algorithms.iter().enumerate() {
            let path = format!("algorithms[{index}]");
            if !algorithm.is_symmetric() {
                faults.add(path, Code::Conflict, "a shared secret has no public keys").hint("HS256, HS384 or HS512");
            } else if self.algorithms.get(..index).is_some_and(|before| before.contains(algorithm)) {
                faults.add(path, Code::BadValue, "named twice");
            }
        }
    }
}

impl Alone for Provider {
    fn alone(&self, faults: &mut Faults) {
        own_name(self.name.as_str(), faults);
        if self.name.as_str().contains(['/', ':']) {
            faults.add("name", Code::BadValue, "a provider's name has no / and no :").hint("it is part of paths");
        }
        if !self.kind.is_built() {
            return; // the schema walk has said so
        }
        self.cloud_alone(faults);
        if self.api.is_some() && self.kind.dialect() != Some(ProviderDialect::OpenAi) {
            faults
                .add("api", Code::Conflict, format!("{} has neither of OpenAI's APIs", self.kind))
                .hint("leave it out: its own API is used");
        } else if self.prefers_native() && self.kind != ProviderKind::Ollama {
            faults
                .add("api", Code::Conflict, format!("{} has no API of its own here", self.kind))
                .hint("native is Ollama's; give chat or responses");
        }
        self.resilience_alone(faults);
        if let Some(cache) = &self.cache {
            cache.alone(faults);
        }
        self.aws_alone(faults);
        self.buckets_alone(faults);
        let env = self.kind.env_key();
        match &self.base_url {
            Some(url) => destination(url, self.allow_private, "base_url", faults),
            // Their addresses are made of what else is said, and they have said what is missing.
            None if matches!(self.kind, ProviderKind::Vertex | ProviderKind::Bedrock) => {}
            None if self.kind.default_base_url().is_none() => {
                faults
                    .add("", Code::MissingKey, "the key base_url is missing")
                    .hint(format!("{} has no address of its own", self.kind));
            }
            None if self.key_refs().is_empty() && !self.kind.is_local() => {
                let hint = env.map(|env| format!("api_key = {{ env = \"{env}\" }}"));
                let fault = faults.add("", Code::MissingKey, "the key api_key is missing");
                if let Some(hint) = hint {
                    fault.hint(hint);
                }
            }
            None => {}
        }
    }
}

impl Alone for Model {
    fn alone(&self, faults: &mut Faults) {
        own_name(self.name.as_str(), faults);
        if self.name.as_str().starts_with("vouchgate/") {
            faults.add("name", Code::BadValue, "names that begin with vouchgate/ are taken").hint("choose another");
        }
        for (index, target) in self.targets.iter().enumerate() {
            if target.provider.as_str() == OWN_NAME && target.model != "echo" {
                faults.add(format!("targets[{index}].model"), Code::UnknownReference, "the built-in model is echo");
            }
        }
        timeout_alone(&self.timeout, "timeout", faults);
        self.routing_alone(faults);
        if let Some(cache) = &self.cache {
            cache.alone(faults);
        }
    }
}

/// Times that can be kept.
fn timeout_alone(timeout: &Timeout, at: &str, faults: &mut Faults) {
    let Timeout { connect, first_byte, idle, total } = timeout;
    for (key, time) in [("connect", connect), ("first_byte", first_byte), ("idle", idle), ("total", total)] {
        if let Some(time) = time {
            between(*time, Span::new(std::time::Duration::from_millis(1)), DAY, &format!("{at}.{key}"), faults);
        }
    }
}

impl Alone for Policy {
    fn alone(&self, faults: &mut Faults) {
        own_name(self.name.as_str(), faults);
        let may = &self.may;
        let lists = [&may.models, &may.services, &may.upstreams, &may.providers];
        if lists.iter().all(|list| list.is_empty()) && may.passthrough.is_empty() {
            faults
                .add("may", Code::MissingKey, "it allows nothing")
                .hint("give models, services, upstreams, providers or passthrough");
        }
        twice::<Bound>(&self.who.bound, "who.bound", faults);
        twice::<crate::EvidenceKind>(&self.who.attested, "who.attested", faults);
        if !self.who.key.is_empty() {
            const HINT: &str = "keys are good for whoever has them; use tokens where that is not enough";
            if !self.who.attested.is_empty() || self.who.level.is_some() || !self.who.annotations.is_empty() {
                faults.add("who.key", Code::Conflict, "nobody has a vg_ key for what it proved to be").hint(HINT);
            }
            if !self.who.bound.is_empty() {
                faults.add("who.bound", Code::Conflict, "a vg_ key is bound to nothing").hint(HINT);
            }
            if self.single_use {
                faults.add("single_use", Code::Conflict, "a vg_ key is made to be used again").hint(HINT);
            }
        }
        for (index, rate) in self.rate.iter().enumerate() {
            if rate.per() == crate::Per::Key && self.who.key.is_empty() {
                faults
                    .add(format!("rate[{index}].per"), Code::Conflict, "this policy is not for keys")
                    .hint("count per subject, or name keys in who.key");
            }
            if let Rate::Requests { window, .. } | Rate::Tokens { window, .. } = rate {
                between(*window, Span::secs(1), Span::secs(31 * 86_400), &format!("rate[{index}].window"), faults);
            }
        }
        for (index, spend) in self.spend.iter().enumerate() {
            spend.alone(&format!("spend[{index}]."), faults);
            let same = |other: &&Spend| other.account(&self.name) == spend.account(&self.name);
            if self.spend.iter().take(index).any(|other| same(&other) && shares_a_unit(other, spend)) {
                let message = "another limit of the same unit, for the same callers and the same window";
                faults.add(format!("spend[{index}]"), Code::Conflict, message);
            }
        }
        twice::<String>(&self.tags, "tags", faults);
    }
}

fn shares_a_unit(one: &Spend, other: &Spend) -> bool {
    let units = other.limits();
    one.limits().iter().any(|(unit, _)| units.iter().any(|(other, _)| other == unit))
        || (one.concurrent.is_some() && other.concurrent.is_some())
}

impl Alone for Service {
    fn alone(&self, faults: &mut Faults) {
        if self.path.is_prefix() {
            faults.add("path", Code::BadValue, "a service has one path, without / at its end");
        } else if let Some(route) = routes::collision(self.path.as_str()) {
            faults.add("path", Code::Conflict, format!("{route} belongs to Vouchgate")).hint("choose another path");
        }
        let mut used = std::collections::BTreeSet::new();
        let mut readable = true;
        for (key, text) in [("prompt", Some(&self.prompt)), ("system", self.system.as_ref())] {
            match text.map(|text| Template::parse(text)) {
                Some(Ok(template)) => used.extend(template.variables().into_iter().map(str::to_owned)),
                Some(Err(error)) => {
                    readable = false;
                    let fault = faults.add(key, Code::BadValue, error.message);
                    if let Some(hint) = error.hint {
                        fault.hint(hint);
                    }
                }
                None => {}
            }
        }
        for (name, variable) in &self.variables {
            let path = crate::tree::join("variables", name);
            if !is_variable(name) {
                faults.add(path, Code::BadValue, "not the name of a variable").at_key();
                continue;
            }
            if readable && !used.contains(name) {
                faults
                    .add(&path, Code::UnknownReference, "no prompt uses it")
                    .hint(format!("write {{{{{name}}}}} where it belongs"))
                    .at_key();
            }
            let fits = match (&variable.default, variable.kind) {
                (None, _)
                | (Some(Scalar::String(_)), VariableKind::String)
                | (Some(Scalar::Integer(_) | Scalar::Number(_)), VariableKind::Number)
                | (Some(Scalar::Boolean(_)), VariableKind::Boolean) => true,
                (Some(_), _) => false,
            };
            if !fits {
                faults.add(format!("{path}.default"), Code::WrongType, "not of the variable's type");
            }
            if variable.required == Some(true) && variable.default.is_some() {
                faults.add(format!("{path}.required"), Code::Conflict, "a variable with a default is never missing");
            }
        }
    }
}

impl Alone for Upstream {
    fn alone(&self, faults: &mut Faults) {
        if let Some(route) = routes::collision(self.path.as_str()) {
            faults.add("path", Code::Conflict, format!("{route} belongs to Vouchgate")).hint("choose another path");
        }
        destination(&self.url, self.allow_private, "url", faults);
        let printable = |text: &str| text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        if self.inject.as_ref().is_some_and(|inject| !printable(&inject.prefix)) {
            faults.add("inject.prefix", Code::BadValue, "a header holds printable ASCII only");
        }
    }
}

impl Alone for Server {
    fn alone(&self, faults: &mut Faults) {
        if let Some(url) = &self.external_url {
            self.reached_at(url, "external_url", faults);
        } else if !self.external_urls.is_empty() {
            faults
                .add("external_urls", Code::Conflict, "further URLs without a first one")
                .hint("external_url is the one that tokens name");
        }
        twice(&self.external_urls, "external_urls", faults);
        for (index, url) in self.external_urls.iter().enumerate() {
            let key = format!("external_urls[{index}]");
            self.reached_at(url, &key, faults);
            if Some(url) == self.external_url.as_ref() {
                faults.add(key, Code::BadValue, "external_url is this already");
            }
        }
        for (key, address, tls) in
            [("listen", self.listen, &self.tls), ("admin_listen", self.admin_listen, &self.admin_tls)]
        {
            let loopback = crate::canonical(address.ip()).is_loopback();
            if !loopback && tls.is_none() && !self.plain_http {
                let tls = if key == "listen" { "tls" } else { "admin_tls" };
                faults
                    .add(key, Code::Conflict, "plain HTTP on an address that others reach")
                    .hint(format!("add {tls}, or plain_http = true if something in front adds TLS"));
            }
        }
        for (section, tls) in [("tls", &self.tls), ("admin_tls", &self.admin_tls)] {
            let Some(tls) = tls else { continue };
            let at = format!("{section}.client_certificates");
            match (tls.client_certificates, tls.client_ca.is_some()) {
                (Some(ClientCertificates::Ca), false) => {
                    faults
                        .add(at, Code::Conflict, "nothing says whose certificates are trusted")
                        .hint(format!("add client_ca to {section}, or accept \"any\""));
                }
                (Some(ClientCertificates::Off), true) => {
                    faults
                        .add(at, Code::Conflict, "client_ca would trust certificates that nobody is asked for")
                        .hint("leave out one of the two");
                }
                _ => {}
            }
        }
        let same_ip = self.listen.ip() == self.admin_listen.ip()
            || self.listen.ip().is_unspecified()
            || self.admin_listen.ip().is_unspecified();
        if self.listen.port() != 0 && self.listen.port() == self.admin_listen.port() && same_ip {
            faults.add("admin_listen", Code::Conflict, "the public listener has this address");
        }
    }
}

impl Server {
    /// A URL under which clients reach us.
    fn reached_at(&self, url: &HttpUrl, key: &str, faults: &mut Faults) {
        let path = url.url().path();
        if path != "/" {
            faults.add(key, Code::BadValue, "a URL with a path").hint("Vouchgate has a host of its own");
        } else if url.as_str().ends_with('/') {
            let hint = format!("write {:?}: tokens name it exactly so", url.trimmed());
            faults.add(key, Code::BadValue, "a / at the end").hint(hint);
        }
        if !url.is_https() && !url.is_loopback() && !self.plain_http {
            faults
                .add(key, Code::BadValue, "plain HTTP would show every token to the network")
                .hint("begin with https://; plain_http = true if something in front adds TLS");
        }
    }
}

impl Alone for Limits {
    fn alone(&self, faults: &mut Faults) {
        const KIB: u64 = 1 << 10;
        const GIB: u64 = 1 << 30;
        let sizes = [
            // hyper needs a read buffer of at least 8 KiB.
            ("header_bytes", self.header_bytes, 8 * KIB, 1024 * KIB),
            ("uri", self.uri, KIB, 64 * KIB),
            ("body", self.body, KIB, GIB),
            ("upload", self.upload, KIB, GIB),
            ("token_body", self.token_body, KIB, 1024 * KIB),
            ("admin_body", self.admin_body, KIB, 16 * 1024 * KIB),
            ("response_body", self.response_body, KIB, GIB),
            ("token", self.token, KIB, 64 * KIB),
        ];
        for (key, size, least, most) in sizes {
            if size.as_u64() < least || size.as_u64() > most {
                let (least, most) = (ByteSize::bytes(least), ByteSize::bytes(most));
                faults.add(key, Code::BadValue, format!("a size from {least} to {most} belongs here"));
            }
        }
        for (key, smaller) in [("uri", self.uri), ("token", self.token)] {
            if smaller > self.header_bytes {
                faults.add(key, Code::Conflict, "larger than header_bytes, of which it is a part");
            }
        }
        let least = Span::new(std::time::Duration::from_millis(10));
        let times = [
            ("tls_handshake", self.tls_handshake),
            ("header_timeout", self.header_timeout),
            ("body_idle", self.body_idle),
            ("write_idle", self.write_idle),
            ("connect", self.connect),
            ("first_byte", self.first_byte),
            ("idle", self.idle),
        ];
        for (key, time) in times {
            between(time, least, DAY, key, faults);
        }
        for (key, time) in [("pre_stop", self.pre_stop), ("drain_timeout", self.drain_timeout)] {
            between(time, Span::secs(0), DAY, key, faults);
        }
    }
}

impl Alone for CacheSection {
    fn alone(&self, faults: &mut Faults) {
        if self.size.as_u64() > 64 << 30 {
            faults.add("size", Code::BadValue, "a size up to 64GiB belongs here");
        }
    }
}

impl Alone for StoreSection {
    fn alone(&self, faults: &mut Faults) {
        if matches!(self.url, StoreAddress::Referred(SecretRef::Secret(_))) {
            faults.add("url", Code::Conflict, "the vault lies in the store").hint("use file or env");
        }
        if matches!(self.shared, Some(SharedAddress::Referred(SecretRef::Secret(_)))) {
            faults.add("shared", Code::Conflict, "it is needed before the vault is open").hint("use file or env");
        } else if self.shared.is_some() && matches!(self.url, StoreAddress::Written(StoreUrl::Sqlite(_))) {
            faults
                .add("shared", Code::Conflict, "nodes that share something share a database first")
                .hint("url = \"postgres://...\"");
        }
        let tls = match &self.shared {
            Some(SharedAddress::Written(url)) => url.url().expose().starts_with("rediss://"),
            other => other.is_some(),
        };
        if self.shared_ca.is_some() && !tls {
            faults.add("shared_ca", Code::Conflict, "nothing is verified by it").hint("shared = \"rediss://...\"");
        }
        between(self.retention, Span::secs(3600), Span::secs(3650 * 86_400), "retention", faults);
        between(self.usage_retention, Span::secs(86_400), Span::secs(36_500 * 86_400), "usage_retention", faults);
    }
}

impl Alone for TelemetrySection {
    fn alone(&self, faults: &mut Faults) {
        let Some(otlp) = &self.otlp else { return };
        destination(&otlp.url, otlp.allow_private, "otlp.url", faults);
        between(otlp.interval, Span::secs(1), Span::secs(3600), "otlp.interval", faults);
        for (name, value) in &otlp.headers {
            let key = format!("otlp.headers.{name}");
            if let Err(error) = name.parse::<HeaderName>() {
                faults.add(&key, Code::BadValue, error.to_string());
            }
            if matches!(value, FieldValue::Secret(SecretRef::Secret(_))) {
                faults.add(&key, Code::Conflict, "secrets of the vault go to providers only").hint("use file or env");
            }
        }
    }
}

impl Alone for VaultSection {
    fn alone(&self, faults: &mut Faults) {
        if matches!(self.key, SecretRef::Secret(_)) {
            faults
                .add("key", Code::Conflict, "the vault cannot hold the key it is sealed with")
                .hint("use file or env");
        }
        for (index, older) in self.older.iter().enumerate() {
            let key = format!("older[{index}]");
            if !matches!(older, SecretRef::File(_)) {
                faults.add(key, Code::Conflict, "a master key is a file").hint("{ file = \"old-master.key\" }");
            } else if *older == self.key || self.older.get(..index).is_some_and(|before| before.contains(older)) {
                faults.add(key, Code::BadValue, "named twice");
            }
        }
    }
}

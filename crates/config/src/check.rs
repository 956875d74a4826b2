//! What can be wrong between resources.

mod app;
mod budget;
mod oauth;
mod pins;
mod risk;
mod runtime_secret;

use std::collections::{BTreeMap, BTreeSet};

use crate::fault::{Code, Faults};
use crate::resource::Resource;
use crate::values::{Origin, Pattern};
use crate::{
    App, Bound, Budget, Client, Config, ECHO_MODEL, Issuer, Model, OWN_NAME, PinSet, Policy, Price, Provider, Risk,
    RuntimeSecret, Server, Service, Signin, Target, Transmitter, Upstream, Webhook, routes, suggest,
};

/// Resources with their places. Where a resource could not be read, its name still counts.
#[derive(Default)]
pub(crate) struct World<'a> {
    pub(crate) issuers: Placed<'a, Issuer>,
    pub(crate) clients: Placed<'a, Client>,
    pub(crate) apps: Placed<'a, App>,
    pub(crate) providers: Placed<'a, Provider>,
    pub(crate) models: Placed<'a, Model>,
    pub(crate) policies: Placed<'a, Policy>,
    pub(crate) risks: Placed<'a, Risk>,
    pub(crate) budgets: Placed<'a, Budget>,
    pub(crate) services: Placed<'a, Service>,
    pub(crate) upstreams: Placed<'a, Upstream>,
    pub(crate) runtime_secrets: Placed<'a, RuntimeSecret>,
    pub(crate) transmitters: Placed<'a, Transmitter>,
    pub(crate) webhooks: Placed<'a, Webhook>,
    pub(crate) pins: Placed<'a, PinSet>,
    /// The prices that could be read, with their index.
    pub(crate) prices: Vec<(usize, &'a Price)>,
    /// Where Vouchgate listens, if that could be read.
    pub(crate) server: Option<&'a Server>,
    /// The origins whose pages may call, if they could be read.
    pub(crate) origins: Option<&'a [Origin]>,
    pub(crate) signin: Sign<'a>,
}

/// Whether and where people sign in.
#[derive(Default)]
pub(crate) enum Sign<'a> {
    /// Nowhere.
    #[default]
    Nowhere,
    /// It is said, but could not be read.
    Unreadable,
    /// There.
    In(&'a Signin),
}

/// The resources of one kind: those that could be read with their index, and every name with its index.
pub(crate) struct Placed<'a, R> {
    pub(crate) read: Vec<(usize, &'a R)>,
    pub(crate) names: Vec<(usize, String)>,
}

impl<R> Default for Placed<'_, R> {
    fn default() -> Self {
        Self { read: Vec::new(), names: Vec::new() }
    }
}

impl<'a, R: Resource> Placed<'a, R> {
    fn all(resources: &'a [R]) -> Self {
        Self {
            read: resources.iter().enumerate().collect(),
            names: resources.iter().map(|r| r.name().as_str().to_owned()).enumerate().collect(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|(_, known)| known == name)
    }

    /// The resources that could be read, each with its path.
    fn iter(&self) -> impl Iterator<Item = (String, &'a R)> {
        self.read.iter().map(|(index, resource)| (format!("{}[{index}]", R::KIND), *resource))
    }

    /// Add a fault for each name that is taken twice; both places are named.
    fn duplicates(&self, faults: &mut Faults) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, name) in &self.names {
            if let Some(before) = first.get(name.as_str()) {
                let message = format!("a second {} called {name:?}", R::KIND);
                faults
                    .add(format!("{}[{index}].name", R::KIND), Code::DuplicateName, message)
                    .see(format!("{}[{before}].name", R::KIND));
            } else {
                first.insert(name, *index);
            }
        }
    }

    /// Add a fault unless a resource is called `name`.
    fn need(&self, name: &str, path: String, faults: &mut Faults) {
        if !self.has(name) {
            let fault = faults.add(path, Code::UnknownReference, format!("there is no {} called {name:?}", R::KIND));
            if let Some(near) = suggest::nearest(name, self.names.iter().map(|(_, name)| name.as_str())) {
                fault.hint(format!("did you mean {near:?}?"));
            }
        }
    }

    /// Add a fault for each plain name (not a pattern) in a list that no resource has.
    fn need_all(&self, list: &[Pattern], path: &str, faults: &mut Faults) {
        for (index, pattern) in list.iter().enumerate().filter(|(_, pattern)| pattern.is_literal()) {
            self.need(pattern.as_str(), format!("{path}[{index}]"), faults);
        }
    }
}

impl<'a> World<'a> {
    /// The resources of a configuration.
    pub(crate) fn of(config: &'a Config) -> Self {
        Self {
            issuers: Placed::all(&config.issuers),
            clients: Placed::all(&config.clients),
            apps: Placed::all(&config.apps),
            providers: Placed::all(&config.providers),
            models: Placed::all(&config.models),
            policies: Placed::all(&config.policies),
            risks: Placed::all(&config.risks),
            budgets: Placed::all(&config.budgets),
            services: Placed::all(&config.services),
            upstreams: Placed::all(&config.upstreams),
            runtime_secrets: Placed::all(&config.runtime_secrets),
            transmitters: Placed::all(&config.transmitters),
            webhooks: Placed::all(&config.webhooks),
            pins: Placed::all(&config.pins),
            prices: config.prices.iter().enumerate().collect(),
            server: Some(&config.server),
            origins: Some(&config.cors.origins),
            signin: config.signin.as_ref().map_or(Sign::Nowhere, Sign::In),
        }
    }

    /// Find everything that is wrong between them.
    pub(crate) fn check(&self, faults: &mut Faults) {
        self.issuers.duplicates(faults);
        self.clients.duplicates(faults);
        self.apps.duplicates(faults);
        self.providers.duplicates(faults);
        self.models.duplicates(faults);
        self.policies.duplicates(faults);
        self.risks.duplicates(faults);
        self.budgets.duplicates(faults);
        self.services.duplicates(faults);
        self.upstreams.duplicates(faults);
        self.runtime_secrets.duplicates(faults);
        self.transmitters.duplicates(faults);
        self.webhooks.duplicates(faults);
        self.pins.duplicates(faults);
        self.pins_apart(faults);
        self.issuers_apart(faults);
        self.paths_apart(faults);
        self.targets(faults);
        self.prices(faults);
        self.runtime_secrets(faults);
        self.token_service(faults);
        self.apps(faults);
        self.risk_rules(faults);
        for (path, policy) in self.policies.iter() {
            self.policy(&path, policy, faults);
        }
        for (path, budget) in self.budgets.iter() {
            self.budget(&path, budget, faults);
        }
    }

    /// Tokens are told apart by their issuer: no two may claim the same, and only one may go without.
    fn issuers_apart(&self, faults: &mut Faults) {
        let mut claimed: BTreeMap<&str, String> = BTreeMap::new();
        let mut shared: Option<String> = None;
        for (path, issuer) in self.issuers.iter() {
            if let Some(iss) = issuer.issuer.as_deref() {
                match claimed.get(iss) {
                    Some(first) => {
                        faults
                            .add(format!("{path}.issuer"), Code::Conflict, "two issuers with the same iss claim")
                            .see(format!("{first}.issuer"));
                    }
                    None => {
                        claimed.insert(iss, path.clone());
                    }
                }
            }
            if issuer.hs256_secret.is_some() {
                match &shared {
                    Some(first) => {
                        faults
                            .add(format!("{path}.hs256_secret"), Code::Conflict, "a second issuer with a shared secret")
                            .see(format!("{first}.hs256_secret"));
                    }
                    None => shared = Some(path),
                }
            }
        }
    }

    /// No two services or upstreams compete for a request.
    fn paths_apart(&self, faults: &mut Faults) {
        let services = self.services.iter().map(|(path, service)| (path, service.path.as_str()));
        let upstreams = self.upstreams.iter().map(|(path, upstream)| (path, upstream.path.as_str()));
        let all: Vec<(String, &str)> = services.chain(upstreams).collect();
        for (index, (path, route)) in all.iter().enumerate() {
            let before = all.iter().take(index).find(|(_, other)| routes::overlap(route, other));
            if let Some((other, _)) = before {
                faults
                    .add(format!("{path}.path"), Code::Conflict, "the path overlaps with another")
                    .see(format!("{other}.path"));
            }
        }
    }

    /// Models lead to providers, services to models.
    fn targets(&self, faults: &mut Faults) {
        for (path, model) in self.models.iter() {
            for (index, target) in model.targets.iter().enumerate() {
                if target.provider.as_str() != OWN_NAME {
                    self.providers.need(target.provider.as_str(), format!("{path}.targets[{index}].provider"), faults);
                }
            }
            self.another_key(&path, model, faults);
        }
        let of_models = self.models.iter().map(|(path, model)| (path, &model.cache));
        let of_providers = self.providers.iter().map(|(path, provider)| (path, &provider.cache));
        for (path, cache) in of_models.chain(of_providers) {
            if let Some(semantic) = cache.as_ref().and_then(|cache| cache.semantic.as_ref())
                && semantic.provider.as_str() != OWN_NAME
            {
                self.providers.need(semantic.provider.as_str(), format!("{path}.cache.semantic.provider"), faults);
            }
        }
        for (path, service) in self.services.iter() {
            self.need_model(&service.model, format!("{path}.model"), faults);
        }
    }

    /// A hedge needs a target with another key than the first's.
    fn another_key(&self, path: &str, model: &Model, faults: &mut Faults) {
        if model.hedge.as_ref().is_none_or(|hedge| hedge.same_key) {
            return;
        }
        let asked = |target: &&Target| target.shadow.is_none() && target.provider.as_str() != OWN_NAME;
        let mut names: Vec<&str> = model.targets.iter().filter(asked).map(|target| target.provider.as_str()).collect();
        let several = names.len() > 1;
        names.dedup();
        let [only] = names.as_slice() else { return };
        let keys = self.providers.iter().find(|(_, provider)| provider.name.as_str() == *only);
        if several && keys.is_some_and(|(_, provider)| provider.keys.len() < 2) {
            faults
                .add(
                    format!("{path}.hedge"),
                    Code::Conflict,
                    "all targets share one key, and no key is used twice at once",
                )
                .hint("add a target of another provider, or same_key = true");
        }
    }

    /// Prices are of providers there are, and no model has two.
    fn prices(&self, faults: &mut Faults) {
        let mut first: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (index, price) in &self.prices {
            let provider = price.provider.as_str();
            self.providers.need(provider, format!("{}[{index}].provider", Price::KIND), faults);
            match first.get(&(provider, price.model.as_str())) {
                Some(before) => {
                    faults
                        .add(
                            format!("{}[{index}].model", Price::KIND),
                            Code::DuplicateName,
                            "a second price of this model",
                        )
                        .see(format!("{}[{before}].model", Price::KIND));
                }
                None => {
                    first.insert((provider, &price.model), *index);
                }
            }
        }
    }

    /// Add a fault unless `model` is a model's name or begins with a provider's.
    fn need_model(&self, model: &str, path: String, faults: &mut Faults) {
        let direct =
            model.split_once('/').is_some_and(|(provider, rest)| self.providers.has(provider) && !rest.is_empty());
        if model == ECHO_MODEL || direct || self.models.has(model) {
            return;
        }
        let fault = faults.add(path, Code::UnknownReference, format!("there is no model called {model:?}"));
        let names = self.models.names.iter().map(|(_, name)| name.as_str()).chain([ECHO_MODEL]);
        match suggest::nearest(model, names) {
            Some(near) => fault.hint(format!("did you mean {near:?}?")),
            None => fault.hint("name a [[model]], or write PROVIDER/MODEL"),
        };
    }

    fn policy(&self, path: &str, policy: &Policy, faults: &mut Faults) {
        let own: BTreeSet<&str> = [OWN_NAME].into();
        let issuers = &policy.who.issuer;
        for (index, issuer) in issuers.iter().enumerate() {
            if issuer.is_literal() && !own.contains(issuer.as_str()) {
                let at = format!("{path}.who.issuer[{index}]");
                self.issuers.need(issuer.as_str(), at, faults);
            }
        }
        if let Some(index) = policy.who.bound.iter().position(|proof| *proof == Bound::Mtls) {
            self.certificates(oauth::Shown::Some, format!("{path}.who.bound[{index}]"), faults);
        }
        let may = &policy.may;
        self.services.need_all(&may.services, &format!("{path}.may.services"), faults);
        self.upstreams.need_all(&may.upstreams, &format!("{path}.may.upstreams"), faults);
        self.providers.need_all(&may.providers, &format!("{path}.may.providers"), faults);
        for (index, model) in may.models.iter().enumerate().filter(|(_, model)| model.is_literal()) {
            let at = format!("{path}.may.models[{index}]");
            self.need_model(model.as_str(), at, faults);
        }
        for (index, open) in may.passthrough.iter().enumerate() {
            let at = format!("{path}.may.passthrough[{index}].provider");
            self.providers.need(open.provider.as_str(), at, faults);
        }
    }
}

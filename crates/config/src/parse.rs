//! From text to [`Config`], or to every fault in it.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml::de::DeTable;

use crate::check::{Placed, Sign, World};
use crate::fault::{Code, Fault, Faults};
use crate::resource::{Alone, Resource};
use crate::tree::{Node, line_and_column};
use crate::{Config, MAX_TEXT, Price, walk};

/// Read a configuration, or say everything that is wrong with it, in the order of the text.
pub fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    if text.len() > MAX_TEXT {
        let mut faults = Faults::default();
        faults.add("", Code::TooLarge, "the text is too long").hint("at most 4 MiB");
        return Err(faults.without_lines());
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    let root = Node::from_toml(0..0, table.get_ref());
    let mut faults = Faults::default();
    let config = document(&root, &mut faults);
    let mut faults = faults.locate(text, &root);
    if !errors.is_empty() {
        faults = with_syntax(text, &errors, faults);
    }
    if faults.is_empty() { Ok(config) } else { Err(faults) }
}

/// Where the value at `path` (`provider[0].api_key`) stands in a configuration, or the nearest one around it: line and
/// column from 1. For faults that only show when the configuration is put to use.
pub fn locate(text: &str, path: &str) -> (usize, usize) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (table, _) = DeTable::parse_recoverable(text);
    line_and_column(text, Node::from_toml(0..0, table.get_ref()).locate(path, false))
}

/// So many errors of syntax are reported: one often brings others after it.
const MAX_SYNTAX_FAULTS: usize = 200;

/// Put the errors of syntax among the faults. What follows one may be misread, so other faults are kept only where
/// that cannot be the reason for them.
fn with_syntax(text: &str, errors: &[toml::de::Error], faults: Vec<Fault>) -> Vec<Fault> {
    let mut all: Vec<Fault> = Vec::new();
    let mut runaway = usize::MAX;
    for error in errors.iter().take(MAX_SYNTAX_FAULTS) {
        let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
        if ["unclosed", "in array", "array elements", "inline table"].iter().any(|w| error.message().contains(w)) {
            runaway = runaway.min(line);
        }
        if all.iter().all(|fault| fault.line != line) {
            let (path, message) = (String::new(), format!("not TOML: {}", error.message()));
            let unquoted = ["quoted", "invalid float", "invalid integer", "invalid datetime", "invalid boolean"];
            let hint = unquoted.iter().any(|w| error.message().contains(w)).then_some("a text stands in double quotes");
            let hint = hint.map(str::to_owned);
            all.push(Fault { line, column, path, code: Code::Syntax.as_str(), message, hint });
        }
    }
    all.sort_by_key(|fault| fault.line);
    if let Some(first) = all.iter().position(|fault| fault.line >= runaway) {
        all.truncate(first + 1);
    }
    let doubtful = [Code::MissingKey.as_str(), Code::UnknownReference.as_str(), Code::Conflict.as_str()];
    let kept = faults.into_iter().filter(|fault| {
        fault.line < runaway && !doubtful.contains(&fault.code) && all.iter().all(|error| error.line != fault.line)
    });
    let mut together: Vec<Fault> = kept.collect();
    together.append(&mut all);
    together.sort_by_key(|fault| (fault.line, fault.column));
    together
}

/// Read a whole document, part by part, so that a fault in one hides none in another.
fn document(root: &Node, faults: &mut Faults) -> Config {
    let schema = crate::shared_schema();
    walk::check(schema, schema, root, "", faults);
    let config = Config {
        server: section(root, "server", faults),
        limits: section(root, "limits", faults),
        cors: plain(root, "cors", faults),
        cache: section(root, "cache", faults),
        store: section(root, "store", faults),
        vault: section(root, "vault", faults),
        rotation: section(root, "rotation", faults),
        log: plain(root, "log", faults),
        audit: section(root, "audit", faults),
        telemetry: section(root, "telemetry", faults),
        anomaly: section(root, "anomaly", faults),
        app_config: section(root, "app_config", faults),
        attest: section(root, "attest", faults),
        token: section(root, "token", faults),
        dpop: section(root, "dpop", faults),
        signin: optional(root, "signin", faults),
        ..Config::default()
    };
    let issuers = resources(root, faults);
    let clients = resources(root, faults);
    let apps = resources(root, faults);
    let providers = resources(root, faults);
    let models = resources(root, faults);
    let policies = resources(root, faults);
    let risks = resources(root, faults);
    let budgets = resources(root, faults);
    let services = resources(root, faults);
    let upstreams = resources(root, faults);
    let runtime_secrets = resources(root, faults);
    let transmitters = resources(root, faults);
    let webhooks = resources(root, faults);
    let pins = resources(root, faults);
    let prices = prices(root, faults);
    World {
        issuers: placed(root, &issuers),
        clients: placed(root, &clients),
        apps: placed(root, &apps),
        providers: placed(root, &providers),
        models: placed(root, &models),
        policies: placed(root, &policies),
        risks: placed(root, &risks),
        budgets: placed(root, &budgets),
        services: placed(root, &services),
        upstreams: placed(root, &upstreams),
        runtime_secrets: placed(root, &runtime_secrets),
        transmitters: placed(root, &transmitters),
        webhooks: placed(root, &webhooks),
        pins: placed(root, &pins),
        prices: prices.iter().map(|(index, price)| (*index, price)).collect(),
        origins: (!faults.touch("cors")).then_some(&config.cors.origins),
        server: (!faults.touch("server")).then_some(&config.server),
        signin: match (&config.signin, root.entry("signin")) {
            (Some(signin), _) => Sign::In(signin),
            (None, Some(_)) => Sign::Unreadable,
            (None, None) => Sign::Nowhere,
        },
    }
    .check(faults);
    Config {
        issuers: values(issuers),
        clients: values(clients),
        apps: values(apps),
        providers: values(providers),
        models: values(models),
        policies: values(policies),
        risks: values(risks),
        budgets: values(budgets),
        services: values(services),
        upstreams: values(upstreams),
        runtime_secrets: values(runtime_secrets),
        transmitters: values(transmitters),
        webhooks: values(webhooks),
        pins: values(pins),
        prices: values(prices),
        ..config
    }
}

/// A section that has checks of its own.
fn section<T: DeserializeOwned + Default + Alone>(root: &Node, key: &str, faults: &mut Faults) -> T {
    match root.entry(key) {
        Some(entry) if !faults.touch(key) => typed(&entry.node, key, faults).unwrap_or_default(),
        _ => T::default(),
    }
}

/// A section that need not be there.
fn optional<T: DeserializeOwned + Alone>(root: &Node, key: &str, faults: &mut Faults) -> Option<T> {
    let entry = root.entry(key)?;
    if faults.touch(key) { None } else { typed(&entry.node, key, faults) }
}

/// A section that has no checks.
fn plain<T: DeserializeOwned + Default>(root: &Node, key: &str, faults: &mut Faults) -> T {
    match root.entry(key) {
        Some(entry) if !faults.touch(key) => read(&entry.node, key, faults).unwrap_or_default(),
        _ => T::default(),
    }
}

/// The resources of one kind that can be read, with their indices. One that has faults is read without the parts
/// they are in, so that what is left can still be compared with the others.
fn resources<R: Resource>(root: &Node, faults: &mut Faults) -> Vec<(usize, R)> {
    let items = root.entry(R::KIND).map(|entry| entry.node.items()).unwrap_or_default();
    let one = |(index, node): (usize, &Node)| {
        let path = format!("{}[{index}]", R::KIND);
        if !faults.touch(&path) {
            return Some((index, typed(node, &path, faults)?));
        }
        let rest = node.without(&path, &|path| faults.hit(path))?;
        let resource: R = serde_json::from_value(rest.to_json()).ok()?;
        if faults.only_strange_keys(&path) {
            alone(&resource, &path, faults);
        }
        Some((index, resource))
    };
    items.iter().enumerate().filter_map(one).collect()
}

/// The prices, with their indices. They have no names; one that has faults says nothing to the others.
fn prices(root: &Node, faults: &mut Faults) -> Vec<(usize, Price)> {
    let items = root.entry(Price::KIND).map(|entry| entry.node.items()).unwrap_or_default();
    let one = |(index, node): (usize, &Node)| {
        let path = format!("{}[{index}]", Price::KIND);
        if faults.touch(&path) { None } else { Some((index, typed(node, &path, faults)?)) }
    };
    items.iter().enumerate().filter_map(one).collect()
}

fn placed<'a, R: Resource>(root: &Node, resources: &'a [(usize, R)]) -> Placed<'a, R> {
    let items = root.entry(R::KIND).map(|entry| entry.node.items()).unwrap_or_default();
    let name = |node: &Node| node.entry("name").and_then(|entry| entry.node.text()).map(str::to_owned);
    Placed {
        read: resources.iter().map(|(index, resource)| (*index, resource)).collect(),
        names: items.iter().enumerate().filter_map(|(index, node)| Some((index, name(node)?))).collect(),
    }
}

fn values<R>(resources: Vec<(usize, R)>) -> Vec<R> {
    resources.into_iter().map(|(_, resource)| resource).collect()
}

/// Read a part that the schema walk found nothing wrong with, and check it on its own.
pub(crate) fn typed<T: DeserializeOwned + Alone>(node: &Node, path: &str, faults: &mut Faults) -> Option<T> {
    let value: T = read(node, path, faults)?;
    alone(&value, path, faults);
    Some(value)
}

fn alone<T: Alone>(value: &T, path: &str, faults: &mut Faults) {
    let mut own = Faults::default();
    value.alone(&mut own);
    faults.extend_at(path, own);
}

/// What serde says when the schema let something through. Its own words may repeat a value, so they are not shown.
pub(crate) const UNREADABLE: &str = "this cannot be read";

fn read<T: DeserializeOwned>(node: &Node, path: &str, faults: &mut Faults) -> Option<T> {
    if faults.touch(path) {
        return None;
    }
    let json: Json = node.to_json();
    let value = serde_json::from_value(json).ok();
    if value.is_none() {
        faults.add(path, Code::BadValue, UNREADABLE);
    }
    value
}

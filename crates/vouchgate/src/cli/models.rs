//! `vouchgate models`: the models that are configured, with what they cost and hold; with `--all`, every model the
//! built-in table knows.

use config::{Config, OWN_NAME, Provider};
use control::admin::SOCKET_NAME;
use control::catalogue::{CataloguePrice, catalogue};
use llm::catalogue::{Figures, Own};
use serde_json::{Map, Value, json};

use super::args::ModelsArgs;
use super::io::{Exit, Failure, Io, Outcome};
use super::place::Place;
use super::remote::{Api, answers};
use super::table::{Column, print, text};

const CONFIGURED: &[Column] = &[
    ("model", |row| text(row, "name")),
    ("provider", |row| text(row, "provider")),
    ("provider's model", |row| text(row, "model")),
    ("input", |row| usd(row, "input")),
    ("output", |row| usd(row, "output")),
    ("price from", |row| text(row, "price_from")),
    ("context", |row| text(row, "context")),
    ("max output", |row| text(row, "max_output")),
    ("status", |row| text(row, "status")),
];

const ALL: &[Column] = &[
    ("kind", |row| text(row, "kind")),
    ("model", |row| text(row, "model")),
    ("input", |row| usd(row, "input")),
    ("output", |row| usd(row, "output")),
    ("cache read", |row| usd(row, "cache_read")),
    ("context", |row| text(row, "context")),
    ("max output", |row| text(row, "max_output")),
    ("tools", |row| {
        row.get("tools").and_then(Value::as_bool).map_or("", |yes| if yes { "yes" } else { "no" }).to_owned()
    }),
    ("status", |row| text(row, "status")),
];

/// Print the list.
pub(super) async fn run(args: &ModelsArgs, io: &mut Io<'_>) -> Outcome {
    let place = Place::find(&args.state, io)?;
    let config = configured(&place, io).await?;
    let wanted = args.provider.as_deref();
    let (rows, columns, none) = if args.all {
        (every(&config, wanted), ALL, "The table knows no model of such a provider")
    } else {
        (named(&config, wanted), CONFIGURED, "There are no models; add a [[model]], or see --all")
    };
    if args.state.json {
        io.json(&Value::Array(rows))?;
    } else {
        print(io, columns, &rows, none)?;
        if !rows.is_empty() {
            io.note("Prices are in USD per million tokens; models with + cost more for long inputs.");
        }
    }
    Ok(Exit::Done)
}

/// The providers and models of a place: a server that runs there knows also those of the admin API. Without one, a file is
/// enough; a data directory without a file is opened.
pub(super) async fn configured(place: &Place, io: &mut Io<'_>) -> Result<Config, Failure> {
    let socket = place.data_dir().join(SOCKET_NAME);
    if answers(&socket).await {
        return merged(place, &Api::Running(socket)).await;
    }
    if place.file.is_some() || !place.data_dir().is_dir() {
        return Ok((*place.config).clone());
    }
    let opened = place.open(io).await?;
    let config = merged(place, &opened.api).await;
    opened.close().await;
    config
}

async fn merged(place: &Place, api: &Api) -> Result<Config, Failure> {
    let mut config = (*place.config).clone();
    config.providers = read(api.list("/providers").await?)?;
    config.models = read(api.list("/models").await?)?;
    Ok(config)
}

fn read<T: serde::de::DeserializeOwned>(items: Vec<Value>) -> Result<Vec<T>, Failure> {
    let one = |mut item: Value| {
        if let Some(object) = item.as_object_mut() {
            object.remove("source");
        }
        serde_json::from_value(item).map_err(|error| Failure::new(error.to_string()))
    };
    items.into_iter().map(one).collect()
}

/// One row for each target of each configured model.
fn named(config: &Config, wanted: Option<&str>) -> Vec<Value> {
    let mut rows = Vec::new();
    for model in &config.models {
        for target in &model.targets {
            let provider = config.providers.iter().find(|provider| provider.name == target.provider);
            if !is_wanted(wanted, target.provider.as_str(), provider) {
                continue;
            }
            let mut row = Map::new();
            row.insert("name".to_owned(), json!(model.name.as_str()));
            row.insert("provider".to_owned(), json!(target.provider.as_str()));
            row.insert("kind".to_owned(), json!(provider.map_or(OWN_NAME, |provider| provider.kind.as_str())));
            row.insert("model".to_owned(), json!(target.model));
            if let Some(provider) = provider {
                let own = gateway::own_figures(&config.prices, provider.name.as_str());
                known(&mut row, provider, &target.model, &own);
            }
            rows.push(Value::Object(row));
        }
    }
    rows
}

fn is_wanted(wanted: Option<&str>, name: &str, provider: Option<&Provider>) -> bool {
    wanted.is_none_or(|wanted| wanted == name || provider.is_some_and(|provider| provider.kind.as_str() == wanted))
}

/// What is known of a target.
fn known(row: &mut Map<String, Value>, provider: &Provider, model: &str, own: &[Own]) {
    let figures = Figures::of(provider.kind.as_str(), model, own);
    let from = match (&figures.price, figures.own_price) {
        (None, _) => Value::Null,
        (Some(_), true) => json!("configuration"),
        (Some(_), false) => json!("table"),
    };
    row.insert("price_from".to_owned(), from);
    row.insert("price".to_owned(), json!(figures.price.as_ref().map(CataloguePrice::from)));
    row.insert("context".to_owned(), json!(figures.limits.context));
    row.insert("max_input".to_owned(), json!(figures.limits.max_input));
    row.insert("max_output".to_owned(), json!(figures.limits.max_output));
    if let Some(entry) = figures.entry {
        row.insert("status".to_owned(), json!(entry.status));
        row.insert("as_of".to_owned(), json!(entry.as_of));
        row.insert("source".to_owned(), json!(entry.source));
    }
}

/// The table: of every kind of provider, or of one kind, or of the kind of a configured provider.
fn every(config: &Config, wanted: Option<&str>) -> Vec<Value> {
    let kind = wanted.map(|wanted| {
        let named = config.providers.iter().find(|provider| provider.name.as_str() == wanted);
        named.map_or(wanted, |provider| provider.kind.as_str())
    });
    catalogue(kind, None).filter_map(|entry| serde_json::to_value(entry).ok()).collect()
}

/// An amount of a row's price for a column: without its unit, and with a mark where long inputs cost more.
fn usd(row: &Value, part: &str) -> String {
    let Some(price) = row.get("price").filter(|price| price.is_object()) else { return String::new() };
    let amount = text(price, part);
    let amount = amount.strip_suffix(" USD").unwrap_or_default();
    let more = if price.get("tiers").is_some() && !amount.is_empty() { "+" } else { "" };
    format!("{amount}{more}")
}

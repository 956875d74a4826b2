//! `usage ...`: what requests took and cost, and prices that were corrected.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};

use super::args::{BucketArg, StateArgs, UsageArgs, UsageCommand, UsageRequestsArgs, UsageRerateArgs, UsageTableArgs};
use super::io::{Exit, Failure, Io, Outcome};
use super::place::Place;
use super::remote::{Api, segment};
use super::table::{Column, print, text};
use base::Money;

/// Pages of a table, calls of a run: more than there are of any, so that nothing hangs.
const MOST: usize = 1_000_000;

const KEYS: &[Column] = &[
    ("client", |row| text(row, "client")),
    ("issuer", |row| text(row, "issuer")),
    ("subject", |row| text(row, "subject")),
    ("api_key", |row| text(row, "api_key")),
    ("model", |row| text(row, "model")),
    ("provider", |row| text(row, "provider")),
    ("policy", |row| text(row, "policy")),
    ("service", |row| text(row, "service")),
    ("tag", |row| text(row, "tag")),
];

const SUMS: &[Column] = &[
    ("requests", |row| text(row, "requests")),
    ("failed", |row| text(row, "failed")),
    ("cost", |row| text(row, "cost")),
    ("input", |row| text(row, "input_tokens")),
    ("cached", |row| text(row, "cached_tokens")),
    ("output", |row| text(row, "output_tokens")),
    ("estimated", |row| text(row, "estimated")),
    ("unpriced", |row| text(row, "unpriced")),
];

const MODELS: &[Column] = &[
    ("provider", |row| text(row, "provider")),
    ("provider's model", |row| text(row, "model")),
    ("requests", |row| text(row, "requests")),
    ("before", |row| usd(row, "before_nano_usd")),
    ("after", |row| usd(row, "after_nano_usd")),
    ("price", |row| text(row, "price")),
];

/// Run one of the commands.
pub(super) async fn run(args: &UsageArgs, io: &mut Io<'_>) -> Outcome {
    let state = &args.state;
    match &args.command {
        None => table(&args.table, state, io).await,
        Some(UsageCommand::Requests(args)) => requests(args, state, io).await,
        Some(UsageCommand::Rerate(args)) => rerate(args, state, io).await,
    }
}

async fn table(args: &UsageTableArgs, state: &StateArgs, io: &mut Io<'_>) -> Outcome {
    let mut query = format!("?by={}&since={}", segment(&args.by), segment(&args.since));
    add(&mut query, "until", args.until.as_deref());
    add(&mut query, "bucket", args.bucket.map(|bucket| if bucket == BucketArg::Hour { "hour" } else { "day" }));
    only(&mut query, &args.only)?;
    if args.csv {
        return download(&format!("/usage{query}&format=csv"), state, io).await;
    }
    let opened = Place::find(state, io)?.open(io).await?;
    let answer = all(&opened.api, &query).await;
    opened.close().await;
    let (answer, rows) = answer?;
    if state.json {
        let (since, total) = (answer.get("since"), answer.get("total"));
        io.json(&json!({ "since": since, "items": rows, "total": total }))?;
        return Ok(Exit::Done);
    }
    let mut columns: Vec<Column> = Vec::new();
    if args.bucket.is_some() {
        columns.push(("from", |row| text(row, "start")));
    }
    let by: Vec<&str> = args.by.split(',').collect();
    let is_asked = |name: &str| by.contains(&name) || (name == "issuer" && by.contains(&"subject"));
    columns.extend(KEYS.iter().filter(|(name, _)| is_asked(name)));
    columns.extend(SUMS);
    let any = answer.get("total").and_then(|total| total.get("requests")).and_then(Value::as_i64) > Some(0);
    let none = if any { "No request in that time has a tag" } else { "There were no requests in that time" };
    print(io, &columns, &rows, none)?;
    if let Some(total) = answer.get("total").filter(|_| !rows.is_empty()) {
        let sum = format!(
            "{} requests, {}, since {}.",
            text(total, "requests"),
            text(total, "cost"),
            text(&answer, "since"),
        );
        io.note(&sum);
        if total.get("unpriced").and_then(Value::as_i64) > Some(0) {
            io.note("Of some the price is not known: add a [[price]], then run vouchgate usage rerate.");
        }
    }
    Ok(Exit::Done)
}

/// Every page; the last one's head.
async fn all(api: &Api, query: &str) -> Result<(Value, Vec<Value>), Failure> {
    let (mut rows, mut path) = (Vec::new(), format!("/usage{query}&limit=200"));
    for _ in 0..MOST {
        let mut answer = api.call(Method::GET, &path, None).await?;
        if let Some(Value::Array(more)) = answer.get_mut("items").map(Value::take) {
            rows.extend(more);
        }
        match answer.get("next_cursor").and_then(Value::as_str) {
            Some(next) => path = format!("/usage{query}&limit=200&cursor={}", segment(next)),
            None => return Ok((answer, rows)),
        }
    }
    Err(Failure::new("the list does not end"))
}

async fn requests(args: &UsageRequestsArgs, state: &StateArgs, io: &mut Io<'_>) -> Outcome {
    let format = if args.csv { "csv" } else { "jsonl" };
    let mut query = format!("?format={format}&since={}", segment(&args.since));
    add(&mut query, "until", args.until.as_deref());
    only(&mut query, &args.only)?;
    download(&format!("/requests{query}"), state, io).await
}

async fn download(path: &str, state: &StateArgs, io: &mut Io<'_>) -> Outcome {
    let opened = Place::find(state, io)?.open(io).await?;
    let done = opened.api.download(path, io.stdout).await;
    opened.close().await;
    done.map(|_| Exit::Done)
}

async fn rerate(args: &UsageRerateArgs, state: &StateArgs, io: &mut Io<'_>) -> Outcome {
    let opened = Place::find(state, io)?.open(io).await?;
    let done = steps(&opened.api, args, io).await;
    opened.close().await;
    let report = done?;
    if state.json {
        io.json(&report)?;
        return Ok(Exit::Done);
    }
    let rows = report.get("models").and_then(Value::as_array).cloned().unwrap_or_default();
    print(io, MODELS, &rows, "No cost changes")?;
    let said = format!(
        "{} of {} records {}: {}.",
        text(&report, "changed"),
        text(&report, "looked_at"),
        if args.dry_run { "would be corrected" } else { "were corrected" },
        usd(&report, "difference_nano_usd"),
    );
    io.note(&said);
    if report.get("no_price").and_then(Value::as_i64) > Some(0) {
        io.note(&format!("Of {} no price is known.", text(&report, "no_price")));
    }
    Ok(Exit::Done)
}

/// One call after the other until all is done; the sum of what they did.
async fn steps(api: &Api, args: &UsageRerateArgs, io: &mut Io<'_>) -> Result<Value, Failure> {
    // Of one moment, however long it takes.
    let seconds = |text: &str| match (text.parse::<i64>(), text.parse::<base::Span>()) {
        (Err(_), Ok(ago)) => (io.clock.now().minus(ago.duration()).as_millis() / 1000).to_string(),
        _ => text.to_owned(),
    };
    let (since, until) = (seconds(&args.since), args.until.as_deref().map(seconds));
    let (mut run, mut after) = (Value::Null, Value::Null);
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    let mut models: BTreeMap<(String, String), Value> = BTreeMap::new();
    for _ in 0..MOST {
        let mut body = json!({ "since": since, "dry_run": args.dry_run });
        let more = [("until", json!(until)), ("provider", json!(args.provider)), ("run", run), ("after", after)];
        if let Some(object) = body.as_object_mut() {
            object.extend(more.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.to_owned(), v)));
        }
        let answer = api.call(Method::POST, "/usage/rerate", Some(&body)).await?;
        for name in ["looked_at", "changed", "no_price", "difference_nano_usd"] {
            *sums.entry(name).or_default() += answer.get(name).and_then(Value::as_i64).unwrap_or(0);
        }
        for model in answer.get("models").and_then(Value::as_array).into_iter().flatten() {
            add_model(&mut models, model);
        }
        run = answer.get("run").cloned().unwrap_or_default();
        after = answer.get("next").cloned().unwrap_or_default();
        if after.is_null() {
            let models: Vec<Value> = models.into_values().collect();
            let mut report = json!({ "run": run, "dry_run": args.dry_run, "models": models });
            if let Some(report) = report.as_object_mut() {
                report.extend(sums.into_iter().map(|(name, sum)| (name.to_owned(), json!(sum))));
            }
            return Ok(report);
        }
        io.note(&format!("{} records ...", sums.get("looked_at").copied().unwrap_or(0)));
    }
    Err(Failure::new("the records do not end"))
}

fn add_model(models: &mut BTreeMap<(String, String), Value>, model: &Value) {
    let key = (text(model, "provider"), text(model, "model"));
    let Some(Value::Object(sum)) = models.get_mut(&key) else {
        models.insert(key, model.clone());
        return;
    };
    for name in ["requests", "before_nano_usd", "after_nano_usd"] {
        let both = [sum.get(name), model.get(name)].map(|part| part.and_then(Value::as_i64).unwrap_or(0));
        sum.insert(name.to_owned(), json!(both.iter().sum::<i64>()));
    }
}

fn add(query: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        let _ = write!(query, "&{name}={}", segment(value));
    }
}

fn only(query: &mut String, only: &[String]) -> Result<(), Failure> {
    for wanted in only {
        let (name, value) = wanted
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("--only is WHAT=NAME, such as client=batch-jobs, and not {wanted}")))?;
        add(query, &segment(name), Some(value));
    }
    Ok(())
}

fn usd(row: &Value, member: &str) -> String {
    let nano = row.get(member).and_then(Value::as_i64).unwrap_or(0);
    Money::from_nano_usd(i128::from(nano)).to_string()
}

//! What streams cost: a chunk that passes, a chunk that is translated, the first one's way, and a stream held open.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use testkit::process::Process;

use crate::compare::Plan;
use crate::load::{self, Requests};
use crate::subject::{self, Case, Subject};

/// Chunks of one stream, each a write of its own.
const CHUNKS: usize = 200;
const CONNECTIONS: usize = 32;
const WARM_UP: usize = 200;
const STREAMS: usize = 1_500;
/// One after the other, for the way of the first chunk.
const ALONE: usize = 1_000;
const OPEN: usize = 1_000;

/// What one subject's streams cost.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// User and system time of the process in microseconds, the request's share among it.
    pub(crate) cpu_per_chunk: Option<f64>,
    /// From the request to the first chunk, in microseconds.
    pub(crate) first_p50: f64,
    pub(crate) first_p99: f64,
    /// Resident memory in bytes for 1,000 open streams.
    pub(crate) per_thousand: Option<u64>,
}

/// Measure streams straight from the provider, through the bare proxy, and through Vouchgate in the provider's dialect and
/// in another.
pub(crate) async fn run(plan: &Plan, upstream: SocketAddr) -> Vec<Row> {
    let ours = || subject::vouchgate(&plan.vouchgate, upstream, (Case::Warm, None), STREAMS);
    vec![
        measure("direct", subject::direct(upstream), subject::PATH).await,
        measure("bare hyper", subject::bare(upstream).await, subject::PATH).await,
        measure("vouchgate, passed through", ours().await, subject::PATH).await,
        measure("vouchgate, translated", ours().await, "/v1/messages").await,
    ]
}

async fn measure(name: &'static str, mut subject: Subject, path: &str) -> Row {
    eprintln!("measuring streams: {name}");
    let Requests::Given(given) = &subject.requests else { panic!("{name} has one token") };
    let head = String::from_utf8_lossy(&given[0]).into_owned();
    let token = head.lines().find(|line| line.starts_with("Authorization")).map(|line| format!("{line}\r\n"));
    let request = |text: String| {
        let messages = json!([{"role": "user", "content": text}]);
        let body = json!({"model": "fast", "max_tokens": 4096, "stream": true, "messages": messages}).to_string();
        subject::request_to(path, token.as_deref().unwrap_or_default(), &body)
    };
    let flowing = request(format!("chunks={CHUNKS}"));
    let flows = Requests::Given(Arc::new(vec![flowing.clone()]));
    load::run(&subject.target, &flows, CONNECTIONS, 0..WARM_UP).await;
    let cost = |subject: &Subject| subject.process.as_ref().map(Process::cost);
    let before = cost(&subject);
    load::run(&subject.target, &flows, CONNECTIONS, 0..STREAMS).await;
    let after = cost(&subject);
    let first = load::first(&subject.target, &flowing, ALONE).await;

    subject.stream = request("Hold it.".to_owned());
    subject.requests = Requests::Given(Arc::new(Vec::new()));
    let quiet = cost(&subject);
    let open = match &subject.process {
        Some(_) => load::hold_streams(&subject.target, &subject, OPEN).await,
        None => Vec::new(),
    };
    let holding = cost(&subject);
    drop(open);
    let cpu = before.zip(after).map(|(before, after)| after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6);
    Row {
        name,
        cpu_per_chunk: cpu.map(|cpu| cpu / (STREAMS * CHUNKS) as f64),
        first_p50: first.percentile(50),
        first_p99: first.percentile(99),
        per_thousand: quiet.zip(holding).map(|(quiet, now)| now.resident.saturating_sub(quiet.resident)),
    }
}

/// A table; the first chunk's way as what is added to `direct`, the first row.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<28}{:>12}{:>12}{:>12}{:>12}\n{:<28}{:>12}{:>12}{:>12}{:>12}\n",
        "streams", "CPU", "first p50", "first p99", "per 1,000", "", "us/chunk", "added us", "added us", "open MiB"
    );
    let Some(direct) = rows.first() else { return text };
    for row in rows {
        let mib = row.per_thousand.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
        text.push_str(&format!(
            "{:<28}{:>12}{:>12.0}{:>12.0}{:>12}\n",
            row.name,
            row.cpu_per_chunk.map_or("-".to_owned(), |cpu| format!("{cpu:.2}")),
            row.first_p50 - direct.first_p50,
            row.first_p99 - direct.first_p99,
            mib,
        ));
    }
    text
}

/// The same, absolute, as JSON.
pub(crate) fn json(rows: &[Row]) -> serde_json::Value {
    let row = |row: &Row| {
        json!({"name": row.name, "cpu_us_per_chunk": row.cpu_per_chunk, "resident_bytes_per_1000_streams": row.per_thousand,
            "first_chunk_us": {"p50": row.first_p50, "p99": row.first_p99}})
    };
    rows.iter().map(row).collect()
}

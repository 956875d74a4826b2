//! One run over all subjects, one after the other.

use std::path::{Path, PathBuf};

use testkit::process::Process;

use crate::disk::{self, Left};
use crate::subject::{self, Case, Servers, Subject};
use crate::{load, streams, verify};

const CONNECTIONS: usize = 64;
const STREAMS: usize = 1_000;
/// Before anything counts: pools are filled, code is paged in.
const WARM_UP: usize = 3_000;
/// One after the other, for the latency of a request that meets no other.
const ALONE: usize = 3_000;

/// What to measure.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) vouchgate: PathBuf,
    pub(crate) requests: usize,
    /// Only the subjects whose names hold this (and `direct`), or `streams` for those.
    pub(crate) only: Option<String>,
}

impl Plan {
    /// How many requests a subject is sent in all.
    pub(crate) fn total(&self) -> usize {
        WARM_UP + self.requests + ALONE
    }
}

/// What one subject cost.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// User and system time of the process, in microseconds; none for `direct`.
    pub(crate) cpu_per_request: Option<f64>,
    pub(crate) per_second: f64,
    /// Latencies in microseconds: with 64 connections, and one request at a time.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) alone_p50: f64,
    pub(crate) alone_p99: f64,
    /// Resident memory in bytes: before the first request, after the last, and more for 1,000 open streams.
    pub(crate) at_rest: Option<u64>,
    pub(crate) after_load: Option<u64>,
    pub(crate) per_thousand_streams: Option<u64>,
    /// What each request leaves on the disk, where it leaves something.
    pub(crate) disk: Option<Disk>,
    pub(crate) failed: u64,
}

/// What a request leaves on the disk of the node.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) bytes_per_request: f64,
    pub(crate) audit_entries_per_second: f64,
    pub(crate) ledger_lines_per_second: f64,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) rows: Vec<Row>,
    pub(crate) streams: Vec<streams::Row>,
    /// CPU time of one ES256 verification alone, in microseconds.
    pub(crate) verification: f64,
}

/// Measure every subject that can be had here.
pub(crate) async fn run(plan: &Plan) -> Found {
    let own = std::env::current_exe().expect("a program knows itself");
    let mut upstream = Process::start(&own, &["upstream"], Path::new("/"), &[]);
    let addr = subject::address(&upstream.line("listening on ").await);

    let wanted = |name: &str| plan.only.as_deref().is_none_or(|only| name.contains(only));
    if plan.only.as_deref() == Some("streams") {
        return Found { rows: Vec::new(), streams: streams::run(plan, addr).await, verification: 0.0 };
    }
    let mut rows = vec![measure(plan, subject::direct(addr)).await];
    if wanted(subject::BARE) {
        rows.push(measure(plan, subject::bare(addr).await).await);
    }
    if wanted(subject::BARE_TLS) {
        rows.push(measure(plan, subject::bare_tls(addr).await).await);
    }
    for case in Case::ALL.into_iter().filter(|case| wanted(case.name())) {
        let servers = if case == Case::Fleet { Servers::start() } else { None };
        if case == Case::Fleet && servers.is_none() {
            eprintln!("PostgreSQL or Redis is not installed: left out");
            continue;
        }
        rows.push(measure(plan, subject::vouchgate(&plan.vouchgate, addr, (case, servers), plan.total()).await).await);
    }
    for alg in [None, Some("RS256"), Some("ES256")] {
        if !wanted("haproxy") {
            continue;
        }
        match subject::haproxy(addr, alg).await {
            Some(subject) => rows.push(measure(plan, subject).await),
            None => eprintln!("haproxy is not installed: left out"),
        }
    }
    let streams = if plan.only.is_none() { streams::run(plan, addr).await } else { Vec::new() };
    Found { rows, streams, verification: verify::measure().await }
}

async fn measure(plan: &Plan, mut subject: Subject) -> Row {
    eprintln!("measuring {}", subject.name);
    let data = subject.data();
    let first = data.as_deref().map(disk::left);
    let cost = || subject.process.as_ref().map(Process::cost);
    let at_rest = cost();
    let warm_up = load::run(&subject.target, &subject.requests, CONNECTIONS, 0..WARM_UP).await;
    if warm_up.failed > 0 {
        let said = subject.process.as_ref().map(Process::output).unwrap_or_default();
        panic!("{} of {WARM_UP} requests through {} failed:\n{said}", warm_up.failed, subject.name);
    }
    let before = cost();
    let loaded = load::run(&subject.target, &subject.requests, CONNECTIONS, WARM_UP..WARM_UP + plan.requests).await;
    let after = cost();
    let alone = load::run(&subject.target, &subject.requests, 1, WARM_UP + plan.requests..plan.total()).await;

    let quiet = cost();
    let streams = match &subject.process {
        Some(_) => load::hold_streams(&subject.target, &subject, STREAMS).await,
        None => Vec::new(),
    };
    let streaming = cost();
    let name = subject.name;
    drop(streams);
    let mut disk = None;
    if let (Some(data), Some(first), Some(process)) = (&data, first, &mut subject.process) {
        // What it still has in memory is written when it ends.
        process.signal("TERM");
        process.ended().await;
        disk = Some(Disk::of((first, disk::left_at_last(data)), plan, &loaded));
    }
    drop(subject);

    let cpu = before.zip(after).map(|(before, after)| after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6);
    Row {
        name,
        cpu_per_request: cpu.map(|cpu| cpu / plan.requests as f64),
        per_second: loaded.per_second(),
        p50: loaded.percentile(50),
        p99: loaded.percentile(99),
        alone_p50: alone.percentile(50),
        alone_p99: alone.percentile(99),
        at_rest: at_rest.map(|cost| cost.resident),
        after_load: after.map(|cost| cost.resident),
        per_thousand_streams: quiet.zip(streaming).map(|(quiet, now)| now.resident.saturating_sub(quiet.resident)),
        disk,
        failed: loaded.failed + alone.failed,
    }
}

impl Disk {
    fn of((first, last): (Left, Left), plan: &Plan, loaded: &load::Outcome) -> Self {
        let requests = (plan.total() + STREAMS) as f64;
        let per_second = |count: u64| count as f64 / requests * loaded.per_second();
        Self {
            bytes_per_request: last.bytes.saturating_sub(first.bytes) as f64 / requests,
            audit_entries_per_second: per_second(last.entries.saturating_sub(first.entries)),
            ledger_lines_per_second: per_second(last.lines),
        }
    }
}

//! The result, for people and for programs.

use serde_json::json;

use crate::compare::{Found, Plan};
use crate::subject::{BARE, BARE_TLS, Case};

/// A table; latencies as what is added to `direct`, the first row.
pub(crate) fn table(found: &Found) -> String {
    let rows = &found.rows;
    let mut text = format!(
        "{:<28}{:>10}{:>10}{:>11}{:>11}{:>11}{:>11}{:>9}{:>9}{:>11}\n{:<28}{:>10}{:>10}{:>11}{:>11}{:>11}{:>11}{:>9}{:>9}{:>11}\n",
        "",
        "CPU",
        "requests",
        "p50 added",
        "p99 added",
        "p50 added",
        "p99 added",
        "RSS rest",
        "loaded",
        "per 1,000",
        "",
        "us/req",
        "/s",
        "64 con. us",
        "64 con. us",
        "1 con. us",
        "1 con. us",
        "MiB",
        "MiB",
        "streams MiB",
    );
    let Some(direct) = rows.first() else { return crate::streams::table(&found.streams) };
    for row in rows {
        let mib =
            |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
        text.push_str(&format!(
            "{:<28}{:>10}{:>10.0}{:>11.0}{:>11.0}{:>11.0}{:>11.0}{:>9}{:>9}{:>11}{}\n",
            row.name,
            row.cpu_per_request.map_or("-".to_owned(), |cpu| format!("{cpu:.1}")),
            row.per_second,
            row.p50 - direct.p50,
            row.p99 - direct.p99,
            row.alone_p50 - direct.alone_p50,
            row.alone_p99 - direct.alone_p99,
            mib(row.at_rest),
            mib(row.after_load),
            mib(row.per_thousand_streams),
            if row.failed > 0 { format!("  {} FAILED", row.failed) } else { String::new() },
        ));
    }
    text.push_str(&format!(
        "direct itself: p50 {:.0} us, p99 {:.0} us with 64 connections; p50 {:.0} us, p99 {:.0} us with one\n",
        direct.p50, direct.p99, direct.alone_p50, direct.alone_p99,
    ));
    let cpu = |name: &str| rows.iter().find(|row| row.name == name).and_then(|row| row.cpu_per_request);
    let beside = [(BARE, vec![Case::Warm, Case::Budget, Case::Fleet]), (BARE_TLS, vec![Case::Tls, Case::TlsBudget])];
    for (bare, cases) in beside {
        for case in cases {
            if let (Some(alone), Some(ours)) = (cpu(bare), cpu(case.name())) {
                text.push_str(&format!("{} costs {:.2} times the CPU of {bare}\n", case.name(), ours / alone));
            }
        }
    }
    for row in rows {
        if let Some(disk) = &row.disk {
            text.push_str(&format!(
                "{}: {:.0} bytes of disk each request; {:.0} audit entries and {:.0} ledger lines a second\n",
                row.name, disk.bytes_per_request, disk.audit_entries_per_second, disk.ledger_lines_per_second,
            ));
        }
    }
    text.push_str(&format!("one ES256 verification alone: {:.1} us\n", found.verification));
    for (case, without) in [(Case::Dpop, Case::Warm), (Case::Signature, Case::Warm), (Case::Mtls, Case::Tls)] {
        if let (Some(proved), Some(plain)) = (cpu(case.name()), cpu(without.name())) {
            let more = proved - plain;
            text.push_str(&format!(
                "{}: {more:.1} us more than {}, {:.2} times one verification\n",
                case.name(),
                without.name(),
                more / found.verification,
            ));
        }
    }
    if !found.streams.is_empty() {
        text.push_str(&crate::streams::table(&found.streams));
    }
    text
}

/// The same, absolute, as JSON.
pub(crate) fn json(plan: &Plan, found: &Found) -> String {
    let rows: Vec<_> = found
        .rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name,
                "cpu_us_per_request": row.cpu_per_request,
                "requests_per_second": row.per_second,
                "latency_us": {"p50": row.p50, "p99": row.p99},
                "latency_alone_us": {"p50": row.alone_p50, "p99": row.alone_p99},
                "resident_bytes": {"at_rest": row.at_rest, "after_load": row.after_load},
                "resident_bytes_per_1000_streams": row.per_thousand_streams,
                "disk": row.disk.as_ref().map(|disk| json!({
                    "bytes_per_request": disk.bytes_per_request,
                    "audit_entries_per_second": disk.audit_entries_per_second,
                    "ledger_lines_per_second": disk.ledger_lines_per_second,
                })),
                "failed": row.failed,
            })
        })
        .collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let result = json!({
        "connections": 64,
        "requests": plan.requests,
        "cores": cores,
        "es256_verification_us": found.verification,
        "subjects": rows,
        "streams": crate::streams::json(&found.streams),
    });
    format!("{result:#}\n")
}

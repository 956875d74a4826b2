use std::collections::BTreeMap;

use base::{RequestId, SeededRng, Tenant};
use store::{
    Basis, Bucket, Charge, Correction, Dimension, Page, RecordFilter, RequestRecord, Store, UsageFilter, UsageSums,
};

use super::records::record;
use super::{Backend, START, all, name, secs};

/// Hours from the start of the day `START` is in.
const DAY: i64 = START - START % 86_400;

async fn push(store: &Store, records: &[RequestRecord]) {
    let sink = store.sink();
    records.iter().cloned().for_each(|record| sink.push(record));
    store.flush().await.unwrap();
    assert_eq!((sink.waiting(), sink.dropped()), (0, 0));
}

/// Requests over three days, by few of each kind.
fn mixed(count: u16) -> Vec<RequestRecord> {
    let rng = SeededRng::new(11);
    (0..count)
        .map(|n| {
            let (i, n) = (i64::from(n), u64::from(n));
            let cost = (n % 5 != 0).then_some(i * 7);
            RequestRecord {
                client: Some(format!("client-{}", n % 2).into()),
                subject: Some(format!("user-{}", n % 3).into()),
                issuer: Some(name(if n % 4 == 0 { "corp" } else { "vouchgate" })),
                api_key: (n % 7 == 0).then(|| "ak_seven".into()),
                model: Some(if n % 3 == 0 { "fast" } else { "slow" }.into()),
                provider: (n % 2 == 0).then(|| name("openai")),
                policy: Some(name("app")),
                status: if n % 6 == 0 { 429 } else { 200 },
                input_tokens: Some(n),
                output_tokens: Some(n * 2),
                cached_tokens: Some(n / 2),
                duration_ms: n,
                charge: Charge {
                    provider_model: Some("gpt".into()),
                    service: (n % 9 == 0).then(|| "analyzing".into()),
                    is_named: true,
                    reasoning_tokens: Some(n / 3),
                    cost,
                    estimated: n % 10 == 1,
                    clamped: n % 20 == 2,
                    ..Charge::default()
                },
                ..record(RequestId::new(&rng), DAY + i * 1000)
            }
        })
        .collect()
}

async fn table(
    store: &Store,
    filter: &UsageFilter,
    by: &[Dimension],
    bucket: Option<Bucket>,
) -> Vec<(String, UsageSums)> {
    let table = store.usage().table(filter, (by, bucket), (0, 10_000)).await.unwrap();
    assert_eq!(table.next, None);
    let name = |row: &store::UsageRow| {
        let start = row.start.map(|start| start.as_millis().to_string());
        let of = row.of.iter().map(|(_, value)| value.clone());
        start.into_iter().chain(of).collect::<Vec<_>>().join("|")
    };
    table.rows.iter().map(|row| (name(row), row.sums)).collect()
}

async fn total(store: &Store, filter: &UsageFilter) -> UsageSums {
    store.usage().table(filter, (&[], None), (0, 1)).await.unwrap().total
}

/// What a record says of one dimension.
type Of = Box<dyn Fn(&RequestRecord) -> String>;

pub(crate) async fn records_and_their_sums_agree_however_they_are_counted<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    // A second and a third batch add to rows that are there.
    let records: Vec<_> = mixed(600)
        .into_iter()
        .enumerate()
        .map(|(n, record)| RequestRecord { at: secs(DAY + i64::try_from(n).unwrap() * 400), ..record })
        .collect();
    for part in records.chunks(200) {
        push(&store, part).await;
    }
    let listed = store.records().list(&RecordFilter::default(), &all()).await.unwrap().items;
    assert_eq!(listed.len(), 600);
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    let cases: Vec<(Vec<Dimension>, Option<Bucket>, Of)> = vec![
        (vec![Dimension::Client], None, Box::new(move |r| text(&r.client))),
        (vec![Dimension::Model], None, Box::new(move |r| text(&r.model))),
        (vec![Dimension::ApiKey], None, Box::new(move |r| text(&r.api_key))),
        (vec![Dimension::Service], None, Box::new(move |r| text(&r.charge.service))),
        (vec![Dimension::Policy], None, Box::new(|r| r.policy.as_ref().unwrap().to_string())),
        (
            vec![Dimension::Subject],
            None,
            Box::new(move |r| format!("{}|{}", r.issuer.as_ref().unwrap(), text(&r.subject))),
        ),
        (
            vec![Dimension::Provider],
            Some(Bucket::Hour),
            Box::new(|r| {
                let hour = r.at.as_millis().div_euclid(3_600_000) * 3_600_000;
                format!("{hour}|{}", r.provider.as_ref().map(ToString::to_string).unwrap_or_default())
            }),
        ),
        (
            vec![Dimension::Model],
            Some(Bucket::Day),
            Box::new(move |r| format!("{}|{}", r.at.as_millis().div_euclid(86_400_000) * 86_400_000, text(&r.model))),
        ),
    ];
    for (by, bucket, of) in cases {
        let mut expected: BTreeMap<String, (i64, i64, i64, i64, i64)> = BTreeMap::new();
        for record in &listed {
            let sums = expected.entry(of(record)).or_default();
            sums.0 += 1;
            sums.1 += record.charge.cost.unwrap_or(0);
            sums.2 += i64::try_from(record.input_tokens.unwrap()).unwrap();
            sums.3 += i64::from(record.charge.cost.is_none());
            sums.4 += i64::from(record.status >= 400);
        }
        let found: BTreeMap<_, _> = table(&store, &UsageFilter::default(), &by, bucket)
            .await
            .into_iter()
            .map(|(name, sums)| (name, (sums.requests, sums.cost, sums.input_tokens, sums.unpriced, sums.failed)))
            .collect();
        assert_eq!(found, expected, "{by:?} {bucket:?}");
    }
    let filter = UsageFilter {
        since: Some(secs(DAY + 86_400)),
        only: vec![(Dimension::Model, "fast".to_owned()), (Dimension::Client, "client-1".to_owned())],
        ..UsageFilter::default()
    };
    let matching = |r: &&RequestRecord| {
        r.at >= secs(DAY + 86_400) && r.model.as_deref() == Some("fast") && r.client.as_deref() == Some("client-1")
    };
    let sums = total(&store, &filter).await;
    let cost: i64 = listed.iter().filter(matching).filter_map(|r| r.charge.cost).sum();
    assert_eq!((sums.requests, sums.cost), (i64::try_from(listed.iter().filter(matching).count()).unwrap(), cost));
    assert!(sums.cost > 0);
}

pub(crate) async fn sums_outlive_their_records_and_are_forgotten_in_their_own_time<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    push(&store, &mixed(50)).await;
    let before = total(&store, &UsageFilter::default()).await;
    while store.records().delete_before(secs(DAY + 86_400), 100).await.unwrap() > 0 {}
    assert_eq!(total(&store, &UsageFilter::default()).await, before);
    let (hours, days) = (secs(DAY + 86_400), secs(DAY));
    while store.usage().delete_before(hours, days, 3).await.unwrap() > 0 {}
    let by_hour = table(&store, &UsageFilter::default(), &[], Some(Bucket::Hour)).await;
    assert_eq!(by_hour, [], "hours are forgotten first");
    assert_eq!(total(&store, &UsageFilter::default()).await, before);
    while store.usage().delete_before(hours, hours, 3).await.unwrap() > 0 {}
    assert_eq!(total(&store, &UsageFilter::default()).await, UsageSums::default());
}

pub(crate) async fn tags_count_under_each_of_them_and_once_in_all<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let rng = SeededRng::new(5);
    let tagged = |tags: &[&str], cost| RequestRecord {
        charge: Charge { tags: tags.iter().map(|tag| (*tag).into()).collect(), cost: Some(cost), ..Charge::default() },
        ..record(RequestId::new(&rng), START)
    };
    push(&store, &[tagged(&["a", "b"], 10), tagged(&["b"], 5), tagged(&[], 1), tagged(&["b", "b", ""], 100)]).await;
    let by_tag = table(&store, &UsageFilter::default(), &[Dimension::Tag], None).await;
    let by_tag: Vec<_> = by_tag.into_iter().map(|(tag, sums)| (tag, sums.requests, sums.cost)).collect();
    assert_eq!(by_tag, [("b".to_owned(), 3, 115), ("a".to_owned(), 1, 10)]);
    assert_eq!(total(&store, &UsageFilter::default()).await.cost, 116);
    let by = store.usage().table(&UsageFilter::default(), (&[Dimension::Tag], None), (0, 1)).await.unwrap();
    assert_eq!((by.total.requests, by.total.cost), (4, 116), "each once, whatever tags it has");
    let only = UsageFilter { only: vec![(Dimension::Tag, "a".to_owned())], ..UsageFilter::default() };
    assert_eq!(total(&store, &only).await.cost, 10);
}

fn ratable(id: u64, cost: Option<i64>) -> RequestRecord {
    RequestRecord {
        provider: Some(name("openai")),
        model: Some("fast".into()),
        input_tokens: Some(1000),
        output_tokens: Some(10),
        charge: Charge {
            provider_model: Some("gpt".into()),
            cost: cost.map(|cost| cost + 3),
            rated: cost,
            basis: Some(Basis::Tokens { factor: 1, long_cache: false }),
            ..Charge::default()
        },
        ..record(RequestId::new(&SeededRng::new(id)), START)
    }
}

async fn ratables(store: &Store) -> Vec<store::Ratable> {
    store.usage().ratable((secs(START - 1), None), None, (0, 100)).await.unwrap()
}

pub(crate) async fn a_correction_changes_the_sums_and_no_record<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    push(&store, &[ratable(1, Some(100)), ratable(2, None), record(RequestId::new(&SeededRng::new(3)), START)]).await;
    let before = total(&store, &UsageFilter::default()).await;
    assert_eq!((before.cost, before.unpriced), (103, 1));
    let found = ratables(&store).await;
    assert_eq!(
        found.iter().map(|found| (found.cost, found.rated)).collect::<Vec<_>>(),
        [(Some(103), Some(100)), (None, None)]
    );
    let corrected = |of: store::Ratable, rated| Correction { of, rated, price: Some("configuration#1".into()) };
    let corrections: Vec<_> = found.into_iter().map(|of| corrected(of, 40)).collect();
    assert_eq!(corrections.iter().map(Correction::added).collect::<Vec<_>>(), [-60, 40]);
    store.usage().correct("run_1", "somebody", corrections).await.unwrap();
    let after = total(&store, &UsageFilter::default()).await;
    assert_eq!((after.cost, after.correction, after.unpriced, after.requests), (103, -20, 0, 3));
    let hours = table(&store, &UsageFilter::default(), &[Dimension::Model], Some(Bucket::Hour)).await;
    assert_eq!(hours.iter().map(|(_, sums)| sums.correction).sum::<i64>(), -20);
    // A second one stands on the first.
    let found = ratables(&store).await;
    assert_eq!(
        found.iter().map(|found| (found.cost, found.rated)).collect::<Vec<_>>(),
        [(Some(43), Some(40)), (Some(40), Some(40))]
    );
    let again: Vec<_> = found.into_iter().take(1).map(|of| corrected(of, 50)).collect();
    store.usage().correct("run_2", "somebody", again).await.unwrap();
    assert_eq!(total(&store, &UsageFilter::default()).await.correction, -10);
    let listed = store.records().list(&RecordFilter::default(), &all()).await.unwrap().items;
    let costs: Vec<_> = listed.iter().map(|record| (record.charge.cost, record.charge.corrected)).collect();
    assert_eq!(costs, [(None, None), (None, Some(40)), (Some(103), Some(53))], "as charged, and as corrected");
    let id = RequestId::new(&SeededRng::new(1));
    let history = store.usage().corrections((None, Some(&id)), 10).await.unwrap();
    let history: Vec<_> = history.iter().map(|entry| (entry.run.as_str(), entry.before, entry.after)).collect();
    assert_eq!(history, [("run_1", Some(103), 43), ("run_2", Some(43), 53)]);
    assert_eq!(store.usage().corrections((Some("run_1"), None), 10).await.unwrap().len(), 2);
}

pub(crate) async fn a_correction_of_what_was_corrected_meanwhile_is_refused_whole<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    push(&store, &[ratable(1, Some(100)), ratable(2, Some(100))]).await;
    let corrections = |of: Vec<store::Ratable>, rated| {
        of.into_iter().map(|of| Correction { of, rated, price: None }).collect::<Vec<_>>()
    };
    let seen = ratables(&store).await;
    store.usage().correct("run_1", "one", corrections(seen[1..].to_vec(), 90)).await.unwrap();
    let error = store.usage().correct("run_2", "another", corrections(seen, 80)).await.unwrap_err();
    assert_eq!(error.reason(), "conflict");
    assert_eq!(total(&store, &UsageFilter::default()).await.correction, -10, "nothing of the second is there");
}

pub(crate) async fn names_made_up_by_callers_make_no_rows<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let rng = SeededRng::new(5);
    let asked = |n: u16, status, is_named, cost| RequestRecord {
        model: Some(format!("model-{n}").into()),
        status,
        charge: Charge { is_named, cost, ..Charge::default() },
        ..record(RequestId::new(&rng), START)
    };
    let mut records: Vec<_> = (0..100).map(|n| asked(n, 404, false, None)).collect();
    records.extend([asked(200, 502, true, None), asked(201, 200, false, None), asked(202, 504, false, Some(7))]);
    push(&store, &records).await;
    let mut models: Vec<_> = table(&store, &UsageFilter::default(), &[Dimension::Model], None)
        .await
        .into_iter()
        .map(|(model, sums)| (model, sums.requests))
        .collect();
    models.sort();
    let named = |name: &str, count| (name.to_owned(), count);
    assert_eq!(models, [named("", 100), named("model-200", 1), named("model-201", 1), named("model-202", 1)]);
}

pub(crate) async fn hostile_counts_do_not_spoil_the_sums<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let rng = SeededRng::new(5);
    let most = Some(u64::MAX);
    let hostile = || RequestRecord {
        input_tokens: most,
        output_tokens: most,
        cached_tokens: most,
        duration_ms: u64::MAX,
        charge: Charge { images: most, audio_ms: most, cost: Some(i64::MAX), ..Charge::default() },
        ..record(RequestId::new(&rng), START)
    };
    for _ in 0..3 {
        push(&store, &(0..200).map(|_| hostile()).collect::<Vec<_>>()).await;
    }
    let sums = total(&store, &UsageFilter::default()).await;
    assert_eq!((sums.requests, sums.input_tokens, sums.cost), (600, 600_000_000_000_000, 600_000_000_000_000_000));
}

pub(crate) async fn usage_pages_dearest_first<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let rng = SeededRng::new(5);
    let records: Vec<_> = (0..5u16)
        .map(|n| RequestRecord {
            subject: Some(format!("user-{n}").into()),
            charge: Charge { cost: Some(i64::from(n * 7 % 5)), ..Charge::default() },
            ..record(RequestId::new(&rng), START)
        })
        .collect();
    push(&store, &records).await;
    let (mut from, mut costs) = (Some(0), Vec::new());
    while let Some(at) = from {
        let page = store.usage().table(&UsageFilter::default(), (&[Dimension::Subject], None), (at, 2)).await.unwrap();
        assert_eq!(page.total.cost, 10, "of all, not of the page");
        costs.extend(page.rows.iter().map(|row| row.sums.cost));
        from = page.next;
    }
    assert_eq!(costs, [4, 3, 2, 1, 0]);
    let page = Page::first(10);
    assert_eq!(store.records().list(&RecordFilter::default(), &page).await.unwrap().items.len(), 5);
}

pub(crate) async fn tenants_count_for_themselves<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let other = store.for_tenant(Tenant::new(name("other")));
    push(&store, &[ratable(1, Some(100))]).await;
    push(&other, &[ratable(2, Some(7))]).await;
    assert_eq!(total(&store, &UsageFilter::default()).await.cost, 103);
    assert_eq!(total(&other, &UsageFilter::default()).await.cost, 10);
    let mine = ratables(&store).await;
    assert_eq!(mine.len(), 1);
    assert_eq!(other.usage().delete_before(secs(START + 86_400), secs(START + 86_400), 9).await.unwrap(), 1);
    assert_eq!(total(&store, &UsageFilter::default()).await.cost, 103);
}

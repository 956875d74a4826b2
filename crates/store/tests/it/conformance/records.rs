use std::sync::Arc;

use base::{Name, RequestId, SeededRng, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::{Basis, Charge, Page, RecordFilter, RequestRecord, Store};

use super::{Backend, START, all, name, secs};

pub(crate) fn record(request_id: RequestId, at: i64) -> RequestRecord {
    RequestRecord {
        at: secs(at),
        request_id,
        endpoint: "/v1/chat/completions".into(),
        policy: None,
        issuer: None,
        client: None,
        subject: None,
        api_key: None,
        model: None,
        provider: None,
        status: 200,
        error: None,
        input_tokens: None,
        output_tokens: None,
        cached_tokens: None,
        duration_ms: 0,
        ttft_ms: None,
        stream: false,
        request_bytes: 0,
        response_bytes: 0,
        cache: None,
        cache_similarity: None,
        charge: Charge::default(),
    }
}

/// Ten records, a second apart, half of them refused.
async fn ten(store: &Store) -> Vec<RequestRecord> {
    let (rng, sink) = (SeededRng::new(3), store.sink());
    let records: Vec<_> = (0..10u16)
        .map(|n| RequestRecord {
            client: Some(format!("client-{}", n % 2).into()),
            subject: Some(format!("user-{}", n % 3).into()),
            api_key: (n == 4).then(|| "ak_four".into()),
            model: Some(if n < 5 { "fast" } else { "slow" }.into()),
            provider: (n % 2 == 0).then(|| name("openai")),
            policy: Some(name("app")),
            issuer: Some(name("vouchgate")),
            status: if n % 2 == 0 { 200 } else { 429 },
            error: (n % 2 == 1).then(|| "rate_limited".into()),
            cache: (n % 2 == 0).then(|| "semantic".into()),
            cache_similarity: (n % 2 == 0).then_some(990 + n),
            ..record(RequestId::new(&rng), START + i64::from(n))
        })
        .collect();
    records.iter().cloned().for_each(|record| sink.push(record));
    store.flush().await.unwrap();
    assert_eq!((sink.waiting(), sink.dropped()), (0, 0));
    records
}

pub(crate) async fn records_are_listed_newest_first_and_filtered<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let records = ten(&store).await;
    let text = |text: &str| Some(text.to_owned());
    let filter = RecordFilter::default;
    let cases: [(RecordFilter, &[usize]); 13] = [
        (filter(), &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        (RecordFilter { since: Some(secs(START + 8)), ..filter() }, &[9, 8]),
        (RecordFilter { until: Some(secs(START + 2)), ..filter() }, &[1, 0]),
        (RecordFilter { client: text("client-1"), ..filter() }, &[9, 7, 5, 3, 1]),
        (RecordFilter { subject: text("user-0"), ..filter() }, &[9, 6, 3, 0]),
        (RecordFilter { api_key: text("ak_four"), ..filter() }, &[4]),
        (RecordFilter { model: text("slow"), min_status: Some(400), ..filter() }, &[9, 7, 5]),
        (RecordFilter { provider: text("openai"), model: text("fast"), ..filter() }, &[4, 2, 0]),
        (RecordFilter { error: text("rate_limited"), since: Some(secs(START + 9)), ..filter() }, &[9]),
        (RecordFilter { policy: text("app"), until: Some(secs(START + 1)), ..filter() }, &[0]),
        (RecordFilter { policy: text("other"), ..filter() }, &[]),
        (RecordFilter { client: text("' OR 1=1 --"), ..filter() }, &[]),
        (RecordFilter { request_id: text(records[6].request_id.as_str()), ..filter() }, &[6]),
    ];
    for (filter, expected) in cases {
        let listed = store.records().list(&filter, &all()).await.unwrap();
        let expected: Vec<_> = expected.iter().map(|n| records[*n].clone()).collect();
        assert_eq!((listed.items, listed.next), (expected, None), "{filter:?}");
    }
}

pub(crate) async fn records_page_by_cursor<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let mut records = ten(&store).await;
    records.reverse();
    let (mut page, mut seen) = (Page::first(4), Vec::new());
    for expected in [4, 4, 2] {
        let part = store.records().list(&RecordFilter::default(), &page).await.unwrap();
        assert_eq!(part.items.len(), expected);
        seen.extend(part.items);
        page.after = part.next;
    }
    assert_eq!((page.after, seen), (None, records));
    let wrong = store.records().list(&RecordFilter::default(), &Page { after: Some("x' --".into()), limit: 1 }).await;
    assert_eq!(wrong.unwrap_err().reason(), "not_found");
}

pub(crate) async fn old_records_are_deleted_in_steps<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let records = ten(&store).await;
    let before = secs(START + 7);
    let mut steps = Vec::new();
    for _ in 0..4 {
        steps.push(store.records().delete_before(before, 3).await.unwrap());
    }
    assert_eq!(steps, [3, 3, 1, 0]);
    let left = store.records().list(&RecordFilter::default(), &all()).await.unwrap().items;
    assert_eq!(left, records[7..].iter().rev().cloned().collect::<Vec<_>>());
}

pub(crate) async fn long_texts_are_cut_at_a_character<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let long: Arc<str> = "é".repeat(1000).into();
    let id = RequestId::new(&SeededRng::new(1));
    store.sink().push(RequestRecord { model: Some(format!("x{long}").into()), ..record(id, START) });
    store.flush().await.unwrap();
    let stored = store.records().list(&RecordFilter::default(), &all()).await.unwrap().items.remove(0);
    assert_eq!(stored.model.unwrap().len(), 255, "256 bytes would cut a character in two");
}

fn any_record() -> impl Strategy<Value = RequestRecord> {
    let text = || proptest::option::of(".{0,60}".prop_map(|text| Arc::<str>::from(text.as_str())));
    let name = || proptest::option::of("[a-z0-9][a-z0-9._/:-]{0,60}".prop_map(|text| Name::new(&text).unwrap()));
    let count = || proptest::option::of(0..=i64::MAX as u64);
    (
        (any::<i64>(), any::<u64>(), ".{0,60}", name(), name(), text(), text()),
        (text(), text(), name(), any::<u16>(), proptest::option::of("[a-z_]{0,30}")),
        (count(), count(), count(), 0..=i64::MAX as u64, count(), any::<bool>(), 0..1u64 << 40, 0..1u64 << 40),
        any_charge(),
    )
        .prop_map(|(who, what, how, charge)| RequestRecord {
            at: Timestamp::from_millis(who.0),
            request_id: RequestId::new(&SeededRng::new(who.1)),
            endpoint: who.2.into(),
            policy: who.3,
            issuer: who.4,
            client: who.5,
            subject: who.6,
            api_key: what.0,
            model: what.1,
            provider: what.2,
            status: what.3,
            error: what.4.clone().map(Into::into),
            input_tokens: how.0,
            output_tokens: how.1,
            cached_tokens: how.2,
            duration_ms: how.3,
            ttft_ms: how.4,
            stream: how.5,
            request_bytes: how.6,
            response_bytes: how.7,
            cache_similarity: what.4.as_ref().map(|_| what.3 % 1001),
            cache: what.4.as_ref().map(|_| "semantic".into()),
            charge,
        })
}

pub(crate) fn any_charge() -> impl Strategy<Value = Charge> {
    let text = || proptest::option::of(".{0,60}".prop_map(|text| Arc::<str>::from(text.as_str())));
    let count = || proptest::option::of(0..=i64::MAX as u64);
    let amount = || proptest::option::of(0..=i64::MAX);
    let basis = prop_oneof![
        (any::<u32>(), any::<bool>()).prop_map(|(factor, long_cache)| Basis::Tokens { factor, long_cache }),
        Just(Basis::Heard),
        Just(Basis::Request)
    ];
    (
        (text(), text(), proptest::collection::vec(".{0,20}".prop_map(|tag| Arc::<str>::from(tag.as_str())), 0..3)),
        (count(), count(), count(), count(), count(), count()),
        (amount(), any::<[bool; 3]>(), amount(), proptest::option::of(basis), text()),
    )
        .prop_map(|(place, taken, cost)| Charge {
            provider_model: place.0,
            service: place.1,
            tags: place.2,
            cache_write_tokens: taken.0,
            reasoning_tokens: taken.1,
            audio_input_tokens: taken.2,
            audio_output_tokens: taken.3,
            audio_ms: taken.4,
            images: taken.5,
            cost: cost.0,
            estimated: cost.1[0],
            clamped: cost.1[1],
            is_named: cost.1[2],
            rated: cost.2,
            basis: cost.3,
            price: cost.4,
            corrected: None,
        })
}

pub(crate) async fn any_record_reads_back<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config::with_cases(32));
        // More than one statement holds, so that several are made.
        let run = runner.run(&proptest::collection::vec(any_record(), 1..150), |records| {
            handle.block_on(async {
                records.iter().cloned().for_each(|record| store.sink().push(record));
                store.flush().await.unwrap();
                let page = Page::first(u32::try_from(records.len()).unwrap());
                let mut listed = store.records().list(&RecordFilter::default(), &page).await.unwrap().items;
                listed.reverse();
                prop_assert_eq!(listed, records);
                Ok(())
            })
        });
        run.unwrap();
    })
    .await
    .unwrap();
}

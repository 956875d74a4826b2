//! Installations of apps: what they show counts once, counters only rise, and those that may not have no tokens.

use std::time::Duration;

use base::{Clock as _, Tenant};
use store::{
    Attested, Enrolled, Instance, InstanceFilter, InstanceStatus, NewInstance, OWN_ISSUER, OneTime, Page, Refreshed,
    Refusal, Renewed, Store, StoreError, TokenFacts, UseUp,
};

use super::{Backend, START, all, name, secs};

fn attested(key: u8) -> Attested {
    Attested {
        platform: "ios".to_owned(),
        evidence: "apple-app-attest".to_owned(),
        evidence_key: [key; 32],
        attested_key: Some(vec![4; 65]),
        level: "hw-strong".to_owned(),
        environment: Some("production".to_owned()),
        category: Some(4),
        version: Some(format!("1.{key}")),
        serials: vec![format!("ab{key}")],
        flags: "[]".to_owned(),
        annotations: vec!["new".to_owned()],
        device: None,
        reattest_at: secs(START + 86_400),
    }
}

pub(super) fn new(jkt: &str, key: u8) -> NewInstance {
    NewInstance {
        counter: 0,
        receipt: None,
        app: name("chat"),
        jkt: jkt.to_owned(),
        jwk: "{}".to_owned(),
        attested: attested(key),
        arc: format!("ARC{key:05}"),
    }
}

fn nonce(text: &str) -> Vec<UseUp> {
    vec![UseUp { kind: OneTime::AttestNonce, key: vec![text.to_owned()], until: secs(START + 600) }]
}

async fn enrolled(store: &Store, jkt: &str, key: u8) -> Instance {
    match store.instances().enroll(new(jkt, key)).await.unwrap() {
        Enrolled::Done(instance) => *instance,
        other => panic!("{other:?}"),
    }
}

fn refreshed(text: &str, counter: Option<u64>) -> Refreshed {
    Refreshed {
        used: nonce(text),
        counter,
        annotations: vec!["seen".to_owned()],
        flags: "[]".to_owned(),
        version: None,
        arc: "REFRESH1".to_owned(),
        by: "attestation".to_owned(),
    }
}

fn is_revoked(store: &Store, id: &str) -> bool {
    let facts = TokenFacts { issuer: OWN_ISSUER, subject: id, issued_at: Some(secs(START)), ..TokenFacts::default() };
    store.revoked().check(&facts).is_some()
}

pub(crate) async fn an_installation_is_written_with_what_it_showed<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let instance = enrolled(&store, "key-1", 1).await;
    assert_eq!((instance.counter, instance.status, instance.created_at), (0, InstanceStatus::Active, secs(START)));
    assert_eq!(instance.attested, attested(1));
    store.close().await;

    let store = backend.open().await;
    assert_eq!(store.instances().get(&instance.id).await.unwrap(), Some(instance.clone()));
    assert_eq!(store.instances().of_arc("ARC00001").await.unwrap().map(|found| found.id), Some(instance.id));
    assert_eq!(store.instances().get("in_nobody").await.unwrap(), None);
    assert_eq!(store.instances().counts().await.unwrap()[0].count, 1);
    store.close().await;
}

pub(crate) async fn what_was_shown_counts_once<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    enrolled(&store, "key-1", 1).await;
    let again = store.instances().enroll(new("key-2", 1)).await.unwrap();
    assert_eq!(again, Enrolled::EvidenceTaken);
    let enrol = |index: u8| {
        let store = store.clone();
        async move { store.instances().enroll(new(&format!("of-{index}"), 100)).await.unwrap() }
    };
    let outcomes = futures_util::future::join_all((0..16).map(enrol)).await;
    let done = outcomes.iter().filter(|outcome| matches!(outcome, Enrolled::Done(_))).count();
    assert_eq!(done, 1, "{outcomes:?}");
    let use_up = |index: u8| {
        let store = store.clone();
        let evidence = UseUp { kind: OneTime::Evidence, key: vec![index.to_string()], until: secs(START + 600) };
        async move { store.used_once().claim_all([nonce("the one"), vec![evidence]].concat()).await.unwrap() }
    };
    let used = futures_util::future::join_all((0..16).map(use_up)).await;
    assert_eq!(used.iter().filter(|used| used.is_none()).count(), 1, "{used:?}");
    assert!(used.iter().flatten().all(|used| *used == OneTime::AttestNonce), "{used:?}");
    store.close().await;

    let store = backend.open().await;
    let seen = async |kind, key: &str| store.used_once().seen(kind, &[key]).await.unwrap();
    assert!(seen(OneTime::AttestNonce, "the one").await, "also over a restart");
    let mut evidence = 0;
    for index in 0..16 {
        evidence += u32::from(seen(OneTime::Evidence, &index.to_string()).await);
    }
    assert_eq!(evidence, 1, "what came with a nonce that had been used is not touched");
    store.close().await;
}

pub(crate) async fn the_same_key_is_the_same_installation<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let first = enrolled(&store, "key-1", 1).await;
    assert!(matches!(
        store.instances().refresh(&first.id, refreshed("r1", Some(7))).await.unwrap(),
        Renewed::Done(renewed) if renewed.counter == 7
    ));
    let Enrolled::Done(again) = store.instances().enroll(new("key-1", 2)).await.unwrap() else { panic!() };
    assert_eq!((again.id.clone(), again.counter, again.attested), (first.id.clone(), 0, attested(2)));
    store.instances().set_status(&first.id, InstanceStatus::Quarantined, ("ops", "looked odd")).await.unwrap();
    let barred = store.instances().enroll(new("key-1", 3)).await.unwrap();
    assert_eq!(barred, Enrolled::Barred(InstanceStatus::Quarantined));
    store.close().await;
}

pub(crate) async fn a_counter_that_does_not_rise_is_a_copy<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let instance = enrolled(&store, "key-1", 1).await;
    let refresh =
        async |text: &str, counter| store.instances().refresh(&instance.id, refreshed(text, counter)).await.unwrap();
    let Renewed::Done(renewed) = refresh("r1", Some(3)).await else { panic!() };
    assert_eq!(
        (renewed.counter, renewed.arc.as_str(), renewed.attested.annotations[0].as_str()),
        (3, "REFRESH1", "seen")
    );
    assert_eq!(refresh("r1", Some(4)).await, Renewed::Used(OneTime::AttestNonce));
    assert!(!is_revoked(&store, &instance.id));
    assert_eq!(refresh("r2", Some(3)).await, Renewed::CounterRegressed);
    assert!(is_revoked(&store, &instance.id), "its tokens end with it");
    let found = store.instances().get(&instance.id).await.unwrap().unwrap();
    assert_eq!((found.status, found.status_why.as_str()), (InstanceStatus::Quarantined, "counter_regression"));
    assert_eq!(refresh("r3", Some(9)).await, Renewed::Barred);
    assert_eq!(store.instances().refresh("in_nobody", refreshed("r4", None)).await.unwrap(), Renewed::Barred);
    store.close().await;
}

pub(crate) async fn of_many_who_show_one_counter_one_goes_on<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let instance = enrolled(&store, "key-1", 1).await;
    let refresh = |index: u8| {
        let (store, id) = (store.clone(), instance.id.clone());
        async move { store.instances().refresh(&id, refreshed(&format!("r{index}"), Some(5))).await.unwrap() }
    };
    let outcomes = futures_util::future::join_all((0..16).map(refresh)).await;
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Renewed::Done(_))).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Renewed::CounterRegressed).count(), 1, "{outcomes:?}");
    store.close().await;
}

pub(crate) async fn one_that_may_not_loses_its_tokens_and_gets_no_more<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let instance = enrolled(&store, "key-1", 1).await;
    let set = async |status, why| store.instances().set_status(&instance.id, status, ("ops", why)).await;
    set(InstanceStatus::Quarantined, "odd").await.unwrap();
    assert!(is_revoked(&store, &instance.id));
    let ahead = TokenFacts {
        issuer: OWN_ISSUER,
        subject: &instance.id,
        issued_at: Some(secs(START + 3)),
        ..TokenFacts::default()
    };
    assert!(store.revoked().check(&ahead).is_some(), "given by a node whose clock is ahead");
    assert_eq!(store.instances().refresh(&instance.id, refreshed("r1", None)).await.unwrap(), Renewed::Barred);
    let again = set(InstanceStatus::Quarantined, "odder").await.unwrap();
    assert_eq!(again.status_why, "odd", "it is so already");
    backend.clock().advance(Duration::from_secs(5));
    assert_eq!(set(InstanceStatus::Active, "known").await.unwrap().status, InstanceStatus::Active);
    assert!(matches!(store.instances().refresh(&instance.id, refreshed("r2", None)).await.unwrap(), Renewed::Done(_)));
    let facts = TokenFacts {
        issuer: OWN_ISSUER,
        subject: &instance.id,
        issued_at: Some(secs(START + 5)),
        ..TokenFacts::default()
    };
    assert_eq!(store.revoked().check(&facts), None, "what it gets after its release is good");
    set(InstanceStatus::Revoked, "stolen").await.unwrap();
    assert!(store.revoked().check(&facts).is_some());
    assert!(matches!(set(InstanceStatus::Active, "").await, Err(StoreError::Conflict("instance"))));
    store.instances().delete(&instance.id, "instance", "deleted").await.unwrap();
    assert!(matches!(
        store.instances().delete(&instance.id, "instance", "deleted").await,
        Err(StoreError::Missing("instance"))
    ));
    let second = enrolled(&store, "key-2", 2).await;
    store.instances().delete(&second.id, "instance", "deleted").await.unwrap();
    assert!(is_revoked(&store, &second.id) && store.instances().get(&second.id).await.unwrap().is_none());
    assert!(matches!(
        store.instances().set_status("in_nobody", InstanceStatus::Revoked, ("ops", "")).await,
        Err(StoreError::Missing("instance"))
    ));
    store.close().await;
}

pub(crate) async fn installations_are_found_counted_and_forgotten<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    for key in 1..=5 {
        enrolled(&store, &format!("key-{key}"), key).await;
    }
    let instances = store.instances();
    let found = instances.list(&InstanceFilter::default(), &Page::first(2)).await.unwrap();
    let next = Page { after: found.next.clone(), limit: 10 };
    assert_eq!(
        (found.items.len(), instances.list(&InstanceFilter::default(), &next).await.unwrap().items.len()),
        (2, 3)
    );
    let search = |text: &str| InstanceFilter { search: Some(text.to_owned()), ..InstanceFilter::default() };
    for (text, count) in [("key-3", 1), ("1.", 5), ("%", 0), ("in_", 5), ("1.4", 1)] {
        assert_eq!(instances.list(&search(text), &all()).await.unwrap().items.len(), count, "{text}");
    }
    let other = InstanceFilter { app: Some("other".to_owned()), ..InstanceFilter::default() };
    assert_eq!(instances.list(&other, &all()).await.unwrap().items, []);
    let with = instances.with_serials("", 2).await.unwrap();
    assert_eq!(with.len(), 2);
    let rest = instances.with_serials(&with[1].0, 10).await.unwrap();
    assert_eq!(rest.len(), 3);
    instances.set_status(&found.items[0].id, InstanceStatus::Revoked, ("ops", "stolen")).await.unwrap();
    let revoked = InstanceFilter { status: Some(InstanceStatus::Revoked), ..InstanceFilter::default() };
    assert_eq!(instances.list(&revoked, &all()).await.unwrap().items.len(), 1);
    let counts = instances.counts().await.unwrap();
    assert_eq!(
        counts.iter().map(|c| (c.status.as_str(), c.count)).collect::<Vec<_>>(),
        [("active", 4), ("revoked", 1)]
    );

    // What shows no device and is not used is forgotten early.
    let mut ids = Vec::new();
    for (jkt, key, level) in [("web-1", 50, "web"), ("web-2", 51, "web"), ("none-1", 52, "none"), ("hw-1", 53, "hw")] {
        let mut one = new(jkt, key);
        one.attested.level = level.to_owned();
        let Enrolled::Done(one) = instances.enroll(one).await.unwrap() else { panic!() };
        if jkt == "web-2" {
            backend.clock().advance(Duration::from_secs(270));
            assert!(matches!(instances.refresh(&one.id, refreshed("w", None)).await.unwrap(), Renewed::Done(_)));
        }
        ids.push((jkt, one.id));
    }
    assert_eq!(instances.delete_unused(secs(START), 10).await.unwrap(), 0);
    assert_eq!(instances.delete_unused(backend.clock().now(), 1).await.unwrap(), 1);
    assert_eq!(instances.delete_unused(backend.clock().now().plus(Duration::from_secs(1)), 10).await.unwrap(), 1);
    for (jkt, id) in &ids {
        let there = instances.get(id).await.unwrap().is_some();
        assert_eq!(there, ["web-2", "hw-1"].contains(jkt), "{jkt}");
        if there {
            instances.delete(id, "test", "deleted").await.unwrap();
        }
    }

    backend.clock().advance(Duration::from_hours(100 * 24));
    let (unseen, barred) = (secs(START + 90 * 86_400), secs(START));
    assert_eq!(instances.delete_unseen(unseen, barred, 3).await.unwrap(), 3);
    assert_eq!(instances.delete_unseen(unseen, barred, 30).await.unwrap(), 1);
    assert_eq!(instances.counts().await.unwrap().len(), 1, "who is revoked stays known");
    assert_eq!(instances.delete_unseen(unseen, secs(START + 1), 30).await.unwrap(), 1);
    store.close().await;
}

fn refusal(arc: &str, at: i64) -> Refusal {
    Refusal {
        arc: arc.to_owned(),
        at: secs(at),
        app: Some("chat".to_owned()),
        instance: None,
        step: "enroll".to_owned(),
        action: "update".to_owned(),
        reasons: vec!["app_version_too_old".to_owned()],
        detail: "{}".to_owned(),
    }
}

pub(crate) async fn why_one_was_refused_is_kept_and_bounded<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    for index in 0..10 {
        store.instances().refuse(&refusal(&format!("ARC{index}"), START + index)).await.unwrap();
    }
    store.instances().refuse(&refusal("ARC3", START)).await.unwrap();
    assert_eq!(store.instances().refusal("ARC3").await.unwrap(), Some(refusal("ARC3", START + 3)));
    assert_eq!(store.instances().refusal("ARCX").await.unwrap(), None);
    assert_eq!(store.instances().delete_refusals(secs(START + 2), 100, 100).await.unwrap(), 2);
    assert_eq!(store.instances().delete_refusals(secs(START), 3, 100).await.unwrap(), 4, "the oldest beyond go");
    assert_eq!(store.instances().refusal("ARC9").await.unwrap().map(|r| r.action), Some("update".to_owned()));
    store.close().await;
}

pub(crate) async fn tenants_have_installations_of_their_own<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let other = store.for_tenant(Tenant::new(name("other")));
    let instance = enrolled(&store, "key-1", 1).await;
    assert_eq!(other.instances().get(&instance.id).await.unwrap(), None);
    assert!(other.instances().set_status(&instance.id, InstanceStatus::Revoked, ("ops", "")).await.is_err());
    enrolled(&other, "key-1", 1).await;
    assert_eq!(other.instances().counts().await.unwrap()[0].count, 1);
    store.close().await;
}

//! What was decided about instances of apps, counted; and leave for single ones.

use store::{NewForcedPass, Page, RiskDecision, Sighting, Sightings as _};

use super::{Backend, START, name, secs};

fn decision(known: &str, count: u64) -> RiskDecision {
    RiskDecision {
        day: 20_000,
        app: "chat".to_owned(),
        version: "1.0".to_owned(),
        step: "token".to_owned(),
        known: known.to_owned(),
        action: "deny".to_owned(),
        would: "deny".to_owned(),
        reasons: vec!["frida".to_owned()],
        count,
    }
}

pub(crate) async fn decisions_of_one_kind_are_one_row<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let decisions = store.risk_decisions();
    assert_eq!(decisions.add(&[decision("a", 2), decision("b", 9), decision("a", 3)]).await.unwrap(), 0);
    assert_eq!(decisions.add(&[RiskDecision { day: 20_001, ..decision("a", 1) }]).await.unwrap(), 0);
    assert_eq!(decisions.add(&[RiskDecision { app: "other".to_owned(), ..decision("a", 1) }]).await.unwrap(), 0);
    store.close().await;
    let store = backend.open().await;
    let decisions = store.risk_decisions();
    let all = decisions.since(Some("chat"), 0, 10).await.unwrap();
    assert_eq!(all[0], decision("b", 9));
    assert_eq!(all.iter().map(|row| (row.day, row.count)).collect::<Vec<_>>(), [(20_000, 9), (20_000, 5), (20_001, 1)]);
    assert_eq!(decisions.since(None, 20_001, 10).await.unwrap().len(), 1);
    assert_eq!(decisions.since(None, 0, 2).await.unwrap().len(), 2);
    assert_eq!(decisions.delete_before(20_001, 2).await.unwrap(), 2);
    assert_eq!(decisions.delete_before(20_001, 10).await.unwrap(), 1);
    assert_eq!(decisions.since(None, 0, 10).await.unwrap().len(), 1);
    assert!(decisions.add(&[decision(&"x".repeat(9000), 1)]).await.is_err(), "too long");
    store.close().await;
}

fn pass(app: &str, jkt: &str, hours: i64) -> NewForcedPass {
    NewForcedPass {
        app: name(app),
        jkt: jkt.to_owned(),
        ends_at: secs(START + hours * 3600),
        by: "ann".to_owned(),
        reason: "a test phone".to_owned(),
    }
}

pub(crate) async fn a_forced_pass_ends_by_itself_and_is_one_instances_alone<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let passes = store.forced_passes();
    let first = passes.give(pass("chat", "k1", 1)).await.unwrap();
    assert!(first.is_in_force(store.now()) && first.uses == 0);
    assert_eq!(passes.of("chat", "k1").await.unwrap().unwrap().id, first.id);
    assert!(passes.of("chat", "k2").await.unwrap().is_none());
    assert!(passes.of("other", "k1").await.unwrap().is_none());
    let second = passes.give(pass("chat", "k1", 2)).await.unwrap();
    assert_eq!(passes.of("chat", "k1").await.unwrap().unwrap().id, second.id, "instead of the first");
    passes.used(&second.id, 3, store.now()).await.unwrap();
    passes.used(&second.id, 1, store.now()).await.unwrap();
    store.close().await;

    let store = backend.open().await;
    let passes = store.forced_passes();
    assert_eq!(passes.of("chat", "k1").await.unwrap().unwrap().uses, 4);
    let listed = passes.list(&Page::first(1)).await.unwrap();
    let next = Page { after: listed.next.clone(), ..Page::first(1) };
    let rest = passes.list(&next).await.unwrap();
    let mut ids = [listed.items[0].id.clone(), rest.items[0].id.clone()];
    ids.sort();
    let mut both = [first.id.clone(), second.id.clone()];
    both.sort();
    assert_eq!((ids, rest.next), (both, None));
    assert!(passes.end(&first.id, "bob").await.is_err(), "it is over");
    let ended = passes.end(&second.id, "bob").await.unwrap();
    assert_eq!(ended.ended_by.as_deref(), Some("bob"));
    assert!(passes.of("chat", "k1").await.unwrap().is_none());
    passes.give(pass("chat", "k1", 3)).await.unwrap();
    backend.clock().advance(std::time::Duration::from_hours(3));
    assert!(passes.of("chat", "k1").await.unwrap().is_none(), "it ends by itself");
    assert_eq!(passes.delete_before(secs(START + 100 * 3600), 10).await.unwrap(), 3);
    store.close().await;
}

pub(crate) async fn sightings_add_up_for_an_hour_and_changes_of_place_count<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let one = |id, add, place: Option<u8>| Sighting { id: [id; 16], add, place: place.map(|place| [place; 8]) };
    let share = async |some: &[Sighting]| store.share(some).await.unwrap();
    assert_eq!(share(&[one(2, 3, None), one(1, 1, None)]).await, [3, 1], "in the order that was asked");
    assert_eq!(share(&[one(1, 1, None), one(2, 0, None)]).await, [2, 3]);
    for (place, total) in [(Some(1), 0), (Some(1), 0), (None, 0), (Some(2), 1), (Some(1), 2)] {
        assert_eq!(share(&[one(3, 0, place)]).await, [total], "{place:?}");
    }
    backend.clock().advance(std::time::Duration::from_mins(59));
    assert_eq!(share(&[one(2, 1, None)]).await, [4]);
    backend.clock().advance(std::time::Duration::from_mins(1));
    assert_eq!(share(&[one(2, 1, None)]).await, [1], "an hour after the first");
    assert_eq!(store.forget_sightings(10).await.unwrap(), 2);
    store.close().await;
}

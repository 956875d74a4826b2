use std::time::Duration;

use base::{RequestId, SeededRng, Tenant};
use store::{Begin, Expect, LastGood, NewClient, Owner, RecordFilter, Store, StoreError, StoredObject};
use vault::{Label, Purpose, Sealed};

use super::credentials::{new_admin_token, new_client, new_key};
use super::records::record;
use super::secrets::seal;
use super::{Backend, START, all, name, secs, test_vault};

pub(crate) async fn meta_set(store: &Store) {
    store.meta().set("k", "v").await.unwrap();
}

pub(crate) async fn a_key_set_is_kept_unless_a_later_one_is<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let kept = store.jwks_last_good();
    let set = |at, body: &str| LastGood {
        issuer: name("corp"),
        url: "https://id.example.com/jwks".into(),
        body: body.into(),
        fetched_at: secs(at),
    };
    assert_eq!(kept.load(&name("corp")).await.unwrap(), None);
    for (at, body, expected) in [(10, "ten", "ten"), (9, "nine", "ten"), (11, "eleven", "eleven")] {
        kept.save(&set(at, body)).await.unwrap();
        assert_eq!(kept.load(&name("corp")).await.unwrap().unwrap().body, expected.as_bytes());
    }
    assert_eq!(kept.load(&name("other")).await.unwrap(), None);
}

fn owner(issuer: &str, subject: &str, client: Option<&str>) -> StoredObject {
    Owner { issuer: issuer.into(), subject: subject.into(), client: client.map(Into::into) }.into()
}

pub(crate) async fn an_object_is_its_makers_alone<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (objects, openai) = (store.stored_objects(), name("openai"));
    let alice = owner("corp", "alice", Some("app"));
    assert_eq!(objects.made(&openai, "resp_1").await.unwrap(), None);
    objects.claim(&openai, "resp_1", &alice).await.unwrap();
    objects.claim(&openai, "resp_1", &alice).await.unwrap();
    for other in [
        owner("corp", "bob", Some("app")),
        owner("other", "alice", Some("app")),
        owner("corp", "alice", Some("other")),
        owner("corp", "alice", None),
    ] {
        assert_eq!(objects.claim(&openai, "resp_1", &other).await.unwrap_err().reason(), "conflict");
    }
    assert_eq!(objects.made(&openai, "resp_1").await.unwrap(), Some(alice.clone()));
    assert_eq!(objects.made(&name("anthropic"), "resp_1").await.unwrap(), None);
    assert_eq!(objects.made(&openai, "RESP_1").await.unwrap(), None);
    // Once more, with another key: the one it was made with stays.
    let keyed = StoredObject { key: Some("second".into()), ..alice.clone() };
    objects.claim(&openai, "resp_1", &keyed).await.unwrap();
    assert_eq!(objects.made(&openai, "resp_1").await.unwrap(), Some(alice.clone()));
    objects.claim(&openai, "resp_2", &keyed).await.unwrap();
    objects.claim(&openai, "resp_2", &alice).await.unwrap();
    assert_eq!(objects.made(&openai, "resp_2").await.unwrap(), Some(keyed));
    assert!(objects.forget(&openai, "resp_2").await.unwrap());

    assert!(objects.forget(&openai, "resp_1").await.unwrap());
    assert!(!objects.forget(&openai, "resp_1").await.unwrap(), "nobody is told twice that it was there");
    assert_eq!(objects.made(&openai, "resp_1").await.unwrap(), None);
    for n in 0..5 {
        objects.claim(&openai, &format!("resp_{n}"), &alice).await.unwrap();
    }
    assert_eq!(objects.delete_before(secs(START), 10).await.unwrap(), 0);
    assert_eq!(objects.delete_before(secs(START + 1), 3).await.unwrap(), 3);
    assert_eq!(objects.delete_before(secs(START + 1), 3).await.unwrap(), 2);
}

fn answer(attempt: &str) -> Sealed {
    let tenant = Tenant::default();
    test_vault().seal(&Label::new(&tenant, Purpose::Answer, attempt, 1), b"the answer").unwrap()
}

pub(crate) async fn an_idempotency_key_does_its_request_once<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let keys = store.idempotency();
    let Begin::Proceed(attempt) = keys.begin("alice", "key-1", [1; 32]).await.unwrap() else { panic!("it is new") };
    assert!(matches!(keys.begin("alice", "key-1", [1; 32]).await.unwrap(), Begin::UnderWay));
    assert!(matches!(keys.begin("alice", "key-1", [2; 32]).await.unwrap(), Begin::Mismatch));
    assert!(
        matches!(keys.begin("bob", "key-1", [1; 32]).await.unwrap(), Begin::Proceed(_)),
        "a key is its principal's"
    );
    let id = attempt.id().to_owned();
    keys.complete(attempt, 201, &answer(&id), Duration::from_hours(24)).await.unwrap();
    let Begin::Replay { status, answer, attempt } = keys.begin("alice", "key-1", [1; 32]).await.unwrap() else {
        panic!("it was done")
    };
    assert_eq!((status, &attempt), (201, &id));
    let tenant = Tenant::default();
    let opened = test_vault().open(&Label::new(&tenant, Purpose::Answer, &attempt, 1), &answer).unwrap();
    assert!(opened.matches(b"the answer"));
    assert!(matches!(keys.begin("alice", "key-1", [2; 32]).await.unwrap(), Begin::Mismatch));
}

pub(crate) async fn an_abandoned_or_expired_key_is_free_again<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let keys = store.idempotency();
    let Begin::Proceed(failed) = keys.begin("a", "k", [1; 32]).await.unwrap() else { panic!("it is new") };
    keys.abandon(failed).await.unwrap();
    let Begin::Proceed(slow) = keys.begin("a", "k", [2; 32]).await.unwrap() else { panic!("it was given free") };
    backend.clock().advance(Duration::from_mins(5));
    let Begin::Proceed(next) = keys.begin("a", "k", [3; 32]).await.unwrap() else { panic!("the first has died") };
    let (slow_id, next_id) = (slow.id().to_owned(), next.id().to_owned());
    keys.complete(slow, 200, &answer(&slow_id), Duration::from_mins(1)).await.unwrap();
    assert!(matches!(keys.begin("a", "k", [3; 32]).await.unwrap(), Begin::UnderWay), "the late one changes nothing");
    keys.complete(next, 200, &answer(&next_id), Duration::from_mins(1)).await.unwrap();
    assert_eq!(keys.delete_expired().await.unwrap(), 0);
    backend.clock().advance(Duration::from_mins(1));
    assert!(matches!(keys.begin("a", "k", [4; 32]).await.unwrap(), Begin::Proceed(_)));
    backend.clock().advance(Duration::from_hours(1));
    assert_eq!(keys.delete_expired().await.unwrap(), 1);
}

pub(crate) async fn a_fact_is_set_and_set_once<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let meta = store.meta();
    assert_eq!(meta.get("key").await.unwrap(), None);
    meta.set("key", "1").await.unwrap();
    meta.set("key", "2").await.unwrap();
    assert_eq!(meta.set_once("key", "3").await.unwrap(), "2");
    assert_eq!(meta.set_once("new", "3").await.unwrap(), "3");
    assert_eq!(meta.get("key").await.unwrap().as_deref(), Some("2"));
    store.ping().await.unwrap();
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
}

async fn fill(store: &Store) {
    let (openai, vault) = (name("openai"), test_vault());
    store.clients().create(new_client("c")).await.unwrap();
    store.api_keys().create(new_key("k", 1)).await.unwrap();
    store.admin_tokens().create(new_admin_token("t", 1)).await.unwrap();
    store.secrets().put(seal(&vault, "s", 1, "x")).await.unwrap();
    store.resources().put(("model", &name("m")), "{}".into(), Expect::Absent, "a").await.unwrap();
    store.stored_objects().claim(&openai, "o", &owner("i", "s", None)).await.unwrap();
    store.meta().set("fact", store.tenant().as_str()).await.unwrap();
    assert!(matches!(store.idempotency().begin("a", "k", [1; 32]).await.unwrap(), Begin::Proceed(_)));
    store.sink().push(record(RequestId::new(&SeededRng::new(1)), START));
    store.flush().await.unwrap();
}

async fn counts(store: &Store) -> [usize; 8] {
    let owner = store.stored_objects().made(&name("openai"), "o").await.unwrap();
    [
        store.clients().list(&all()).await.unwrap().items.len(),
        store.api_keys().live().await.unwrap().len(),
        store.admin_tokens().list(&all()).await.unwrap().items.len(),
        store.secrets().list(&all()).await.unwrap().items.len(),
        store.resources().all().await.unwrap().len(),
        usize::from(owner.is_some()),
        usize::from(store.meta().get("fact").await.unwrap().as_deref() == Some(store.tenant().as_str())),
        store.records().list(&RecordFilter::default(), &all()).await.unwrap().items.len(),
    ]
}

pub(crate) async fn tenants_do_not_see_one_another<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let other = store.for_tenant(Tenant::new(name("other")));
    fill(&store).await;
    assert_eq!((counts(&store).await, counts(&other).await), ([1; 8], [0; 8]));
    assert_eq!(other.clients().delete(&name("c")).await.unwrap_err().reason(), "not_found");
    assert_eq!(other.api_keys().revoke("k").await.unwrap_err().reason(), "not_found");
    assert_eq!(other.api_keys().by_hash([1; 32]).await.unwrap(), None);
    assert_eq!(other.admin_tokens().live([1; 32]).await.unwrap(), None);
    assert_eq!(other.secrets().last_version(&name("s")).await.unwrap(), 0);
    assert_eq!(other.records().delete_before(secs(START + 9), 9).await.unwrap(), 0);
    assert_eq!(other.stored_objects().delete_before(secs(START + 9), 9).await.unwrap(), 0);
    let before = store.version();
    // The same names are free for the other tenant, and one number tells of both tenants' changes.
    fill(&other).await;
    assert_eq!((counts(&store).await, counts(&other).await), ([1; 8], [1; 8]));
    assert!(store.version() > before);
}

pub(crate) async fn everything_survives_reopening<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    fill(&store).await;
    // One more, not flushed: a clean close writes what is waiting.
    store.sink().push(record(RequestId::new(&SeededRng::new(2)), START));
    store.close().await;
    let again = backend.open().await;
    assert_eq!(counts(&again).await, [1, 1, 1, 1, 1, 1, 1, 2]);
    assert_eq!(again.check().await.unwrap(), Vec::<String>::new());
}

pub(crate) async fn values_over_their_limits_are_refused<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let long = |bytes: usize| "x".repeat(bytes);
    let (openai, fast) = (name("openai"), name("fast"));
    let set = |body| LastGood { issuer: name("i"), url: "u".into(), body, fetched_at: secs(0) };
    store.resources().put(("model", &fast), long(1 << 20), Expect::Any, "a").await.unwrap();
    let refused: Vec<StoreError> = vec![
        store.resources().put(("model", &fast), long((1 << 20) + 1), Expect::Any, "a").await.unwrap_err(),
        store.clients().create(NewClient { scopes: vec![long(4097)], ..new_client("c") }).await.unwrap_err(),
        store.meta().set("k", &long(4097)).await.unwrap_err(),
        store.idempotency().begin("a", &long(256), [0; 32]).await.unwrap_err(),
        store.stored_objects().claim(&openai, &long(513), &owner("i", "s", None)).await.unwrap_err(),
        store.jwks_last_good().save(&set(vec![0; (8 << 20) + 1])).await.unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.reason() == "too_long"), "{refused:?}");
}

pub(crate) async fn a_closed_store_says_so<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    store.close().await;
    store.close().await;
    assert_eq!(store.ping().await.unwrap_err().reason(), "store_closed");
    assert_eq!(store.flush().await.unwrap_err().reason(), "store_closed");
    assert_eq!(store.meta().get("k").await.unwrap_err().reason(), "store_closed");
    assert_eq!(store.meta().set("k", "v").await.unwrap_err().reason(), "store_closed");
}

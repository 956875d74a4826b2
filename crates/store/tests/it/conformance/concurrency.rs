use futures_util::future::join_all;
use store::{Begin, Expect};
use tokio::task::JoinSet;

use super::{Backend, name};

pub(crate) async fn of_many_who_change_one_version_one_succeeds<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let fast = name("fast");
    let mut version = store.resources().put(("m", &fast), "0".into(), Expect::Absent, "a").await.unwrap().version;
    for round in 0..10 {
        let mut tasks = JoinSet::new();
        for n in 0..20 {
            let (store, fast) = (store.clone(), fast.clone());
            tasks.spawn(async move {
                store.resources().put(("m", &fast), n.to_string(), Expect::Version(version), "a").await
            });
        }
        let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 19), "round {round}");
        assert!(lost.iter().all(|result| result.as_ref().is_err_and(|error| error.reason() == "conflict")));
        let stored = store.resources().get("m", &fast).await.unwrap().unwrap();
        assert_eq!(&stored, won[0].as_ref().unwrap());
        version = stored.version;
    }
}

pub(crate) async fn of_many_with_one_idempotency_key_one_proceeds<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    for round in 0..5u8 {
        let key = format!("key-{round}");
        let begun = join_all((0..50).map(|_| store.idempotency().begin("a", &key, [round; 32]))).await;
        let begun: Vec<_> = begun.into_iter().map(Result::unwrap).collect();
        assert_eq!(begun.iter().filter(|begin| matches!(begin, Begin::Proceed(_))).count(), 1);
        assert_eq!(begun.iter().filter(|begin| matches!(begin, Begin::UnderWay)).count(), 49);
        let first = format!("fact-{round}");
        let facts = join_all((0..50).map(|n| {
            let (store, first) = (store.clone(), first.clone());
            async move { store.meta().set_once(&first, &n.to_string()).await.unwrap() }
        }))
        .await;
        assert!(facts.iter().all(|fact| fact == &facts[0]), "all agree on one");
    }
}

pub(crate) async fn every_acknowledged_write_is_there<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let mut tasks = JoinSet::new();
    for task in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..50 {
                let name = name(&format!("t{task}-{n}"));
                store.resources().put(("m", &name), n.to_string(), Expect::Absent, "a").await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(store.resources().all().await.unwrap().len(), 800);
    assert_eq!(store.version(), 800, "each change made one version, none was lost or shared");
    store.close().await;
    assert_eq!(backend.open().await.resources().all().await.unwrap().len(), 800);
}

pub(crate) async fn a_reader_sees_what_was_acknowledged_to_it<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            let key = format!("k{task}");
            for n in 0..50 {
                store.meta().set(&key, &n.to_string()).await.unwrap();
                assert_eq!(store.meta().get(&key).await.unwrap(), Some(n.to_string()));
            }
        });
    }
    tasks.join_all().await;
}

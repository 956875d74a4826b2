use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::{Expect, Page, Resource};

use super::credentials::{new_client, new_key};
use super::secrets::seal;
use super::small::meta_set;
use super::{Backend, name, test_vault};

fn body(n: u64) -> String {
    format!(r#"{{"n":{n}}}"#)
}

pub(crate) async fn a_resource_is_written_only_as_expected<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (resources, fast) = (store.resources(), name("fast"));
    let key = ("model", &fast);
    let missing = resources.put(key, body(0), Expect::Version(1), "alice").await.unwrap_err();
    assert_eq!(missing.reason(), "conflict");
    let made = resources.put(key, body(1), Expect::Absent, "alice").await.unwrap();
    assert_eq!((made.created_by.as_str(), made.updated_by.as_str(), &*made.body), ("alice", "alice", &*body(1)));
    assert_eq!(resources.put(key, body(2), Expect::Absent, "bob").await.unwrap_err().reason(), "already_exists");
    let changed = resources.put(key, body(2), Expect::Version(made.version), "bob").await.unwrap();
    assert_eq!((changed.created_by.as_str(), changed.updated_by.as_str()), ("alice", "bob"));
    let stale = resources.put(key, body(3), Expect::Version(made.version), "carol").await.unwrap_err();
    assert_eq!(stale.reason(), "conflict");
    assert_eq!(resources.get("model", &fast).await.unwrap(), Some(changed.clone()));
    assert_eq!(resources.get("policy", &fast).await.unwrap(), None, "kinds have names of their own");

    let stale = resources.delete("model", &fast, Expect::Version(made.version)).await.unwrap_err();
    assert_eq!(stale.reason(), "conflict");
    resources.delete("model", &fast, Expect::Version(changed.version)).await.unwrap();
    assert_eq!(resources.delete("model", &fast, Expect::Any).await.unwrap_err().reason(), "not_found");
    resources.put(key, body(4), Expect::Any, "dave").await.unwrap();
    assert_eq!(resources.all().await.unwrap().len(), 1);
}

pub(crate) async fn a_version_is_never_used_twice<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (resources, fast) = (store.resources(), name("fast"));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        for n in 0..3 {
            let put = resources.put(("model", &fast), body(n), Expect::Any, "alice").await.unwrap();
            assert!(seen.insert(put.version), "an old ETag must not fit a new resource");
        }
        resources.delete("model", &fast, Expect::Any).await.unwrap();
    }
}

pub(crate) async fn the_version_grows_with_each_change_and_wakes_watchers<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let mut watch = store.watch();
    let mut last = store.version();
    let fast = name("fast");
    for step in 0..5 {
        match step {
            0 => drop(store.clients().create(new_client("c")).await.unwrap()),
            1 => drop(store.api_keys().create(new_key("k", 1)).await.unwrap()),
            2 => drop(store.secrets().put(seal(&vault, "s", 1, "x")).await.unwrap()),
            3 => drop(store.resources().put(("model", &fast), body(0), Expect::Any, "a").await.unwrap()),
            _ => store.resources().delete("model", &fast, Expect::Any).await.unwrap(),
        }
        assert!(watch.has_changed().unwrap(), "step {step}");
        let version = *watch.borrow_and_update();
        assert!(version > last, "step {step}");
        assert_eq!(version, store.version());
        last = version;
    }
    meta_set(&store).await;
    assert!(!watch.has_changed().unwrap(), "what is no configuration wakes nobody");
    store.close().await;
    assert_eq!(backend.open().await.version(), last, "the version survives a restart");
}

pub(crate) async fn lists_page_without_gaps_or_repeats<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    for n in 0..10 {
        store.resources().put(("model", &name(&format!("m{n}"))), body(n), Expect::Absent, "a").await.unwrap();
        store.clients().create(new_client(&format!("c{n}"))).await.unwrap();
        store.clients().rotate(&name(&format!("c{n}")), [7; 32], std::time::Duration::from_mins(1)).await.unwrap();
    }
    for limit in [1, 3, 5, 10, 11] {
        let (mut page, mut models, mut clients) = (Page::first(limit), Vec::new(), Vec::new());
        for _ in 0..11 {
            let part = store.resources().list("model", &page).await.unwrap();
            assert!(part.items.len() <= limit as usize);
            models.extend(part.items.into_iter().map(|r| r.name.to_string()));
            page.after = part.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!(models, (0..10).map(|n| format!("m{n}")).collect::<Vec<_>>(), "limit {limit}");
        page.after = None;
        for _ in 0..11 {
            let part = store.clients().list(&page).await.unwrap();
            assert!(part.items.iter().all(|client| client.secrets.len() == 2));
            clients.extend(part.items.into_iter().map(|c| c.name.to_string()));
            page.after = part.next;
            if page.after.is_none() {
                break;
            }
        }
        assert_eq!(clients, (0..10).map(|n| format!("c{n}")).collect::<Vec<_>>(), "limit {limit}");
    }
    let nothing = store.resources().list("model", &Page { after: Some("zz".into()), limit: 0 }).await.unwrap();
    assert_eq!((nothing.items.len(), nothing.next), (0, None));
}

pub(crate) async fn any_resource_reads_back<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let handle = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let strategy = (".{1,20}", "[a-zA-Z0-9][a-zA-Z0-9._/:-]{0,60}", "\\PC{0,200}|.{0,200}", ".{0,40}");
        let mut runner = TestRunner::new(Config::with_cases(64));
        let run = runner.run(&strategy, |(kind, text, body, by)| {
            handle.block_on(async {
                let (resources, name) = (store.resources(), name(&text));
                let put = resources.put((&kind, &name), body.clone(), Expect::Any, &by).await.unwrap();
                let got = resources.get(&kind, &name).await.unwrap().unwrap();
                prop_assert_eq!(&got, &put);
                let fields = |r: Resource| (r.kind, r.name.to_string(), r.body, r.updated_by);
                prop_assert_eq!(fields(got), (kind, text, body, by));
                Ok(())
            })
        });
        run.unwrap();
    })
    .await
    .unwrap();
}

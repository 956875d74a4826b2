use base::{Tenant, Timestamp};
use store::{NewRuntimeVersion, SecretUse, SecretUses, Store};
use vault::{Label, Purpose, Vault};

use super::{Backend, START, all, name, secs, test_vault};

fn seal(vault: &Vault, secret: &str, version: u64, (not_before, others_end): (i64, i64)) -> NewRuntimeVersion {
    let tenant = Tenant::default();
    let label = Label::new(&tenant, Purpose::RuntimeSecret, secret, version).origin(None);
    NewRuntimeVersion {
        name: name(secret),
        version,
        sealed: vault.seal(&label, format!("value {version}").as_bytes()).unwrap(),
        origin: None,
        delivered: version.is_multiple_of(2),
        fingerprint: vault.fingerprint(b"value"),
        hint: None,
        not_before: secs(START + not_before),
        others_end: secs(START + others_end),
        created_by: "test".into(),
    }
}

async fn holding(store: &Store, secret: &str, at: Timestamp) -> Vec<u64> {
    let versions = store.runtime_secrets().versions(&name(secret)).await.unwrap();
    versions.iter().filter(|version| version.holds(at)).map(|version| version.version).collect()
}

pub(crate) async fn versions_follow_one_another_and_overlap<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let secrets = store.runtime_secrets();
    for wrong in [0, 2] {
        assert_eq!(secrets.put(seal(&vault, "maps", wrong, (0, 0))).await.unwrap_err().reason(), "conflict");
    }
    secrets.put(seal(&vault, "maps", 1, (0, 0))).await.unwrap();
    let before = store.version();
    secrets.put(seal(&vault, "maps", 2, (100, 160))).await.unwrap();
    assert!(store.version() > before, "requests are served with it from the next snapshot on");
    for (at, expected) in [(0, &[1][..]), (99, &[1]), (100, &[2, 1]), (159, &[2, 1]), (160, &[2])] {
        assert_eq!(holding(&store, "maps", secs(START + at)).await, expected, "{at}");
    }
    // An end that was set is not put off by a later version.
    secrets.put(seal(&vault, "maps", 3, (110, 1000))).await.unwrap();
    assert_eq!(holding(&store, "maps", secs(START + 160)).await, [3, 2]);
    assert_eq!(holding(&store, "maps", secs(START + 1000)).await, [3]);
    secrets.put(seal(&vault, "another", 1, (0, 0))).await.unwrap();
    let names = secrets.names(&all()).await.unwrap().items;
    assert_eq!(names, [name("another"), name("maps")]);
    let kept = secrets.kept().await.unwrap();
    let kept: Vec<_> = kept.iter().map(|v| (v.name.as_str(), v.version, v.delivered)).collect();
    assert_eq!(kept, [("another", 1, false), ("maps", 3, false), ("maps", 2, true), ("maps", 1, false)]);
}

pub(crate) async fn the_oldest_versions_are_forgotten<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let secrets = store.runtime_secrets();
    for version in 1..=10 {
        secrets.put(seal(&vault, "maps", version, (0, 100))).await.unwrap();
    }
    let kept: Vec<u64> = secrets.versions(&name("maps")).await.unwrap().iter().map(|v| v.version).collect();
    assert_eq!(kept, [10, 9, 8, 7, 6, 5, 4, 3]);
    assert_eq!(secrets.last_version(&name("maps")).await.unwrap(), 10);
}

pub(crate) async fn an_ended_version_has_no_value<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let secrets = store.runtime_secrets();
    secrets.put(seal(&vault, "maps", 1, (0, 0))).await.unwrap();
    secrets.put(seal(&vault, "maps", 2, (0, 3600))).await.unwrap();
    secrets.end(&name("maps"), 1).await.unwrap();
    assert_eq!(holding(&store, "maps", secs(START)).await, [2]);
    let versions = secrets.versions(&name("maps")).await.unwrap();
    assert!(versions.iter().all(|version| version.sealed.is_some() == (version.version == 2)));
    assert!(versions[1].not_after.is_some_and(|end| end < secs(START + 3600)), "it ended now");
    assert_eq!(secrets.end(&name("maps"), 1).await.unwrap_err().reason(), "not_found");
    assert_eq!(secrets.end(&name("maps"), 3).await.unwrap_err().reason(), "not_found");

    secrets.put(seal(&vault, "maps", 3, (0, 60))).await.unwrap();
    assert_eq!(secrets.forget_ended(secs(START + 60)).await.unwrap(), 0);
    assert_eq!(secrets.forget_ended(secs(START + 61)).await.unwrap(), 1);
    assert_eq!(secrets.kept().await.unwrap().len(), 1);

    secrets.delete(&name("maps")).await.unwrap();
    assert!(secrets.versions(&name("maps")).await.unwrap().is_empty());
    assert_eq!(secrets.delete(&name("maps")).await.unwrap_err().reason(), "not_found");
    assert_eq!(secrets.put(seal(&vault, "maps", 1, (0, 0))).await.unwrap_err().reason(), "conflict");
    secrets.put(seal(&vault, "maps", 4, (0, 0))).await.unwrap();
}

pub(crate) async fn uses_add_up_and_go_with_their_version<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let secrets = store.runtime_secrets();
    secrets.put(seal(&vault, "maps", 1, (0, 0))).await.unwrap();
    let count = |version, app: &str, how: SecretUse, uses, at| SecretUses {
        name: name("maps"),
        version,
        app: app.to_owned(),
        how: how.as_str().to_owned(),
        uses,
        last_used_at: secs(START + at),
    };
    let counts = [
        count(1, "ios", SecretUse::Substituted, 3, 10),
        count(1, "ios", SecretUse::Delivered, 1, 5),
        count(2, "ios", SecretUse::Held, 1, 5),
    ];
    secrets.used(&counts).await.unwrap();
    secrets.used(&[count(1, "ios", SecretUse::Substituted, 4, 7)]).await.unwrap();
    assert_eq!(
        secrets.uses(&name("maps")).await.unwrap(),
        [count(1, "ios", SecretUse::Delivered, 1, 5), count(1, "ios", SecretUse::Substituted, 7, 10)],
        "of a version that is not there nothing is counted"
    );
    secrets.delete(&name("maps")).await.unwrap();
    assert!(secrets.uses(&name("maps")).await.unwrap().is_empty());
}

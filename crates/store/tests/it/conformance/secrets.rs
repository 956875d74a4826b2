use std::time::Duration;

use base::Tenant;
use store::{KeyState, NewSecret, NewSigningKey, SecretVersion, Store};
use vault::{Label, Purpose, Sealed, Vault, VaultError};

use super::{Backend, START, all, name, secs, test_vault};

const ORIGIN: &str = "https://api.example.com";

pub(crate) fn seal(vault: &Vault, secret: &str, version: u64, value: &str) -> NewSecret {
    let tenant = Tenant::default();
    let label = Label::new(&tenant, Purpose::Secret, secret, version).origin(Some(ORIGIN));
    NewSecret {
        name: name(secret),
        version,
        sealed: vault.seal(&label, value.as_bytes()).unwrap(),
        origin: Some(ORIGIN.into()),
        fingerprint: vault.fingerprint(value.as_bytes()),
        hint: None,
        created_by: "test".into(),
    }
}

fn label<'a>(tenant: &'a Tenant, row: &'a SecretVersion) -> Label<'a> {
    Label::new(tenant, Purpose::Secret, row.name.as_str(), row.version).origin(row.origin.as_deref())
}

async fn kept(store: &Store, secret: &str) -> Vec<u64> {
    store.secrets().versions(&name(secret)).await.unwrap().iter().map(|version| version.version).collect()
}

pub(crate) async fn two_versions_of_a_secret_are_kept<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let secrets = store.secrets();
    assert_eq!(secrets.last_version(&name("openai")).await.unwrap(), 0);
    assert_eq!(secrets.current(&name("openai")).await.unwrap(), None);
    for version in 1..=3 {
        let put = secrets.put(seal(&vault, "openai", version, &format!("value {version}"))).await.unwrap();
        assert_eq!(secrets.current(&name("openai")).await.unwrap(), Some(put));
        assert_eq!(secrets.last_version(&name("openai")).await.unwrap(), version);
    }
    assert_eq!(kept(&store, "openai").await, [3, 2]);
    secrets.put(seal(&vault, "another", 1, "x")).await.unwrap();
    let list = secrets.list(&all()).await.unwrap().items;
    assert_eq!(list.iter().map(|s| (s.name.as_str(), s.version)).collect::<Vec<_>>(), [("another", 1), ("openai", 3)]);
}

pub(crate) async fn a_stale_version_is_refused<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    for wrong in [0, 2] {
        assert_eq!(store.secrets().put(seal(&vault, "a", wrong, "x")).await.unwrap_err().reason(), "conflict");
    }
    store.secrets().put(seal(&vault, "a", 1, "x")).await.unwrap();
    let version = store.version();
    for wrong in [0, 1, 3] {
        assert_eq!(store.secrets().put(seal(&vault, "a", wrong, "x")).await.unwrap_err().reason(), "conflict");
    }
    assert_eq!((kept(&store, "a").await, store.version()), (vec![1], version));
}

pub(crate) async fn a_deleted_secret_never_repeats_a_version<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let secrets = store.secrets();
    secrets.put(seal(&vault, "a", 1, "x")).await.unwrap();
    secrets.delete(&name("a")).await.unwrap();
    assert_eq!(secrets.current(&name("a")).await.unwrap(), None);
    assert!(secrets.list(&all()).await.unwrap().items.is_empty());
    assert_eq!(secrets.delete(&name("a")).await.unwrap_err().reason(), "not_found");
    assert_eq!(secrets.last_version(&name("a")).await.unwrap(), 1);
    assert_eq!(secrets.put(seal(&vault, "a", 1, "x")).await.unwrap_err().reason(), "conflict");
    secrets.put(seal(&vault, "a", 2, "x")).await.unwrap();
    assert_eq!(kept(&store, "a").await, [2]);
}

pub(crate) async fn a_stored_secret_opens_only_as_itself<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault, tenant) = (backend.open().await, test_vault(), Tenant::default());
    for (secret, version, value) in [("a", 1, "old a"), ("a", 2, "new a"), ("b", 1, "the b")] {
        store.secrets().put(seal(&vault, secret, version, value)).await.unwrap();
    }
    let mut rows = store.secrets().versions(&name("a")).await.unwrap();
    rows.extend(store.secrets().versions(&name("b")).await.unwrap());
    let values = ["new a", "old a", "the b"];
    for (i, row) in rows.iter().enumerate() {
        for (j, other) in rows.iter().enumerate() {
            let opened = vault.open(&label(&tenant, row), &other.sealed);
            if i == j {
                assert!(opened.unwrap().matches(values[i].as_bytes()));
            } else {
                assert_eq!(opened.err(), Some(VaultError::Altered), "{i} {j}");
            }
        }
        let moved = SecretVersion { origin: Some("https://evil.example.com".into()), ..row.clone() };
        assert_eq!(vault.open(&label(&tenant, &moved), &row.sealed).err(), Some(VaultError::Altered));
    }
}

fn signing_key(kid: &str, alg: &str, sealed: Sealed) -> NewSigningKey {
    NewSigningKey {
        kid: kid.into(),
        alg: alg.into(),
        public_jwk: r#"{"kty":"EC"}"#.into(),
        sealed,
        not_before: secs(START),
    }
}

pub(crate) fn new_signing_key(kid: &str) -> NewSigningKey {
    signing_key(kid, "ES256", sealed())
}

fn sealed() -> Sealed {
    seal(&test_vault(), "k", 1, "private").sealed
}

async fn states(store: &Store) -> Vec<(String, KeyState)> {
    let keys = store.signing_keys().list().await.unwrap();
    assert!(keys.iter().all(|key| (key.state == KeyState::Gone) == key.sealed.is_none()));
    keys.into_iter().map(|key| (key.kid, key.state)).collect()
}

pub(crate) async fn signing_keys_go_from_next_to_gone<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let keys = store.signing_keys();
    keys.insert(signing_key("k1", "ES256", sealed())).await.unwrap();
    let again = keys.insert(signing_key("k1", "ES256", sealed())).await.unwrap_err();
    assert_eq!(again.reason(), "already_exists");
    let active = keys.activate("k1", secs(START)).await.unwrap();
    assert_eq!((active.state, active.activated_at), (KeyState::Active, Some(secs(START))));
    keys.insert(signing_key("k2", "ES256", sealed())).await.unwrap();
    keys.activate("k2", secs(START + 60)).await.unwrap();
    let of = |kid: &str, state| (kid.to_owned(), state);
    assert_eq!(states(&store).await, [of("k1", KeyState::Retiring), of("k2", KeyState::Active)]);

    assert_eq!(keys.erase_expired().await.unwrap(), 0);
    backend.clock().advance(Duration::from_mins(1));
    assert_eq!(keys.erase_expired().await.unwrap(), 1);
    assert_eq!(states(&store).await, [of("k1", KeyState::Gone), of("k2", KeyState::Active)]);
    keys.erase("k2").await.unwrap();
    assert_eq!(states(&store).await, [of("k1", KeyState::Gone), of("k2", KeyState::Gone)]);
    assert_eq!(keys.erase("k2").await.unwrap_err().reason(), "not_found");
}

pub(crate) async fn one_key_per_algorithm_signs<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let keys = store.signing_keys();
    for (kid, alg) in [("e1", "ES256"), ("e2", "ES256"), ("d1", "EdDSA")] {
        keys.insert(signing_key(kid, alg, sealed())).await.unwrap();
        keys.activate(kid, secs(START + 60)).await.unwrap();
    }
    let active = |list: Vec<(String, KeyState)>| {
        list.into_iter().filter(|(_, state)| *state == KeyState::Active).map(|(kid, _)| kid).collect::<Vec<_>>()
    };
    assert_eq!(active(states(&store).await), ["d1", "e2"]);
    // Neither an unknown key nor one that has had its time is activated, and the one that signs goes on.
    for kid in ["nobody", "e1", "e2"] {
        assert_eq!(keys.activate(kid, secs(START)).await.unwrap_err().reason(), "conflict");
    }
    assert_eq!(active(states(&store).await), ["d1", "e2"]);
}

use std::time::Duration;

use base::{SeededRng, Tenant};
use store::{KeyState, NewSecret, NewSigningKey, SealedKind, SealedRow, SecretVersion, Slot, Store};
use vault::{Label, MasterKey, Purpose, Sealed, Vault, VaultError};

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

pub(crate) async fn a_secret_that_is_set_has_one_version<B: Backend>() {
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
    assert_eq!(kept(&store, "openai").await, [3]);
    secrets.put(seal(&vault, "another", 1, "x")).await.unwrap();
    let list = secrets.list(&all()).await.unwrap().items;
    assert_eq!(list.iter().map(|s| (s.name.as_str(), s.version)).collect::<Vec<_>>(), [("another", 1), ("openai", 3)]);
}

async fn slots(store: &Store, secret: &str) -> Vec<(u64, Slot)> {
    store.secrets().versions(&name(secret)).await.unwrap().iter().map(|v| (v.version, v.slot)).collect()
}

pub(crate) async fn a_rotated_secret_keeps_the_old_version_for_a_while<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let secrets = store.secrets();
    secrets.put(seal(&vault, "a", 1, "one")).await.unwrap();
    let (end, later) = (secs(START + 60), secs(START + 120));
    assert_eq!(secrets.replace(seal(&vault, "a", 2, "two"), end).await.unwrap().slot, Slot::Current);
    assert_eq!(slots(&store, "a").await, [(2, Slot::Current), (1, Slot::Old)]);
    assert_eq!(secrets.versions(&name("a")).await.unwrap()[1].retire_at, Some(end));
    // A second rotation pushes the first old one out.
    secrets.replace(seal(&vault, "a", 3, "three"), later).await.unwrap();
    assert_eq!(slots(&store, "a").await, [(3, Slot::Current), (2, Slot::Old)]);
    let version = store.version();
    assert_eq!(secrets.retire_due().await.unwrap(), 0);
    assert_eq!(store.version(), version, "nothing was due, so nothing is new");
    backend.clock().advance(Duration::from_mins(2));
    assert_eq!(slots(&store, "a").await, [(3, Slot::Current)], "not used any more, also before it is deleted");
    assert_eq!(secrets.retire_due().await.unwrap(), 1);
    assert!(store.version() > version);
    assert_eq!(secrets.retire(&name("a"), Slot::Old).await.unwrap_err().reason(), "not_found");
    assert_eq!(secrets.retire(&name("a"), Slot::Current).await.unwrap_err().reason(), "not_found");
    secrets.replace(seal(&vault, "a", 4, "four"), secs(START + 600)).await.unwrap();
    secrets.retire(&name("a"), Slot::Old).await.unwrap();
    assert_eq!(slots(&store, "a").await, [(4, Slot::Current)]);
}

pub(crate) async fn a_next_version_waits_until_it_is_activated<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    let (secrets, a) = (store.secrets(), name("a"));
    secrets.put(seal(&vault, "a", 1, "one")).await.unwrap();
    assert_eq!(secrets.stage(seal(&vault, "a", 2, "two")).await.unwrap().activated_at, None);
    assert_eq!(secrets.current(&a).await.unwrap().unwrap().version, 1);
    secrets.stage(seal(&vault, "a", 3, "three")).await.unwrap();
    assert_eq!(slots(&store, "a").await, [(1, Slot::Current), (3, Slot::Next)]);
    let list = secrets.list(&all()).await.unwrap().items;
    assert_eq!(list.iter().map(|s| s.version).collect::<Vec<_>>(), [1]);
    for not_next in [1, 2, 4] {
        assert_eq!(secrets.activate(&a, not_next, None).await.unwrap_err().reason(), "conflict");
    }
    let active = secrets.activate(&a, 3, Some(secs(START + 60))).await.unwrap();
    assert_eq!((active.version, active.slot, active.activated_at), (3, Slot::Current, Some(secs(START))));
    assert_eq!(slots(&store, "a").await, [(3, Slot::Current), (1, Slot::Old)]);
    secrets.stage(seal(&vault, "a", 4, "four")).await.unwrap();
    assert_eq!(slots(&store, "a").await, [(3, Slot::Current), (4, Slot::Next), (1, Slot::Old)]);
    secrets.retire(&a, Slot::Next).await.unwrap();
    assert_eq!(slots(&store, "a").await, [(3, Slot::Current), (1, Slot::Old)]);
    secrets.stage(seal(&vault, "a", 5, "five")).await.unwrap();
    secrets.activate(&a, 5, None).await.unwrap();
    assert_eq!(slots(&store, "a").await, [(5, Slot::Current)], "nothing is kept where nothing is asked for");
    // Setting the secret ends all that.
    secrets.stage(seal(&vault, "a", 6, "six")).await.unwrap();
    secrets.put(seal(&vault, "a", 7, "seven")).await.unwrap();
    assert_eq!(slots(&store, "a").await, [(7, Slot::Current)]);
}

pub(crate) async fn it_is_known_since_when_a_key_is_there<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let known = store.known_keys();
    assert_eq!(known.seen("provider", "openai/default", &[[1; 32]]).await.unwrap(), secs(START));
    backend.clock().advance(Duration::from_mins(1));
    assert_eq!(known.seen("provider", "openai/default", &[[1; 32]]).await.unwrap(), secs(START));
    assert_eq!(known.seen("provider", "openai/default", &[[2; 32], [3; 32]]).await.unwrap(), secs(START + 60));
    backend.clock().advance(Duration::from_mins(1));
    let hashed_anew = known.seen("provider", "openai/default", &[[4; 32], [2; 32]]).await.unwrap();
    assert_eq!(hashed_anew, secs(START + 60), "the same key under another hash");
    assert_eq!(known.seen("provider", "openai/default", &[[4; 32]]).await.unwrap(), secs(START + 60));
    let all = known.of_kind("provider").await.unwrap();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [("openai/default".to_owned(), secs(START + 60))]);
    assert!(known.of_kind("vault").await.unwrap().is_empty());
}

pub(crate) async fn what_is_sealed_is_found_by_its_master_key_and_replaced_unless_it_changed<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let (store, vault) = (backend.open().await, test_vault());
    store.secrets().put(seal(&vault, "a", 1, "one")).await.unwrap();
    store.secrets().put(seal(&vault, "b", 1, "two")).await.unwrap();
    store.signing_keys().insert(new_signing_key("k1")).await.unwrap();
    let old = vault.key_id();
    assert_eq!(store.sealed().counts(&SealedKind::LASTING).await.unwrap(), [(old, 3)]);
    assert!(store.sealed().counts(&SealedKind::PASSING).await.unwrap().is_empty());
    assert!(store.sealed().other_than(SealedKind::Secret, old, 10).await.unwrap().is_empty());
    vault.adopt(MasterKey::generate(&SeededRng::new(77)).unwrap(), Vec::new()).unwrap();
    let new = vault.key_id();
    let found = store.sealed().other_than(SealedKind::Secret, new, 10).await.unwrap();
    assert_eq!(found.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(store.sealed().other_than(SealedKind::Secret, new, 1).await.unwrap().len(), 1);
    let anew = |row: &SealedRow| {
        let tenant = Tenant::default();
        let label = Label::new(&tenant, SealedKind::Secret.purpose(), &row.name, row.version);
        let label = label.origin(row.origin.as_deref());
        let opened = vault.open(&label, &row.sealed).unwrap();
        vault.seal(&label, opened.expose()).unwrap()
    };
    // One is set again meanwhile: what was read before does not overwrite it.
    store.secrets().put(seal(&vault, "b", 2, "three")).await.unwrap();
    let rows = found.iter().map(|row| (row.clone(), anew(row))).collect::<Vec<_>>();
    let version = store.version();
    assert_eq!(store.sealed().replace(SealedKind::Secret, rows).await.unwrap(), 1);
    assert!(store.version() > version);
    let (tenant, current) = (Tenant::default(), store.secrets().current(&name("a")).await.unwrap().unwrap());
    assert!(vault.open(&label(&tenant, &current), &current.sealed).unwrap().matches(b"one"));
    assert_eq!(current.sealed.key_id(), Ok(new));
    let mut counts = store.sealed().counts(&SealedKind::LASTING).await.unwrap();
    counts.sort_by_key(|(_, values)| *values);
    assert_eq!(counts, [(old, 1), (new, 2)]);
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
    store.secrets().put(seal(&vault, "a", 1, "old a")).await.unwrap();
    store.secrets().replace(seal(&vault, "a", 2, "new a"), secs(START + 60)).await.unwrap();
    store.secrets().put(seal(&vault, "b", 1, "the b")).await.unwrap();
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

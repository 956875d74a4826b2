use std::time::Duration;

use base::{RequestId, SeededRng};
use store::{Client, NewAdminToken, NewApiKey, NewClient, Role, StoreError};

use super::records::record;
use super::{Backend, START, all, name, secs};

pub(crate) fn new_client(text: &str) -> NewClient {
    NewClient {
        name: name(text),
        scopes: vec!["chat".into(), "models:read".into()],
        token_ttl: Some(Duration::from_mins(5)),
        settings: "{}".into(),
        disabled: false,
        secret: Some([1; 32]),
        created_by: "test".into(),
    }
}

pub(crate) fn new_key(text: &str, hash: u8) -> NewApiKey {
    NewApiKey {
        name: name(text),
        hash: [hash; 32],
        hint: "vg_AbCd...wxyz".into(),
        client: Some(name("batch")),
        subject: "user-1".into(),
        scopes: vec!["chat".into()],
        expires_at: None,
        created_by: "test".into(),
    }
}

pub(crate) fn new_admin_token(text: &str, hash: u8) -> NewAdminToken {
    NewAdminToken {
        name: name(text),
        role: Role::Auditor,
        hash: [hash; 32],
        expires_at: None,
        created_by: "test".into(),
    }
}

fn live(client: &Client, at: i64) -> Vec<u8> {
    client.live_secrets(secs(at)).map(|hash| hash[0]).collect()
}

pub(crate) async fn a_client_is_made_found_changed_and_deleted<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let clients = store.clients();
    let made = clients.create(new_client("batch")).await.unwrap();
    assert!(made.id.starts_with("cl_") && made.id.len() == 29);
    assert_eq!((made.created_at, made.disabled, made.secrets.len()), (secs(START), false, 1));
    assert_eq!(clients.get(&name("batch")).await.unwrap(), Some(made.clone()));
    assert_eq!(clients.get(&name("other")).await.unwrap(), None);

    backend.clock().advance(Duration::from_secs(1));
    let off = clients.set_disabled(&name("batch"), true).await.unwrap();
    assert_eq!(off, Client { disabled: true, updated_at: secs(START + 1), ..made.clone() });
    let changed = clients.update(&name("batch"), vec![], None, "{}".into()).await.unwrap();
    assert_eq!((changed.scopes.len(), changed.token_ttl, changed.secrets), (0, None, made.secrets));
    clients.create(new_client("another")).await.unwrap();
    let names: Vec<_> = clients.list(&all()).await.unwrap().items.into_iter().map(|c| c.name.to_string()).collect();
    assert_eq!(names, ["another", "batch"]);

    clients.delete(&name("batch")).await.unwrap();
    assert_eq!(clients.get(&name("batch")).await.unwrap(), None);
    for missing in [
        clients.delete(&name("batch")).await.err(),
        clients.set_disabled(&name("batch"), true).await.err(),
        clients.update(&name("batch"), vec![], None, "{}".into()).await.err(),
        clients.rotate(&name("batch"), [2; 32], Duration::ZERO).await.err(),
    ] {
        assert!(matches!(missing, Some(StoreError::Missing("client"))), "{missing:?}");
    }
}

pub(crate) async fn a_second_client_of_a_name_is_refused<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let first = store.clients().create(new_client("batch")).await.unwrap();
    let version = store.version();
    let error = store.clients().create(NewClient { secret: Some([9; 32]), ..new_client("batch") }).await.unwrap_err();
    assert_eq!(error.reason(), "already_exists");
    assert_eq!(store.clients().get(&name("batch")).await.unwrap(), Some(first));
    assert_eq!(store.version(), version, "a refused change makes no version");
}

pub(crate) async fn a_rotated_secret_overlaps_and_then_expires<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let clients = store.clients();
    clients.create(new_client("batch")).await.unwrap();
    backend.clock().advance(Duration::from_secs(10));
    let rotated = clients.rotate(&name("batch"), [2; 32], Duration::from_mins(1)).await.unwrap();
    assert_eq!(live(&rotated, START + 69), [1, 2]);
    assert_eq!(live(&rotated, START + 70), [2], "at its end a secret is over");

    // A second rotation shortens what is left of the first overlap, and never lengthens it.
    backend.clock().advance(Duration::from_secs(10));
    let again = clients.rotate(&name("batch"), [3; 32], Duration::from_secs(30)).await.unwrap();
    assert_eq!(live(&again, START + 49), [1, 2, 3]);
    assert_eq!(live(&again, START + 50), [3]);
    backend.clock().advance(Duration::from_secs(100));
    let last = clients.rotate(&name("batch"), [4; 32], Duration::ZERO).await.unwrap();
    assert_eq!(last.secrets.len(), 2, "expired secrets are forgotten");
    assert_eq!(live(&last, START + 120), [4]);
    assert_eq!(clients.get(&name("batch")).await.unwrap(), Some(last));
}

pub(crate) async fn a_key_is_live_until_it_expires_or_is_revoked<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let keys = store.api_keys();
    let forever = keys.create(new_key("forever", 1)).await.unwrap();
    let expires_at = Some(secs(START + 60));
    let short = keys.create(NewApiKey { expires_at, client: None, ..new_key("short", 2) }).await.unwrap();
    assert_eq!(keys.live().await.unwrap(), [forever.clone(), short.clone()]);
    assert_eq!(keys.get(&short.id).await.unwrap(), Some(short.clone()));
    assert_eq!(keys.by_hash([2; 32]).await.unwrap(), Some(short.clone()));
    assert_eq!(keys.by_hash([3; 32]).await.unwrap(), None);

    backend.clock().advance(Duration::from_mins(1));
    assert_eq!(keys.live().await.unwrap(), std::slice::from_ref(&forever));
    let revoked = keys.revoke(&forever.id).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(secs(START + 60)));
    assert!(keys.live().await.unwrap().is_empty());
    assert_eq!(keys.revoke(&forever.id).await.unwrap_err().reason(), "not_found");
    assert_eq!(keys.revoke("short").await.unwrap().id, short.id, "also an expired key, by its name");
    assert_eq!(keys.list(&all()).await.unwrap().items.len(), 2, "revoked keys stay on record");
}

pub(crate) async fn a_revoked_key_leaves_its_name<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let keys = store.api_keys();
    let old = keys.create(new_key("ci", 1)).await.unwrap();
    assert_eq!(keys.create(new_key("ci", 2)).await.unwrap_err().reason(), "already_exists");
    keys.revoke("ci").await.unwrap();
    let new = keys.create(new_key("ci", 2)).await.unwrap();
    assert_ne!(old.id, new.id);
    keys.revoke("ci").await.unwrap();
    let reused = keys.create(new_key("ci", 1)).await.unwrap_err();
    assert_eq!(reused.reason(), "already_exists", "a revoked key never comes back");
}

pub(crate) async fn an_admin_token_is_live_until_it_expires_or_is_revoked<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let tokens = store.admin_tokens();
    let expires_at = Some(secs(START + 60));
    let made = tokens.create(NewAdminToken { expires_at, ..new_admin_token("alice", 1) }).await.unwrap();
    assert_eq!(tokens.live([1; 32]).await.unwrap(), Some(made.clone()));
    assert_eq!(tokens.live([2; 32]).await.unwrap(), None);
    assert_eq!(tokens.create(new_admin_token("alice", 2)).await.unwrap_err().reason(), "already_exists");
    backend.clock().advance(Duration::from_mins(1));
    assert_eq!(tokens.live([1; 32]).await.unwrap(), None);

    for (index, role) in Role::ALL.into_iter().enumerate() {
        let hash = 10 + u8::try_from(index).unwrap();
        let token = NewAdminToken { role, ..new_admin_token(role.as_str(), hash) };
        assert_eq!(tokens.create(token).await.unwrap().role, role);
        assert_eq!(tokens.live([hash; 32]).await.unwrap().unwrap().role, role);
    }
    let revoked = tokens.revoke("owner").await.unwrap();
    assert_eq!((revoked.revoked_at, tokens.live([10; 32]).await.unwrap()), (Some(secs(START + 60)), None));
    assert_eq!(tokens.revoke("owner").await.unwrap_err().reason(), "not_found");
    assert_eq!(tokens.list(&all()).await.unwrap().items.len(), 5);
}

pub(crate) async fn use_of_a_key_is_noted_to_the_minute<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let key = store.api_keys().create(new_key("ci", 1)).await.unwrap();
    let rng = SeededRng::new(5);
    let mut seen = Vec::new();
    for at in [START, START + 30, START + 59, START + 60, START + 61] {
        let mut used = record(RequestId::new(&rng), at);
        used.api_key = Some(key.id.as_str().into());
        store.sink().push(used);
        store.flush().await.unwrap();
        seen.push(store.api_keys().get(&key.id).await.unwrap().unwrap().last_used_at);
    }
    let (start, minute) = (Some(secs(START)), Some(secs(START + 60)));
    assert_eq!(seen, [start, start, start, minute, minute]);
}

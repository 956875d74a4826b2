//! What apps are told: numbered without gaps, and signed by one key at a time.

use store::{AppConfig, ConfigKeyState, Delegated, NewConfigKey};
use tokio::task::JoinSet;
use vault::{Label, Purpose};

use super::{Backend, START, name, secs, test_vault};

fn config(app: &str, seq: u64, expires: i64) -> AppConfig {
    AppConfig {
        app: name(app),
        seq,
        payload: format!("{{\"seq\":{seq}}}"),
        jws: "a.b.c".to_owned(),
        issued_at: secs(START),
        expires_at: secs(START + expires),
        made_by: "test".to_owned(),
    }
}

pub(crate) async fn of_an_apps_configurations_each_follows_the_last<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let configs = store.app_configs();
    assert_eq!(configs.publish(config("a", 2, 10)).await.unwrap_err().reason(), "conflict");
    let before = store.version();
    configs.publish(config("a", 1, 10)).await.unwrap();
    assert!(store.version() > before, "other nodes hear of it");
    for seq in [0, 1, 3] {
        assert_eq!(configs.publish(config("a", seq, 10)).await.unwrap_err().reason(), "conflict", "{seq}");
    }
    // Of many at once one is the next.
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move { store.app_configs().publish(config("a", 2, 20)).await.is_ok() });
    }
    let published = tasks.join_all().await.into_iter().filter(|done| *done).count();
    assert_eq!(published, 1);
    configs.publish(config("b", 1, 5)).await.unwrap();
    store.close().await;

    let store = backend.open().await;
    let configs = store.app_configs();
    assert_eq!(configs.latest().await.unwrap(), [config("a", 2, 20), config("b", 1, 5)]);
    let since = configs.since(secs(START + 5)).await.unwrap();
    assert_eq!(since, [config("a", 1, 10), config("a", 2, 20)]);
    assert_eq!(configs.delete_before(secs(START + 100), 10).await.unwrap(), 1, "the last of an app is kept");
    assert_eq!(configs.latest().await.unwrap().len(), 2);
    assert_eq!(configs.publish(config("a", 2, 20)).await.unwrap_err().reason(), "conflict");
    store.close().await;
}

pub(crate) async fn a_configuration_key_signs_once_it_is_vouched_for<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (keys, vault) = (store.app_configs(), test_vault());
    let new = |kid: &str| {
        let label = Label::new(store.tenant(), Purpose::ConfigKey, kid, 1);
        let sealed = vault.seal(&label, b"private").unwrap();
        NewConfigKey { kid: kid.to_owned(), public_jwk: "{}".to_owned(), sealed }
    };
    let said = |until: i64| Delegated { jws: "d.e.f".to_owned(), at: secs(START), until: secs(START + until) };
    keys.insert_key(new("one")).await.unwrap();
    assert_eq!(keys.insert_key(new("two")).await.unwrap_err().reason(), "already_exists");
    assert_eq!(keys.delegate("two", &said(10)).await.unwrap_err().reason(), "conflict");
    keys.delegate("one", &said(10)).await.unwrap();
    keys.delegate("one", &said(20)).await.unwrap();
    keys.insert_key(new("two")).await.unwrap();
    let states = |keys: &[store::ConfigKey]| keys.iter().map(|key| (key.kid.clone(), key.state)).collect::<Vec<_>>();
    let found = keys.keys().await.unwrap();
    let expected = [("one".to_owned(), ConfigKeyState::Active), ("two".to_owned(), ConfigKeyState::Next)];
    assert_eq!(states(&found), expected);
    assert_eq!(found[0].delegation, Some(said(20)));
    keys.delegate("two", &said(30)).await.unwrap();
    let found = keys.keys().await.unwrap();
    let expected = [("one".to_owned(), ConfigKeyState::Gone), ("two".to_owned(), ConfigKeyState::Active)];
    assert_eq!(states(&found), expected);
    assert!(found[0].sealed.is_none() && found[1].sealed.is_some(), "a key that is gone is erased");
    assert_eq!(keys.delegate("one", &said(40)).await.unwrap_err().reason(), "conflict", "it is never used again");
    store.close().await;
}

use std::time::Duration;

use base::Tenant;
use futures_util::future::join_all;
use store::{Claim, GrantKind, OneTime, Store, Taken};
use vault::{Label, Purpose, Sealed};

use super::{Backend, START, name, secs, test_vault};

pub(crate) fn body(text: &str) -> Sealed {
    let tenant = Tenant::default();
    test_vault().seal(&Label::new(&tenant, Purpose::Grant, "code", 1), text.as_bytes()).unwrap()
}

async fn claim(store: &Store, key: &[&str]) -> Claim {
    store.used_once().claim(OneTime::ClientAssertion, key, secs(START + 60)).await.unwrap()
}

pub(crate) async fn what_is_used_once_stays_used_after_a_restart<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let seen = async |key: &[&str]| store.used_once().seen(OneTime::ClientAssertion, key).await.unwrap();
    assert!(!seen(&["batch", "jti-1"]).await);
    assert_eq!(claim(&store, &["batch", "jti-1"]).await, Claim::First);
    assert!(seen(&["batch", "jti-1"]).await && !seen(&["batch", "jti-2"]).await);
    assert_eq!(claim(&store, &["batch", "jti-1"]).await, Claim::Seen);
    assert_eq!(claim(&store, &["batchj", "ti-1"]).await, Claim::First, "parts keep their bounds");
    assert_eq!(claim(&store, &["batch", "jti-1", ""]).await, Claim::First);
    let others = store.used_once();
    for kind in [OneTime::AccessToken, OneTime::SecurityEvent] {
        assert_eq!(others.claim(kind, &["batch", "jti-1"], secs(START + 60)).await.unwrap(), Claim::First);
    }
    store.close().await;

    let store = backend.open().await;
    assert_eq!(claim(&store, &["batch", "jti-1"]).await, Claim::Seen);
    assert_eq!(store.used_once().delete_expired(10).await.unwrap(), 0);
    backend.clock().advance(Duration::from_mins(1));
    assert_eq!(store.used_once().delete_expired(3).await.unwrap(), 3);
    assert_eq!(store.used_once().delete_expired(10).await.unwrap(), 2);
}

pub(crate) async fn of_many_who_use_one_thing_one_is_first<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    for round in 0..5 {
        let jti = format!("jti-{round}");
        let key = ["c", jti.as_str()];
        let claims = join_all((0..100).map(|_| claim(&store, &key))).await;
        assert_eq!(claims.iter().filter(|claim| **claim == Claim::First).count(), 1);
    }
}

pub(crate) async fn a_code_is_taken_once_and_its_second_use_noticed<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (codes, hash, text) = (store.codes(), [1; 32], body("alice"));
    assert_eq!(codes.take(hash).await.unwrap(), Taken::Unknown);
    codes.put(hash, &text, secs(START + 60)).await.unwrap();
    assert_eq!(codes.put(hash, &text, secs(START + 90)).await.unwrap_err().reason(), "already_exists");
    assert_eq!(store.devices().get(hash).await.unwrap(), None, "a code is no device code");

    let takes = join_all((0..50).map(|_| codes.take(hash))).await;
    let firsts = takes.iter().filter(|taken| matches!(taken, Ok(Taken::First(grant)) if grant.body == text)).count();
    let again = takes.iter().filter(|taken| matches!(taken, Ok(Taken::AlreadyUsed(grant)) if grant.body == text));
    assert_eq!((firsts, again.count()), (1, 49));
    store.close().await;

    let store = backend.open().await;
    assert!(matches!(store.codes().take(hash).await.unwrap(), Taken::AlreadyUsed(_)), "also after a restart");
    backend.clock().advance(Duration::from_mins(2));
    assert!(matches!(store.codes().take(hash).await.unwrap(), Taken::AlreadyUsed(_)), "and after its time");
    store.codes().put([2; 32], &text, secs(START + 121)).await.unwrap();
    backend.clock().advance(Duration::from_secs(1));
    assert_eq!(store.codes().take([2; 32]).await.unwrap(), Taken::Expired);
    assert_eq!(store.codes().get([2; 32]).await.unwrap(), None);
    backend.clock().advance(Duration::from_mins(10));
    assert_eq!(store.codes().delete_expired(10).await.unwrap(), 2);
    assert_eq!(store.codes().take(hash).await.unwrap(), Taken::Unknown);
}

pub(crate) async fn what_a_code_stands_for_changes_only_from_what_was_read<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (devices, hash) = (store.devices(), [3; 32]);
    devices.put(hash, &body("pending"), secs(START + 600)).await.unwrap();
    let decisions = join_all((0..20).map(|_| async { devices.replace(hash, 1, &body("decided")).await })).await;
    assert_eq!(decisions.iter().filter(|decision| decision.is_ok()).count(), 1, "one decision counts");
    assert_eq!(devices.get(hash).await.unwrap().unwrap().revision, 2);
    let Taken::First(grant) = devices.take(hash).await.unwrap() else { panic!("it is new") };
    assert_eq!(grant.revision, 2);
    assert_eq!(devices.replace(hash, 2, &body("late")).await.unwrap_err().reason(), "conflict");
    for kind in [GrantKind::Pushed, GrantKind::Signin, GrantKind::UserCode, GrantKind::Code] {
        assert_eq!(store.grants(kind).replace(hash, 1, &body("x")).await.unwrap_err().reason(), "conflict");
    }
    devices.delete(hash).await.unwrap();
    assert_eq!(devices.take(hash).await.unwrap(), Taken::Unknown);
}

pub(crate) async fn tenants_do_not_share_what_is_used<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let other = store.for_tenant(Tenant::new(name("other")));
    assert_eq!(claim(&store, &["c", "j"]).await, Claim::First);
    assert_eq!(claim(&other, &["c", "j"]).await, Claim::First);
    store.codes().put([1; 32], &body("x"), secs(START + 60)).await.unwrap();
    assert_eq!(other.codes().take([1; 32]).await.unwrap(), Taken::Unknown);
    assert_eq!(other.codes().get([1; 32]).await.unwrap(), None);
}

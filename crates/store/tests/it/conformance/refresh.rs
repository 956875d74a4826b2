use std::time::Duration;

use base::{Clock, Tenant, Timestamp};
use futures_util::future::join_all;
use store::{
    Cause, Family, Holder, NewFamily, OWN_ISSUER, RefreshState, Revoke, Rotate, Rotation, Store, StoreError, TokenFacts,
};
use vault::{Label, Purpose, Sealed};

use super::revocations::{revocation, subject};
use super::{Backend, START, name, secs, test_vault};

const IDLE: Duration = Duration::from_hours(24);
const GRACE: Duration = Duration::from_secs(10);
const KEY: [u8; 32] = [0xaa; 32];

pub(crate) fn family(client: &str) -> NewFamily {
    NewFamily {
        client: name(client),
        subject: "corp|alice".into(),
        scopes: vec!["chat".into(), "models:read".into()],
        jkt: Some(KEY),
        x5t: None,
        session: Some("s-1".into()),
        upstream_session: Some("corp-s".into()),
        device: Some("d-1".into()),
        auth_time: Some(secs(START - 5)),
        granted_at: None,
        details: r#"{"groups":["staff"]}"#.into(),
        absolute_end: secs(START + 90 * 86_400),
    }
}

fn sealed(n: u8) -> Sealed {
    let tenant = Tenant::default();
    test_vault().seal(&Label::new(&tenant, Purpose::Successor, "t", 1), &[n]).unwrap()
}

/// Token `from` is presented by its holder, to be followed by `to`.
pub(crate) fn rotation(from: u8, to: u8) -> Rotate {
    Rotate {
        presented: [from; 32],
        holder: Holder { client: name("app"), jkt: Some(KEY), x5t: None },
        successor: [to; 32],
        sealed: sealed(to),
        idle: IDLE,
        grace: GRACE,
    }
}

async fn rotate(store: &Store, from: u8, to: u8) -> Rotation {
    store.refresh().rotate(rotation(from, to)).await.unwrap()
}

async fn begin(store: &Store, token: u8) -> Family {
    store.refresh().create(family("app"), [token; 32], IDLE).await.unwrap()
}

async fn state(store: &Store, token: u8) -> Option<RefreshState> {
    store.refresh().find([token; 32]).await.unwrap().map(|(_, state)| state)
}

/// What of an access token of the family is revoked.
fn revoked(store: &Store, issued_at: Timestamp) -> Option<Cause> {
    store.revoked().check(&TokenFacts {
        issuer: OWN_ISSUER,
        subject: "corp|alice",
        session: Some("s-1"),
        issued_at: Some(issued_at),
        ..TokenFacts::default()
    })
}

pub(crate) async fn a_token_is_rotated_and_its_successor_lives<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let made = begin(&store, 1).await;
    assert_eq!(made.scopes, family("app").scopes);
    assert_eq!(store.refresh().find([1; 32]).await.unwrap().unwrap().0, made);
    assert_eq!(state(&store, 1).await, Some(RefreshState::Live { until: secs(START).plus(IDLE) }));
    for n in 1..20 {
        assert_eq!(rotate(&store, n, n + 1).await, Rotation::Rotated(made.clone()), "{n}");
        assert_eq!(state(&store, n).await, Some(RefreshState::Rotated));
        backend.clock().advance(Duration::from_hours(1));
    }
    assert_eq!(rotate(&store, 99, 100).await, Rotation::Unknown);
    assert_eq!((state(&store, 99).await, state(&store, 100).await), (None, None));
    let twice = store.refresh().create(family("app"), [20; 32], IDLE).await.unwrap_err();
    assert!(matches!(twice, StoreError::Exists(_)), "{twice:?}");
}

pub(crate) async fn a_43_a_token_used_again_ends_its_family_and_session<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let mut watch = store.revoked().watch();
    begin(&store, 1).await;
    assert!(matches!(rotate(&store, 1, 2).await, Rotation::Rotated(_)));
    assert!(matches!(rotate(&store, 2, 3).await, Rotation::Rotated(_)));
    backend.clock().advance(GRACE);
    let issued = backend.clock().now();
    assert_eq!(revoked(&store, issued), None);
    let Rotation::Reused(ended) = rotate(&store, 1, 4).await else { panic!("it was used before") };
    assert!(ended.revoked.is_some() && watch.has_changed().unwrap());
    watch.borrow_and_update();
    assert_eq!(revoked(&store, issued), Some(Cause::Session), "its access tokens have ended with it");
    for token in [1, 2, 3] {
        assert_eq!(state(&store, token).await, Some(RefreshState::Revoked));
        assert!(matches!(rotate(&store, token, 5).await, Rotation::Revoked(_)), "{token}");
    }
    assert_eq!(state(&store, 4).await, None);
    assert!(!watch.has_changed().unwrap(), "it has ended once");
}

pub(crate) async fn within_the_grace_the_same_successor_is_given_again<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let made = begin(&store, 1).await;
    assert!(matches!(rotate(&store, 1, 2).await, Rotation::Rotated(_)));
    backend.clock().advance(Duration::from_millis(9_999));
    let Rotation::Again(family, successor) = rotate(&store, 1, 3).await else { panic!("it is within the grace") };
    assert_eq!((family, state(&store, 3).await), (made, None), "no second successor");
    let tenant = Tenant::default();
    let opened = test_vault().open(&Label::new(&tenant, Purpose::Successor, "t", 1), &successor).unwrap();
    assert!(opened.matches(&[2]));
    // A clock set back a little makes no thief of who tries again.
    backend.clock().set(secs(START - 2));
    assert!(matches!(rotate(&store, 1, 3).await, Rotation::Again(..)));
    // Without grace nothing is given twice.
    backend.clock().set(secs(START + 1));
    let strict = Rotate { grace: Duration::ZERO, ..rotation(1, 3) };
    assert!(matches!(store.refresh().rotate(strict).await.unwrap(), Rotation::Reused(_)));

    begin_anew(&store, 10).await;
    assert!(matches!(rotate(&store, 10, 11).await, Rotation::Rotated(_)));
    backend.clock().advance(Duration::from_mins(2));
    store.refresh().delete_expired(10).await.unwrap();
    let long = Rotate { grace: Duration::from_hours(1), ..rotation(10, 12) };
    let late = store.refresh().rotate(long).await.unwrap();
    assert!(matches!(late, Rotation::Reused(_)), "a successor is not kept beyond the longest grace");
}

/// A family in another session, since that of [`begin`] has been revoked.
async fn begin_anew(store: &Store, token: u8) {
    let new = NewFamily { session: Some("s-2".into()), ..family("app") };
    store.refresh().create(new, [token; 32], IDLE).await.unwrap();
}

pub(crate) async fn a_43_of_many_who_use_one_token_at_once_one_rotates_it<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    begin(&store, 1).await;
    let all = join_all((2..52).map(|to| rotate(&store, 1, to))).await;
    let rotated = all.iter().filter(|one| matches!(one, Rotation::Rotated(_))).count();
    let successors: Vec<&Sealed> = all
        .iter()
        .filter_map(|one| match one {
            Rotation::Again(_, sealed) => Some(sealed),
            _ => None,
        })
        .collect();
    assert_eq!((rotated, successors.len()), (1, 49));
    assert!(successors.iter().all(|sealed| *sealed == successors[0]), "all are given the one successor");
    let mut live = 0;
    for token in 2..52 {
        live += usize::from(matches!(state(&store, token).await, Some(RefreshState::Live { .. })));
    }
    assert_eq!(live, 1);

    begin_anew(&store, 100).await;
    let strict = |to| Rotate { grace: Duration::ZERO, ..rotation(100, to) };
    let all = join_all((101..151).map(|to| store.refresh().rotate(strict(to)))).await;
    let count = |wanted: fn(&Rotation) -> bool| all.iter().filter(|one| wanted(one.as_ref().unwrap())).count();
    assert_eq!(count(|one| matches!(one, Rotation::Rotated(_))), 1);
    assert_eq!(count(|one| matches!(one, Rotation::Reused(_))), 1, "without grace the second ends the family");
    assert_eq!(count(|one| matches!(one, Rotation::Revoked(_))), 48);
}

pub(crate) async fn another_client_changes_nothing<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    begin(&store, 1).await;
    let theft =
        |client: &str, jkt| Rotate { holder: Holder { client: name(client), jkt, x5t: None }, ..rotation(1, 9) };
    for jkt in [Some(KEY), None, Some([1; 32])] {
        let stolen = store.refresh().rotate(theft("thief", jkt)).await.unwrap();
        assert!(matches!(stolen, Rotation::WrongClient(_)), "{stolen:?}");
    }
    assert_eq!(revoked(&store, secs(START)), None);
    assert!(matches!(rotate(&store, 1, 2).await, Rotation::Rotated(_)), "its owner has lost nothing");
}

pub(crate) async fn a_43_another_key_ends_the_family<B: Backend>() {
    let certificate = Some([0xcc; 32]);
    for (bound, holder) in [
        ((Some(KEY), None), (None, None)),
        ((Some(KEY), None), (Some([1; 32]), None)),
        ((Some(KEY), None), (None, Some(KEY))),
        ((None, certificate), (Some(KEY), None)),
        ((None, certificate), (Some(KEY), Some([1; 32]))),
        ((Some(KEY), certificate), (Some(KEY), None)),
        ((Some(KEY), certificate), (None, certificate)),
    ] {
        let Some(backend) = B::fresh() else { return };
        let store = backend.open().await;
        let new = NewFamily { jkt: bound.0, x5t: bound.1, ..family("app") };
        store.refresh().create(new, [1; 32], IDLE).await.unwrap();
        let other = Holder { client: name("app"), jkt: holder.0, x5t: holder.1 };
        let theft = store.refresh().rotate(Rotate { holder: other, ..rotation(1, 9) }).await.unwrap();
        assert!(matches!(theft, Rotation::WrongKey(_)), "{bound:?} {holder:?}");
        assert_eq!(revoked(&store, secs(START)), Some(Cause::Session));
        let owner = Holder { client: name("app"), jkt: bound.0, x5t: bound.1 };
        let late = store.refresh().rotate(Rotate { holder: owner, ..rotation(1, 2) }).await.unwrap();
        assert!(matches!(late, Rotation::Revoked(_)), "{late:?}");
    }
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let unbound = NewFamily { jkt: None, ..family("app") };
    store.refresh().create(unbound, [1; 32], IDLE).await.unwrap();
    assert!(matches!(rotate(&store, 1, 2).await, Rotation::Rotated(_)), "what is bound to nothing takes any key");
}

pub(crate) async fn a_token_ends_by_idleness_and_its_family_absolutely<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let new = NewFamily { absolute_end: secs(START).plus(2 * IDLE), ..family("app") };
    store.refresh().create(new, [1; 32], IDLE).await.unwrap();
    backend.clock().advance(Duration::from_millis(86_399_999));
    assert!(matches!(rotate(&store, 1, 2).await, Rotation::Rotated(_)), "to the last moment");
    backend.clock().advance(Duration::from_millis(86_399_999));
    assert!(matches!(rotate(&store, 2, 3).await, Rotation::Rotated(_)));
    assert_eq!(state(&store, 3).await, Some(RefreshState::Live { until: secs(START).plus(2 * IDLE) }), "not beyond");
    assert_eq!(store.refresh().delete_expired(10).await.unwrap(), 0);
    backend.clock().advance(Duration::from_millis(2));
    for token in [1, 2, 3] {
        assert!(matches!(rotate(&store, token, 9).await, Rotation::Expired(_)), "{token}");
    }
    assert_eq!(revoked(&store, secs(START)), None, "that is no theft");
    assert_eq!(store.refresh().delete_expired(10).await.unwrap(), 1);
    assert_eq!(state(&store, 3).await, None);

    begin(&store, 10).await;
    backend.clock().advance(IDLE);
    assert_eq!(state(&store, 10).await, Some(RefreshState::Expired));
    assert!(matches!(rotate(&store, 10, 11).await, Rotation::Expired(_)));
    store.clients().create(super::credentials::new_client("app")).await.unwrap();
    begin(&store, 15).await;
    store.clients().delete(&name("app")).await.unwrap();
    assert_eq!(state(&store, 15).await, Some(RefreshState::Revoked), "another of its name does not inherit it");
    let families = join_all((20..25).map(|token| begin(&store, token))).await;
    store.refresh().revoke_family(&families[0].id, "logout").await.unwrap();
    let again = store.refresh().revoke_family(&families[0].id, "logout").await.unwrap_err();
    assert_eq!(again.reason(), "not_found");
    assert_eq!(state(&store, 20).await, Some(RefreshState::Revoked));
    assert!(matches!(state(&store, 21).await, Some(RefreshState::Live { .. })));
}

pub(crate) async fn revocations_end_the_families_they_reach<B: Backend>() {
    let (corp, own) = (|| "corp".to_owned(), || OWN_ISSUER.to_owned());
    let reaching = [
        Revoke::Everything,
        Revoke::Issuer { issuer: own() },
        Revoke::Issuer { issuer: corp() },
        subject("corp", "alice"),
        subject(OWN_ISSUER, "corp|alice"),
        Revoke::Client { issuer: own(), client: "app".into() },
        Revoke::Session { issuer: own(), session: "s-1".into() },
        Revoke::Session { issuer: corp(), session: "corp-s".into() },
        Revoke::Device { issuer: own(), device: "d-1".into() },
        Revoke::Device { issuer: corp(), device: "d-1".into() },
    ];
    for what in reaching {
        let Some(backend) = B::fresh() else { return };
        let store = backend.open().await;
        begin(&store, 1).await;
        store.revocations().revoke(revocation(what.clone(), secs(START))).await.unwrap();
        assert!(matches!(state(&store, 1).await, Some(RefreshState::Live { .. })), "{what:?}: it began no earlier");
        let now = store.revocations().now();
        store.revocations().revoke(revocation(what.clone(), now)).await.unwrap();
        assert!(matches!(rotate(&store, 1, 2).await, Rotation::Revoked(_)), "{what:?}");
        let entry = store.revocations().list(&super::all()).await.unwrap().items.remove(0);
        store.revocations().lift(entry.seq, "owner").await.unwrap();
        assert!(matches!(rotate(&store, 1, 2).await, Rotation::Revoked(_)), "{what:?}: ended stays ended");
    }
    let others = [
        Revoke::Issuer { issuer: "cor".into() },
        Revoke::Issuer { issuer: "corp2".into() },
        subject("corp", "ali"),
        subject("corp", "alice2"),
        subject(OWN_ISSUER, "alice"),
        Revoke::Client { issuer: corp(), client: "app".into() },
        Revoke::Session { issuer: corp(), session: "s-1".into() },
        Revoke::Session { issuer: own(), session: "corp-s".into() },
        Revoke::Session { issuer: "other".into(), session: "corp-s".into() },
        Revoke::Device { issuer: "other".into(), device: "d-1".into() },
        Revoke::Token { issuer: own(), jti: "s-1".into() },
        Revoke::Key { issuer: own(), kid: "k".into() },
    ];
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    begin(&store, 1).await;
    let knows = async |issuer: &str, session: &str, device: &str| {
        let refresh = store.refresh();
        (refresh.knows_session(issuer, session).await.unwrap(), refresh.knows_device(issuer, device).await.unwrap())
    };
    assert_eq!(knows("corp", "corp-s", "d-1").await, (true, true));
    assert_eq!(knows("corp", "s-1", "d-2").await, (false, false));
    assert_eq!(knows("cor", "corp-s", "d-1").await, (false, false));
    for what in others {
        store.revocations().revoke(revocation(what, store.revocations().now())).await.unwrap();
    }
    assert!(matches!(rotate(&store, 1, 2).await, Rotation::Rotated(_)));
}

pub(crate) async fn a_code_from_before_a_revocation_begins_no_family<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let session = Revoke::Session { issuer: OWN_ISSUER.into(), session: "s-1".into() };
    store.revocations().revoke(revocation(session, secs(START))).await.unwrap();
    let begun = store.refresh().create(family("app"), [1; 32], IDLE).await;
    assert_eq!(begun.unwrap_err().reason(), "conflict", "a session that was revoked begins nothing more");

    store.revocations().revoke(revocation(subject("corp", "alice"), secs(START + 10))).await.unwrap();
    backend.clock().set(secs(START + 20));
    let at = |secs_after: i64| NewFamily {
        session: Some("s-2".into()),
        granted_at: Some(secs(START + secs_after)),
        ..family("app")
    };
    let begun = store.refresh().create(at(9), [1; 32], IDLE).await;
    assert_eq!(begun.unwrap_err().reason(), "conflict", "granted before the revocation");
    store.refresh().create(at(10), [1; 32], IDLE).await.unwrap();
    assert_eq!(state(&store, 2).await, None);
}

pub(crate) async fn a_43_nothing_of_it_is_forgotten_by_a_restart<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    begin(&store, 1).await;
    assert!(matches!(rotate(&store, 1, 2).await, Rotation::Rotated(_)));
    store.close().await;

    let store = backend.open().await;
    assert!(matches!(rotate(&store, 1, 3).await, Rotation::Again(..)));
    backend.clock().advance(GRACE);
    assert!(matches!(rotate(&store, 1, 3).await, Rotation::Reused(_)));
    store.close().await;

    let store = backend.open().await;
    assert!(matches!(rotate(&store, 2, 3).await, Rotation::Revoked(_)));
    assert_eq!(revoked(&store, secs(START)), Some(Cause::Session));
    let other = store.for_tenant(Tenant::new(name("other")));
    assert_eq!(other.refresh().rotate(rotation(2, 3)).await.unwrap(), Rotation::Unknown, "another tenant's");
}

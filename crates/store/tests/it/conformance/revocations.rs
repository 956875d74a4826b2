use std::time::Duration;

use base::{Tenant, Timestamp};
use futures_util::FutureExt;
use futures_util::future::join_all;
use store::{Cause, NewRevocation, OWN_ISSUER, Page, Revoke, Store, TokenFacts};

use super::{Backend, START, all, name, secs};

pub(crate) fn revocation(what: Revoke, not_before: Timestamp) -> NewRevocation {
    NewRevocation { what, not_before, expires_at: None, by: "operator".into(), reason: "test".into() }
}

pub(crate) fn subject(issuer: &str, subject: &str) -> Revoke {
    Revoke::Subject { issuer: issuer.into(), subject: subject.into() }
}

/// One of each kind, for the token of [`facts`].
fn each() -> Vec<(Revoke, Cause)> {
    let issuer = || "corp".to_owned();
    vec![
        (Revoke::Token { issuer: issuer(), jti: "j".into() }, Cause::Token),
        (subject("corp", "alice"), Cause::Subject),
        (Revoke::Client { issuer: issuer(), client: "app".into() }, Cause::Client),
        (Revoke::Session { issuer: issuer(), session: "s".into() }, Cause::Session),
        (Revoke::Device { issuer: issuer(), device: "d".into() }, Cause::Device),
        (Revoke::Key { issuer: issuer(), kid: "k".into() }, Cause::Key),
        (Revoke::Issuer { issuer: issuer() }, Cause::Issuer),
        (Revoke::Everything, Cause::Everything),
    ]
}

fn facts(issued_at: Option<i64>) -> TokenFacts<'static> {
    TokenFacts {
        issuer: "corp",
        subject: "alice",
        client: Some("app"),
        jti: Some("j"),
        kid: Some("k"),
        session: Some("s"),
        upstream_session: None,
        device: Some("d"),
        issued_at: issued_at.map(secs),
    }
}

pub(crate) async fn each_kind_of_revocation_reaches_its_tokens_and_survives_a_restart<B: Backend>() {
    for (what, cause) in each() {
        let Some(backend) = B::fresh() else { return };
        let store = backend.open().await;
        let revoked = store.revoked();
        assert_eq!((revoked.check(&facts(Some(START))), revoked.entries()), (None, 0));
        let before = revoked.epoch();
        let mut watch = revoked.watch();
        store.revocations().revoke(revocation(what.clone(), secs(START))).await.unwrap();
        assert!(revoked.epoch() > before && watch.changed().now_or_never().is_some(), "{what:?}");
        store.close().await;

        let store = backend.open().await;
        for revoked in [revoked, store.revoked(), store.clone().revoked()] {
            assert_eq!(revoked.entries(), 1);
            assert_eq!(revoked.check(&facts(Some(START - 1))), Some(cause), "{what:?}");
            assert_eq!(revoked.check(&facts(None)), Some(cause), "{what:?}: no iat is as old as can be");
            // The token or the key itself: whoever has the key writes any time.
            let always = matches!(cause, Cause::Token | Cause::Key);
            assert_eq!(revoked.check(&facts(Some(START))), always.then_some(cause), "{what:?}");
            let elsewhere = TokenFacts { issuer: "other", ..facts(Some(START - 1)) };
            let everywhere = (cause == Cause::Everything).then_some(cause);
            assert_eq!(revoked.check(&elsewhere), everywhere, "{what:?}: another issuer's");
            let nobody =
                TokenFacts { issuer: "corp", subject: "bob", issued_at: Some(secs(1)), ..TokenFacts::default() };
            let wide = matches!(cause, Cause::Everything | Cause::Issuer).then_some(cause);
            assert_eq!(revoked.check(&nobody), wide, "{what:?}");
        }
        assert_eq!(store.revocations().list(&all()).await.unwrap().items[0].what, what);
    }
}

pub(crate) async fn what_another_issuer_vouches_for_ends_with_it<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ours = TokenFacts {
        issuer: OWN_ISSUER,
        subject: "corp|ali|ce",
        session: Some("own"),
        upstream_session: Some("s"),
        device: Some("d"),
        issued_at: Some(secs(START - 1)),
        ..TokenFacts::default()
    };
    let corp = || "corp".to_owned();
    for (what, cause) in [
        (subject("corp", "ali|ce"), Cause::Subject),
        (subject(OWN_ISSUER, "corp|ali|ce"), Cause::Subject),
        (Revoke::Session { issuer: corp(), session: "s".into() }, Cause::Session),
        (Revoke::Session { issuer: OWN_ISSUER.into(), session: "own".into() }, Cause::Session),
        (Revoke::Device { issuer: corp(), device: "d".into() }, Cause::Device),
        (Revoke::Issuer { issuer: corp() }, Cause::Issuer),
    ] {
        let entry = store.revocations().revoke(revocation(what.clone(), secs(START))).await.unwrap();
        assert_eq!(store.revoked().check(&ours), Some(cause), "{what:?}");
        store.revocations().lift(entry.seq, "operator").await.unwrap();
        assert_eq!(store.revoked().check(&ours), None, "{what:?}");
    }
    for what in [
        subject("corp", "ali"),
        subject("corp|ali", "ce"),
        subject(OWN_ISSUER, "ali|ce"),
        Revoke::Session { issuer: corp(), session: "own".into() },
        Revoke::Session { issuer: OWN_ISSUER.into(), session: "s".into() },
        Revoke::Client { issuer: corp(), client: "app".into() },
    ] {
        store.revocations().revoke(revocation(what.clone(), secs(START))).await.unwrap();
        let ours = TokenFacts { client: Some("app"), ..ours };
        assert_eq!(store.revoked().check(&ours), None, "{what:?}");
    }
    let foreign = TokenFacts { issuer: "other", ..ours };
    store.revocations().revoke(revocation(subject("corp", "ali|ce"), secs(START))).await.unwrap();
    assert_eq!(store.revoked().check(&foreign), None, "only in our own tokens is a name before the bar an issuer");
}

pub(crate) async fn up_to_now_reaches_the_whole_second<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    backend.clock().advance(Duration::from_millis(10));
    let now = store.revocations().now();
    assert_eq!(now, secs(START + 1));
    store.revocations().revoke(revocation(subject("corp", "alice"), now)).await.unwrap();
    let hit = |at: i64| store.revoked().check(&facts(Some(at)));
    assert_eq!((hit(START), hit(START + 1)), (Some(Cause::Subject), None));
}

pub(crate) async fn the_later_of_two_revocations_counts_and_lifting_gives_the_other_back<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let revocations = store.revocations();
    let late = revocations.revoke(revocation(subject("corp", "alice"), secs(START))).await.unwrap();
    let early = revocations.revoke(revocation(subject("corp", "alice"), secs(START - 100))).await.unwrap();
    let hit = |at: i64| store.revoked().check(&facts(Some(at))).is_some();
    assert!(hit(START - 1) && hit(START - 101) && store.revoked().entries() == 1);

    let lifted = revocations.lift(late.seq, "owner").await.unwrap();
    assert_eq!(lifted.lifted, Some((secs(START), "owner".to_owned())));
    assert!(!hit(START - 1) && hit(START - 101));
    assert_eq!(revocations.lift(late.seq, "owner").await.unwrap_err().reason(), "not_found", "it is lifted");
    revocations.lift(early.seq, "owner").await.unwrap();
    assert!(!hit(START - 101) && store.revoked().entries() == 0);
    let kept = revocations.list(&all()).await.unwrap().items;
    assert_eq!(kept.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [early.seq, late.seq], "newest first");
    assert!(kept.iter().all(|entry| entry.lifted.is_some()), "what was lifted stays in the list");

    for what in [
        Revoke::Token { issuer: "corp".into(), jti: "j".into() },
        Revoke::Key { issuer: "corp".into(), kid: "k2".into() },
    ] {
        let entry = revocations.revoke(revocation(what, secs(START))).await.unwrap();
        assert_eq!(revocations.lift(entry.seq, "owner").await.unwrap_err().reason(), "not_found");
    }
    store.close().await;
    assert!(backend.open().await.revoked().check(&facts(Some(START - 1))) == Some(Cause::Token));
}

pub(crate) async fn a_revocation_is_forgotten_when_it_may_be_and_no_sooner<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let token = |jti: &str| Revoke::Token { issuer: "corp".into(), jti: jti.into() };
    for n in 0..5 {
        let new = revocation(token(&format!("j{n}")), secs(START));
        let new = NewRevocation { expires_at: Some(secs(START + 60)), ..new };
        store.revocations().revoke(new).await.unwrap();
    }
    store.revocations().revoke(revocation(token("forever"), secs(START))).await.unwrap();
    // Revoked twice, once for longer: the longer counts.
    let twice = |until| NewRevocation { expires_at: Some(secs(START + until)), ..revocation(token("twice"), secs(0)) };
    store.revocations().revoke_all(vec![twice(600), twice(60)]).await.unwrap();
    let known = |jti: &'static str| {
        let facts = TokenFacts { issuer: "corp", jti: Some(jti), ..TokenFacts::default() };
        store.revoked().check(&facts).is_some()
    };
    backend.clock().advance(Duration::from_secs(59));
    assert_eq!(store.revocations().delete_expired(100).await.unwrap(), 0);
    assert!(known("j0"));
    backend.clock().advance(Duration::from_secs(1));
    assert_eq!(store.revocations().delete_expired(3).await.unwrap(), 3);
    assert_eq!(store.revocations().delete_expired(100).await.unwrap(), 3);
    assert!(!known("j0") && known("forever") && known("twice"));
    assert_eq!(store.revoked().entries(), 2);
    store.close().await;
    assert_eq!(backend.open().await.revoked().entries(), 2);
}

pub(crate) async fn what_is_said_again_and_again_is_kept_once<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let revocations = store.revocations();
    let at = |by: &str, secs_after: i64, until: Option<i64>| NewRevocation {
        by: by.into(),
        expires_at: until.map(secs),
        ..revocation(subject("corp", "alice"), secs(START + secs_after))
    };
    revocations.revoke(at("operator", 0, None)).await.unwrap();
    let lifted = revocations.revoke(at("events", 1, None)).await.unwrap();
    revocations.lift(lifted.seq, "operator").await.unwrap();
    for n in 0..20 {
        revocations.revoke_anew(vec![at("events", n, None)]).await.unwrap();
    }
    let kept = async || revocations.list(&all()).await.unwrap().items.len();
    assert_eq!(kept().await, 3, "one of the events beside the operator's and the lifted one");
    revocations.revoke_anew(vec![at("events", 5, None)]).await.unwrap();
    assert_eq!(kept().await, 4, "an earlier moment covers no later one");
    revocations.revoke_anew(vec![at("events", 30, Some(START + 60))]).await.unwrap();
    assert_eq!(kept().await, 5, "what is forgotten sooner covers nothing that is kept longer");
    let hit = |at: i64| store.revoked().check(&facts(Some(at))).is_some();
    assert!(hit(START + 29) && !hit(START + 30));
    store.close().await;
    let store = backend.open().await;
    assert!(store.revoked().check(&facts(Some(START + 29))).is_some());
}

pub(crate) async fn a_revocation_counts_although_whoever_asked_has_gone<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let mut watch = store.revoked().watch();
    // Queued and forgotten: the caller's connection broke.
    let asked = store.revocations().revoke(revocation(subject("corp", "alice"), secs(START))).now_or_never();
    if asked.is_none() {
        watch.changed().await.unwrap();
    }
    assert_eq!(store.revoked().check(&facts(Some(START - 1))), Some(Cause::Subject));
}

pub(crate) async fn many_revocations_at_once_are_all_in_force<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let revoke = |n: usize| {
        let (store, what) = (store.clone(), Revoke::Token { issuer: "corp".into(), jti: format!("j{n}") });
        async move {
            store.revocations().revoke(revocation(what, secs(START))).await.unwrap();
            let jti = format!("j{n}");
            let facts = TokenFacts { issuer: "corp", jti: Some(&jti), ..TokenFacts::default() };
            assert_eq!(store.revoked().check(&facts), Some(Cause::Token), "once it is answered it counts");
        }
    };
    join_all((0..500).map(revoke)).await;
    assert_eq!(store.revoked().entries(), 500);
    let mut page = Page::first(100);
    let mut seen = std::collections::HashSet::new();
    loop {
        let part = store.revocations().list(&page).await.unwrap();
        seen.extend(part.items.iter().map(|entry| entry.seq));
        match part.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), 500);
}

pub(crate) async fn a_compromised_key_dies_with_all_it_signed<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let keys = store.signing_keys();
    keys.insert(super::secrets::new_signing_key("old")).await.unwrap();
    keys.activate("old", secs(START)).await.unwrap();
    keys.insert(super::secrets::new_signing_key("spare")).await.unwrap();
    let states = async || {
        let keys = store.signing_keys().list().await.unwrap();
        let state = |kid: &str| keys.iter().find(|key| key.kid == kid).map_or("none", |key| key.state.as_str());
        [state("old"), state("spare"), state("third")]
    };
    let end = async |kid, successor| keys.compromised(kid, successor, "owner", "leaked").await;
    assert_eq!(end("old", None).await.unwrap_err().reason(), "conflict", "somebody has to sign");
    assert_eq!(end("old", Some("nobody")).await.unwrap_err().reason(), "conflict");
    assert_eq!((states().await, store.revoked().entries()), (["active", "next", "none"], 0), "nothing has changed");

    let before = store.version();
    end("old", Some("spare")).await.unwrap();
    keys.insert(super::secrets::new_signing_key("third")).await.unwrap();
    assert_eq!(states().await, ["gone", "active", "next"]);
    assert!(store.version() > before, "the published keys are read again");
    let facts = |kid| TokenFacts {
        issuer: OWN_ISSUER,
        kid: Some(kid),
        issued_at: Some(secs(i64::MAX / 1000)),
        ..TokenFacts::default()
    };
    assert_eq!(store.revoked().check(&facts("old")), Some(Cause::Key), "whatever time it names");
    assert_eq!(store.revoked().check(&facts("spare")), None);
    end("third", None).await.unwrap();
    assert_eq!(states().await, ["gone", "active", "gone"], "one that does not sign needs no successor");
    assert_eq!(end("old", None).await.unwrap_err().reason(), "not_found");
    store.close().await;
    assert_eq!(backend.open().await.revoked().check(&facts("old")), Some(Cause::Key));
}

pub(crate) async fn tenants_revoke_their_own_only<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let other: Store = store.for_tenant(Tenant::new(name("other")));
    let entry = other.revocations().revoke(revocation(Revoke::Everything, secs(START))).await.unwrap();
    assert_eq!(store.revoked().check(&facts(Some(START - 1))), None);
    assert_eq!(other.revoked().check(&facts(Some(START - 1))), Some(Cause::Everything));
    assert!(store.revocations().list(&all()).await.unwrap().items.is_empty());
    assert_eq!(store.revocations().lift(entry.seq, "x").await.unwrap_err().reason(), "not_found");
}

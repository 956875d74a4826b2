//! Receipts of App Attest: of each installation the last, exchanged once, and gone with it.

use base::Tenant;
use store::{DueReceipt, Enrolled, InstanceStatus, NewInstance, NewReceipt, SealedKind};
use vault::{Label, Purpose, Sealed};

use super::instances::new;
use super::{Backend, START, secs, test_vault};

/// A receipt of the installation with this key, that another is given for from then on.
fn receipt(jkt: &str, text: &str, next: i64) -> NewReceipt {
    NewReceipt { name: format!("chat/{jkt}"), sealed: sealed(text), next_at: secs(next) }
}

fn sealed(text: &str) -> Sealed {
    test_vault().seal(&Label::new(&Tenant::default(), Purpose::Receipt, "chat/key", 1), text.as_bytes()).unwrap()
}

pub(crate) async fn a_receipt_is_exchanged_once_and_goes_with_its_installation<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let with =
        |jkt: &str, key: u8, next: i64| NewInstance { receipt: Some(receipt(jkt, "first", next)), ..new(jkt, key) };
    for (jkt, key, next) in [("late", 1, START + 20), ("early", 2, START + 10)] {
        assert!(matches!(store.instances().enroll(with(jkt, key, next)).await.unwrap(), Enrolled::Done(_)));
    }
    let due = async |at: i64| store.receipts().due(secs(at), 10).await.unwrap();
    let names = |due: &[DueReceipt]| due.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    assert!(due(START + 9).await.is_empty());
    let both = due(START + 20).await;
    assert_eq!(names(&both), ["chat/early", "chat/late"], "the oldest first");
    assert_eq!(
        (both[0].environment.as_deref(), both[0].attested_key.as_deref()),
        (Some("production"), Some(&[4; 65][..]))
    );
    assert_eq!(names(&store.receipts().due(secs(START + 20), 1).await.unwrap()), ["chat/early"]);

    // Two nodes had it exchanged: the second changes nothing, and a receipt without a metric keeps the one before.
    let (first, newer) = (&both[0], sealed("newer"));
    assert!(store.receipts().exchange(first, &newer, (Some(7), secs(START + 100))).await.unwrap());
    assert!(!store.receipts().exchange(first, &sealed("other"), (Some(0), secs(START + 1))).await.unwrap());
    assert_eq!(store.receipts().metric("chat/early").await.unwrap(), Some(7));
    assert_eq!(names(&due(START + 99).await), ["chat/late"]);
    store.receipts().put_off("chat/late", secs(START + 200)).await.unwrap();
    let again = due(START + 100).await;
    assert_eq!((names(&again), again[0].sealed.as_bytes()), (vec!["chat/early".to_owned()], newer.as_bytes()));
    assert!(store.receipts().exchange(&again[0], &sealed("third"), (None, secs(START + 300))).await.unwrap());
    assert_eq!(store.receipts().metric("chat/early").await.unwrap(), Some(7));
    assert_eq!(store.receipts().metric("chat/late").await.unwrap(), None);

    // It is sealed anew with the others.
    let lasting = store.sealed().counts(&[SealedKind::Receipt]).await.unwrap();
    assert_eq!(lasting.iter().map(|(_, count)| count).sum::<u64>(), 2);

    // New evidence of the same key brings a new receipt, and what was said before stays.
    let Enrolled::Done(early) = store.instances().enroll(with("early", 3, START + 5)).await.unwrap() else { panic!() };
    assert_eq!(names(&due(START + 5).await), ["chat/early"]);
    assert_eq!(store.receipts().metric("chat/early").await.unwrap(), Some(7));
    // Of one that may not nobody is asked about; of one that is gone nothing stays.
    let barred = ("ops", "odd");
    store.instances().set_status(&early.id, InstanceStatus::Quarantined, barred).await.unwrap();
    assert!(due(START + 5).await.is_empty());
    store.instances().delete(&early.id, "ops", "gone").await.unwrap();
    assert_eq!(store.receipts().metric("chat/early").await.unwrap(), None);
    assert_eq!(store.receipts().delete_orphans(10).await.unwrap(), 0);
    let mut unused = with("unused", 4, START);
    unused.attested.level = "none".to_owned();
    store.instances().enroll(unused).await.unwrap();
    assert_eq!(store.instances().delete_unused(secs(START + 1), 10).await.unwrap(), 1);
    assert_eq!(store.receipts().delete_orphans(10).await.unwrap(), 1, "the other's stays");
}

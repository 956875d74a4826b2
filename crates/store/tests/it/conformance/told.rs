//! Messages for webhooks, callers that are stopped, and habits: kept until they are done with, also by other nodes.

use std::sync::Arc;
use std::time::Duration;

use base::Name;
use store::{Habit, NewStop, Notice, Page, Sent, StopAction};

use super::{Backend, START, name, secs};

fn notice(about: &str) -> Notice {
    Notice::new("budget.exhausted", secs(START))
        .about(about)
        .with("budget", "team")
        .naming("whom", "subject=corp/alice")
}

const AGAIN: Duration = Duration::from_mins(1);

pub(crate) async fn a_message_is_due_until_it_was_taken<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let hooks: [Name; 2] = [name("a"), name("b")];
    assert_eq!(store.outbox().put(&notice("one"), &hooks).await.unwrap(), 2);
    assert_eq!(store.outbox().put(&notice("one"), &hooks).await.unwrap(), 0, "what is about the same is told once");
    let due = store.outbox().take(10, AGAIN).await.unwrap();
    assert_eq!(due.len(), 2, "{due:?}");
    assert!(due[0].id == due[1].id && due[0].endpoint != due[1].endpoint && due[0].attempt == 1);
    assert!(
        due[0].body.contains("\"whom\":\"subject=corp/alice\"")
            && due[0].body.contains("\"type\":\"budget.exhausted\"")
    );
    assert!(store.outbox().take(10, AGAIN).await.unwrap().is_empty(), "somebody sends them");
    store.outbox().sent(&due[0], Sent::Taken).await.unwrap();
    store.outbox().sent(&due[1], Sent::Later(Duration::ZERO, "503".to_owned())).await.unwrap();
    store.close().await;

    let store = backend.open().await;
    let due = store.outbox().take(10, AGAIN).await.unwrap();
    assert_eq!(due.iter().map(|message| message.attempt).collect::<Vec<_>>(), [2]);
    store.outbox().sent(&due[0], Sent::GivenUp("no more".to_owned())).await.unwrap();
    assert_eq!(store.outbox().waiting().await.unwrap(), 0);
    assert_eq!(store.outbox().put(&notice("one"), &hooks).await.unwrap(), 0, "it is remembered");
    assert_eq!(store.outbox().delete_before(secs(START + 1), 10).await.unwrap(), 2);
    assert_eq!(store.outbox().put(&notice("one"), &hooks).await.unwrap(), 2);
    store.close().await;
}

fn stop(whom: &str, action: StopAction) -> NewStop {
    NewStop { whom: Arc::from(whom), action, why: "{\"signals\":[\"surge\"]}".to_owned(), ends_at: None }
}

pub(crate) async fn who_is_stopped_is_so_until_it_is_let_in_again<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let stops = store.stops();
    assert!(stops.in_force().is_empty());
    let id = stops.add(&stop("key=a", StopAction::Throttle(7))).await.unwrap().unwrap();
    assert_eq!(stops.add(&stop("key=a", StopAction::Throttle(9))).await.unwrap(), None, "it is already");
    assert!(stops.add(&stop("key=a", StopAction::Suspend)).await.unwrap().is_some_and(|harder| harder > id));
    assert!(stops.add(&stop("key=b", StopAction::Observe)).await.unwrap().is_some());
    assert_eq!(stops.in_force().of("key=b", secs(START)), None, "it is only told of");
    store.close().await;

    let store = backend.open().await;
    let stops = store.stops();
    assert!(stops.refresh().await.unwrap().is_empty());
    assert_eq!(stops.in_force().of("key=a", secs(START)), Some(StopAction::Suspend));
    assert_eq!(stops.list(&Page::first(2)).await.unwrap().items.len(), 2);
    let restored = stops.restore(&id.to_string(), "ann").await.unwrap();
    assert_eq!(restored.len(), 2, "all that stops it");
    assert!(restored.iter().all(|stop| stop.restored_by.as_deref() == Some("ann")));
    assert!(stops.in_force().is_empty());
    assert_eq!(stops.restore("key=a", "ann").await.unwrap_err().reason(), "not_found");
    let told = stops.refresh().await.unwrap();
    assert_eq!(told.len(), 2, "other nodes hear of it");
    assert!(stops.in_force().is_empty());
    store.close().await;
}

pub(crate) async fn habits_are_kept_for_each_node<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let habit = |node: &str, whom: &str, text: &str, at: i64| Habit {
        node: node.to_owned(),
        whom: Arc::from(whom),
        habit: text.to_owned(),
        seen_at: secs(START + at),
    };
    let many: Vec<Habit> = (0..450).map(|n| habit("one", &format!("key={n}"), "{}", n)).collect();
    store.habits().save(&many).await.unwrap();
    store
        .habits()
        .save(&[habit("two", "key=3", "{\"x\":1}", 500), habit("one", "key=3", "{\"y\":1}", 501)])
        .await
        .unwrap();
    let of: Vec<String> = store.habits().of("key=3").await.unwrap().into_iter().map(|habit| habit.habit).collect();
    assert_eq!(of, ["{\"y\":1}", "{\"x\":1}"]);
    assert_eq!(store.habits().since(secs(START + 440), 100).await.unwrap().len(), 11);
    assert_eq!(store.habits().delete_before(secs(START + 100), 1000).await.unwrap(), 99);
    store.close().await;
}

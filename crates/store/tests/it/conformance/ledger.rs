use std::time::Duration;

use futures_util::future::join_all;
use store::{
    AccountKey, BalanceFilter, Hold, Journal, LeaseUse, Ledger, LedgerSettings, Period, ReserveError, Store, Unit,
    Want, Window,
};

use super::{Backend, all};

pub(crate) const USD: i64 = 1_000_000_000;
pub(crate) const DIME: i64 = USD / 10;

pub(crate) async fn open(store: &Store, node: &str) -> Ledger {
    Ledger::open(store, LedgerSettings::new(node)).await.unwrap()
}

pub(crate) fn key(budget: &str, window: Window) -> AccountKey {
    AccountKey { budget: budget.into(), whom: "".into(), unit: Unit::NanoUsd, window }
}

pub(crate) fn day(budget: &str) -> AccountKey {
    key(budget, Window::Calendar(Period::Day))
}

pub(crate) fn want(ledger: &Ledger, key: &AccountKey, limit: i64, amount: i64) -> Want {
    Want { account: ledger.account(key).unwrap(), limit, amount, enforce: true }
}

async fn reserve(ledger: &Ledger, key: &AccountKey, limit: i64, amount: i64) -> Result<Hold, ReserveError> {
    ledger.reserve(&[want(ledger, key, limit, amount)]).await
}

/// Reserve a dime `times` at once against five dollars; those that got one.
pub(crate) async fn rush(ledger: &Ledger, key: &AccountKey, times: usize) -> Vec<Hold> {
    let wants = [want(ledger, key, 5 * USD, DIME)];
    let results = join_all((0..times).map(|_| ledger.reserve(&wants))).await;
    assert!(results.iter().all(|result| match result {
        Ok(_) => true,
        Err(ReserveError::Exhausted { budget, limit, resets, .. }) =>
            &**budget == "cap" && *limit == 5 * USD && resets.is_some(),
        Err(ReserveError::Unavailable(_)) => false,
    }));
    results.into_iter().flatten().collect()
}

/// The books balance, and the account has used this: spent, held, leased.
pub(crate) async fn books(ledger: &Ledger, key: &AccountKey, expected: (i64, i64, i64)) {
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new());
    let balance = ledger.balance(key).await.unwrap().unwrap();
    assert_eq!((balance.spent, balance.held, balance.leased), expected);
}

pub(crate) async fn of_a_thousand_at_once_exactly_as_many_as_fit_are_let_in<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let holds = rush(&ledger, &day("cap"), 1000).await;
    assert_eq!(holds.len(), 50);
    books(&ledger, &day("cap"), (0, 0, 5 * USD)).await;
    for hold in holds {
        assert_eq!(hold.settle(|line| line.amount).lines.len(), 1);
    }
    assert!(rush(&ledger, &day("cap"), 100).await.is_empty());
    ledger.close().await;
    books(&ledger, &day("cap"), (5 * USD, 0, 0)).await;
}

pub(crate) async fn of_a_thousand_at_each_of_three_nodes_exactly_as_many_as_fit_are_let_in<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let nodes = join_all(["a", "b", "c"].map(|node| open(&store, node))).await;
    let cap = day("cap");
    let holds = join_all(nodes.iter().map(|node| rush(node, &cap, 1000))).await;
    let counts: Vec<_> = holds.iter().map(Vec::len).collect();
    assert_eq!(counts.iter().sum::<usize>(), 50, "{counts:?}");
    drop(holds);
    for node in &nodes {
        assert_eq!(node.verify().await.unwrap(), Vec::<String>::new());
        node.close().await;
    }
    books(&nodes[0], &cap, (5 * USD, 0, 0)).await;
}

pub(crate) async fn with_a_node_killed_never_more_than_fit_and_the_rest_after_its_journal<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let nodes = join_all(["a", "b", "c"].map(|node| open(&store, node))).await;
    let cap = day("cap");
    // The first serves five, settles three of them, and is killed with the rest of its block.
    let mut first = rush(&nodes[0], &cap, 5).await;
    let lease = first[0].lines()[0].lease;
    assert_eq!(first.len(), 5);
    let under_way = first.split_off(3);
    for hold in first {
        let _ = hold.settle(|line| line.amount);
    }
    std::mem::forget(under_way);
    let others = join_all(nodes[1..].iter().map(|node| rush(node, &cap, 1000))).await.concat_len();
    assert!(others + 5 < 50, "what the dead node had leased counts as spent: {others}");
    books(&nodes[1], &cap, (0, 0, 5 * USD)).await;

    // It starts again; its journal says what it did.
    let again = open(&store, "a").await;
    let open_leases = again.open_leases("a").await.unwrap();
    assert_eq!(open_leases.iter().map(|open| open.lease).collect::<Vec<_>>(), [lease]);
    let unresolved = vec![("req_4".to_owned(), DIME), ("req_5".to_owned(), DIME)];
    let journal = Journal::Kept(vec![LeaseUse { lease, settled: 3 * DIME, unresolved }]);
    let recovered = again.recover("a", journal.clone()).await.unwrap();
    assert_eq!((recovered.leases, recovered.spent, recovered.held), (1, 3 * DIME, 2 * DIME));
    assert_eq!(again.recover("a", journal).await.unwrap().leases, 0, "once");
    assert_eq!(again.verify().await.unwrap(), Vec::<String>::new());
    let rest = rush(&again, &cap, 1000).await;
    assert_eq!(rest.len(), 45 - others);

    // The former process, were it still there, could lease nothing.
    let error = reserve(&nodes[0], &day("other"), USD, 1).await.unwrap_err();
    assert_eq!(error.reason(), "conflict");
}

/// How many there are in all.
trait ConcatLen {
    fn concat_len(self) -> usize;
}

impl ConcatLen for Vec<Vec<Hold>> {
    fn concat_len(self) -> usize {
        // Forgotten: they are under way until the end of the test.
        self.into_iter().flatten().map(std::mem::forget).count()
    }
}

pub(crate) async fn all_budgets_of_a_request_are_reserved_or_none<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let (team, user) = (day("team"), day("user"));
    let wants = [want(&ledger, &team, 10 * USD, USD), want(&ledger, &user, USD, USD)];
    let hold = ledger.reserve(&wants).await.unwrap();
    assert_eq!(hold.lines().len(), 2);
    for _ in 0..20 {
        let error = ledger.reserve(&wants).await.unwrap_err();
        assert!(matches!(&error, ReserveError::Exhausted { budget, .. } if &**budget == "user"), "{error:?}");
    }
    // Of the team nothing was taken by those that were refused.
    assert_eq!(hold.settle(|_| USD / 2).lines.len(), 2);
    ledger.close().await;
    books(&ledger, &team, (USD / 2, 0, 0)).await;
    books(&ledger, &user, (USD / 2, 0, 0)).await;
}

pub(crate) async fn opposite_orders_of_budgets_do_not_deadlock<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let (one, two) = (day("one"), day("two"));
    let there = [want(&ledger, &one, USD, 1), want(&ledger, &two, USD, 1)];
    let back = [want(&ledger, &two, USD, 1), want(&ledger, &one, USD, 1)];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (ledger, wants) = (ledger.clone(), if n % 2 == 0 { there.clone() } else { back.clone() });
        tasks.spawn(async move {
            for _ in 0..500 {
                let _ = ledger.reserve(&wants).await.unwrap().settle(|line| line.amount);
            }
        });
    }
    tasks.join_all().await;
    ledger.close().await;
    books(&ledger, &one, (4000, 0, 0)).await;
    books(&ledger, &two, (4000, 0, 0)).await;
}

pub(crate) async fn a_hold_is_settled_to_what_was_used_and_never_past_it<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let cap = day("cap");
    for (actual, settled, clamped) in
        [(30, 30, false), (100, 100, false), (101, 100, true), (-1, 0, true), (i64::MAX, 100, true)]
    {
        let hold = reserve(&ledger, &cap, USD, 100).await.unwrap();
        let done = hold.settle(|_| actual);
        assert_eq!((done.lines[0].settled, done.clamped()), (settled, clamped));
    }
    drop(reserve(&ledger, &cap, USD, 7).await.unwrap());
    assert_eq!(ledger.counters().dropped, 1, "dropped unsettled, it is charged in full and counted");
    reserve(&ledger, &cap, USD, 1000).await.unwrap().release();
    assert_eq!(ledger.balance(&cap).await.unwrap().unwrap().spent, 337, "also before the database is told");
    ledger.close().await;
    books(&ledger, &cap, (337, 0, 0)).await;
    assert_eq!(reserve(&ledger, &cap, USD, 1).await.unwrap_err().reason(), "store_closed");
}

pub(crate) async fn a_new_period_has_its_own_limit_and_the_old_one_its_own_end<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let hour = key("cap", Window::Calendar(Period::Hour));
    let under_way = reserve(&ledger, &hour, 10, 10).await.unwrap();
    let error = reserve(&ledger, &hour, 10, 1).await.unwrap_err();
    let ReserveError::Exhausted { resets, .. } = error else { panic!("{error:?}") };
    assert_eq!(resets.unwrap().as_millis() % 3_600_000, 0);
    backend.clock().set(resets.unwrap());
    let next = reserve(&ledger, &hour, 10, 10).await.unwrap();
    assert!(reserve(&ledger, &hour, 10, 1).await.is_err());
    // What began in the old period is charged to it.
    drop(under_way.settle(|_| 4));
    assert!(reserve(&ledger, &hour, 10, 1).await.is_err());
    drop(next.settle(|_| 9));
    ledger.close().await;
    books(&ledger, &hour, (9, 0, 0)).await;
    // A clock that goes back opens nothing, here and after a restart.
    backend.clock().set(resets.unwrap().minus(Duration::from_mins(10)));
    let ledger = open(&store, "a").await;
    books(&ledger, &hour, (4, 0, 0)).await;
    assert!(reserve(&ledger, &hour, 10, 7).await.is_err());
}

pub(crate) async fn what_a_rolling_window_used_leaves_it_by_and_by<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let hour = key("cap", Window::Rolling(Duration::from_hours(1)));
    for _ in 0..6 {
        drop(reserve(&ledger, &hour, 6, 1).await.unwrap().settle(|_| 1));
        backend.clock().advance(Duration::from_mins(9));
        assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new());
    }
    let error = reserve(&ledger, &hour, 6, 1).await.unwrap_err();
    let ReserveError::Exhausted { resets: Some(resets), .. } = error else { panic!("{error:?}") };
    let wait = resets.since(backend.clock().now_of());
    assert!(wait > Duration::from_mins(5) && wait <= Duration::from_mins(9), "{wait:?}");
    backend.clock().set(resets);
    drop(reserve(&ledger, &hour, 6, 1).await.unwrap().settle(|_| 1));
    assert!(reserve(&ledger, &hour, 6, 1).await.is_err(), "one has left, not two");
    backend.clock().advance(Duration::from_hours(2));
    drop(reserve(&ledger, &hour, 6, 6).await.unwrap());
    ledger.close().await;
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new());
}

trait NowOf {
    fn now_of(&self) -> base::Timestamp;
}

impl NowOf for base::FakeClock {
    fn now_of(&self) -> base::Timestamp {
        base::Clock::now(self)
    }
}

pub(crate) async fn a_budget_in_shadow_mode_counts_and_refuses_nobody<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let cap = day("cap");
    let shadow = [Want { enforce: false, ..want(&ledger, &cap, 10, 4) }];
    let overs: Vec<bool> = join_all((0..4).map(|_| ledger.reserve(&shadow)))
        .await
        .into_iter()
        .map(|hold| {
            let hold = hold.unwrap();
            let over = hold.lines()[0].over;
            drop(hold);
            over
        })
        .collect();
    assert_eq!(overs, [false, false, true, true]);
    ledger.close().await;
    books(&ledger, &cap, (16, 0, 0)).await;
    // Enforced from now on, it has used more than its limit.
    let ledger = open(&store, "a").await;
    assert!(reserve(&ledger, &cap, 10, 1).await.is_err());
    books(&ledger, &cap, (16, 0, 0)).await;
    drop(reserve(&ledger, &cap, 20, 4).await.unwrap());
}

pub(crate) async fn a_lowered_limit_holds_at_once_and_keeps_what_is_committed<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let cap = day("cap");
    drop(reserve(&ledger, &cap, 1000, 40).await.unwrap());
    // A block is free, but it was leased under the higher limit.
    assert!(reserve(&ledger, &cap, 30, 1).await.is_err());
    books(&ledger, &cap, (40, 0, 0)).await;
    drop(reserve(&ledger, &cap, 50, 10).await.unwrap());
    assert!(reserve(&ledger, &cap, 50, 1).await.is_err());
    drop(reserve(&ledger, &cap, 60, 10).await.unwrap());
    ledger.close().await;
    books(&ledger, &cap, (60, 0, 0)).await;
}

pub(crate) async fn accounts_are_listed_with_what_they_used<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    for whom in ["alice", "bob", "carol"] {
        let key = AccountKey { whom: whom.into(), ..day("each") };
        drop(reserve(&ledger, &key, USD, DIME).await.unwrap());
    }
    drop(reserve(&ledger, &day("all"), USD, DIME).await.unwrap());
    let each = BalanceFilter { budget: Some("each".to_owned()), whom: None };
    let page = ledger.balances(&each, &store::Page::first(2)).await.unwrap();
    assert_eq!(
        page.items.iter().map(|b| (&*b.key.whom, b.spent)).collect::<Vec<_>>(),
        [("alice", DIME), ("bob", DIME)]
    );
    let next = ledger.balances(&each, &store::Page { after: page.next, limit: 2 }).await.unwrap();
    assert_eq!((next.items.len(), &*next.items[0].key.whom, next.next), (1, "carol", None));
    let bob = BalanceFilter { whom: Some("bob".to_owned()), ..each };
    assert_eq!(ledger.balances(&bob, &all()).await.unwrap().items.len(), 1);
    assert_eq!(ledger.balances(&BalanceFilter::default(), &all()).await.unwrap().items.len(), 4);
    let seen = ledger.account(&day("all")).unwrap().seen().unwrap();
    assert_eq!((seen.limit, seen.used, seen.remaining()), (USD, DIME, USD - DIME));
    assert_eq!(ledger.balance(&day("none")).await.unwrap(), None);
}

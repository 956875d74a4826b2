//! Long random runs: whatever happens in whatever order, the books balance and no limit is passed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Rng, SeededRng};
use futures_util::FutureExt;
use store::{
    AccountKey, Hold, HoldLine, Journal, LeaseUse, Ledger, LedgerSettings, NewRaise, Period, ReserveError, Store, Unit,
    Window,
};

use super::Backend;
use super::ledger::{DIME, books, day, key, open, want};

const CYCLES: usize = 10_000;
const NODES: usize = 3;

/// What a node's journal says of one lease.
#[derive(Default)]
struct Told {
    settled: i64,
    under_way: Vec<(String, i64)>,
}

struct Node {
    name: String,
    ledger: Ledger,
    holds: Vec<(String, Hold)>,
    journal: HashMap<i64, Told>,
}

struct Run<B> {
    backend: B,
    store: Store,
    rng: SeededRng,
    nodes: Vec<Node>,
    keys: Vec<(AccountKey, i64)>,
    /// What was used of each account of all time, in all.
    used: HashMap<AccountKey, i64>,
    /// Requests whose node died: what their parts are of.
    unresolved: Vec<(String, Vec<HoldLine>)>,
    requests: u64,
    granted: u64,
    refused: u64,
}

impl<B: Backend> Run<B> {
    async fn new(backend: B) -> Self {
        let store = backend.open().await;
        let mut nodes = Vec::new();
        for name in ["a", "b", "c"] {
            let (ledger, name) = (open(&store, name).await, name.to_owned());
            nodes.push(Node { name, ledger, holds: Vec::new(), journal: HashMap::new() });
        }
        let keys = vec![
            (key("total", Window::Total), 200_000),
            (key("small", Window::Total), 700),
            (AccountKey { unit: Unit::Tokens, ..key("tokens", Window::Total) }, 50_000),
            (key("hour", Window::Calendar(Period::Hour)), 900),
            (key("rolling", Window::Rolling(Duration::from_mins(48))), 900),
        ];
        let rng = SeededRng::new(0x10_000);
        let (used, unresolved) = (HashMap::new(), Vec::new());
        Self { backend, store, rng, nodes, keys, used, unresolved, requests: 0, granted: 0, refused: 0 }
    }

    fn random(&self, below: usize) -> usize {
        let mut bytes = [0; 4];
        self.rng.fill(&mut bytes);
        u32::from_le_bytes(bytes) as usize % below
    }

    fn amount(&self, below: usize) -> i64 {
        i64::try_from(self.random(below)).unwrap()
    }

    async fn cycle(&mut self) {
        match self.random(100) {
            0..50 => self.reserve().await,
            50..82 => self.settle(),
            82..86 => self.lose(),
            86..89 => self.backend.clock().advance(Duration::from_secs(u64::try_from(self.amount(300)).unwrap())),
            89..92 => self.tick().await,
            92..94 => self.give_back().await,
            94..96 => self.kill().await,
            96..98 => self.settle_late().await,
            _ => self.change_limits().await,
        }
    }

    async fn reserve(&mut self) {
        let node = self.random(NODES);
        let mut wants = Vec::new();
        for _ in 0..=self.random(3) {
            let (key, limit) = &self.keys[self.random(self.keys.len())];
            wants.push(want(&self.nodes[node].ledger, key, *limit, self.amount(40)));
        }
        match self.nodes[node].ledger.reserve(&wants).await {
            Ok(hold) => {
                self.granted += 1;
                self.requests += 1;
                let request = format!("req_{}", self.requests);
                for line in hold.lines() {
                    let told = self.nodes[node].journal.entry(line.lease).or_default();
                    told.under_way.push((request.clone(), line.amount));
                }
                self.nodes[node].holds.push((request, hold));
            }
            Err(ReserveError::Exhausted { .. }) => self.refused += 1,
            Err(error) => panic!("{error}"),
        }
    }

    /// A random hold of a random node.
    fn pick(&mut self) -> Option<(usize, String, Hold)> {
        let node = self.random(NODES);
        let count = self.nodes[node].holds.len();
        if count == 0 {
            return None;
        }
        let at = self.random(count);
        let (request, hold) = self.nodes[node].holds.swap_remove(at);
        Some((node, request, hold))
    }

    /// Note in the journal and in the sums what became of a hold.
    fn ended(&mut self, node: usize, request: &str, lines: &[HoldLine]) {
        for line in lines {
            let told = self.nodes[node].journal.get_mut(&line.lease).unwrap();
            told.under_way.retain(|(name, _)| name != request);
            told.settled += line.settled;
            *self.used.entry(line.key().clone()).or_default() += line.settled;
        }
    }

    fn settle(&mut self) {
        let Some((node, request, hold)) = self.pick() else { return };
        let used = self.amount(60) - 10;
        let settled = hold.settle(|_| used);
        self.ended(node, &request, &settled.lines);
    }

    /// Drop a hold unsettled.
    fn lose(&mut self) {
        let Some((node, request, hold)) = self.pick() else { return };
        let mut lines = hold.lines().to_vec();
        for line in &mut lines {
            line.settled = line.amount;
        }
        drop(hold);
        self.ended(node, &request, &lines);
    }

    async fn tick(&mut self) {
        let node = self.random(NODES);
        self.nodes[node].ledger.tick().await.unwrap();
    }

    async fn give_back(&mut self) {
        let node = self.random(NODES);
        self.nodes[node].ledger.give_back_idle(Duration::ZERO).await.unwrap();
    }

    /// A node dies with all it holds, and starts again with its journal.
    async fn kill(&mut self) {
        let node = self.random(NODES);
        let again = open(&self.store, &self.nodes[node].name).await;
        let dead = &mut self.nodes[node];
        dead.ledger = again;
        for (request, hold) in dead.holds.drain(..) {
            self.unresolved.push((request, hold.lines().to_vec()));
        }
        let uses = dead.journal.drain().map(|(lease, told)| LeaseUse {
            lease,
            settled: told.settled,
            unresolved: told.under_way,
        });
        let journal = Journal::Kept(uses.collect());
        dead.ledger.recover(&dead.name, journal.clone()).await.unwrap();
        assert_eq!(dead.ledger.recover(&dead.name, journal).await.unwrap().leases, 0);
    }

    async fn settle_late(&mut self) {
        if self.unresolved.is_empty() {
            return;
        }
        let (request, lines) = self.unresolved.swap_remove(self.random(self.unresolved.len()));
        let ledger = self.nodes[self.random(NODES)].ledger.clone();
        let used = self.amount(60);
        let late = ledger.settle_late(&request, &[], |_, amount| used.min(amount)).await.unwrap();
        assert_eq!((late.lines, late.uncovered), (u64::try_from(lines.len()).unwrap(), 0), "{request}");
        for line in lines {
            *self.used.entry(line.key().clone()).or_default() += used.min(line.amount);
        }
        assert_eq!(ledger.settle_late(&request, &[], |_, amount| amount).await.unwrap().lines, 0, "once");
    }

    async fn change_limits(&mut self) {
        let at = self.random(self.keys.len());
        let change = self.amount(400) - 180;
        let (_, limit) = &mut self.keys[at];
        *limit = (*limit + change).max(100);
        if self.random(4) == 0 {
            let raise = NewRaise {
                budget: self.keys[at].0.budget.to_string(),
                whom: None,
                unit: self.keys[at].0.unit,
                window: None,
                amount: self.amount(100) + 1,
                until: base::Clock::now(self.backend.clock()).plus(Duration::from_mins(7)),
                by: "operator".to_owned(),
                reason: "test".to_owned(),
            };
            self.nodes[0].ledger.raise(raise).await.unwrap();
        }
    }

    async fn balances(&self) {
        let ledger = &self.nodes[0].ledger;
        assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new());
    }

    async fn end(mut self) {
        while !self.unresolved.is_empty() {
            self.settle_late().await;
        }
        for node in 0..NODES {
            for (request, hold) in std::mem::take(&mut self.nodes[node].holds) {
                let settled = hold.settle(|line| line.amount / 2);
                self.ended(node, &request, &settled.lines);
            }
            self.nodes[node].ledger.close().await;
        }
        self.balances().await;
        for (key, _) in &self.keys {
            let balance = self.nodes[0].ledger.balance(key).await.unwrap().unwrap();
            assert_eq!((balance.held, balance.leased), (0, 0), "{key:?}");
            if key.window == Window::Total {
                assert_eq!(balance.spent, self.used[key], "{key:?}");
            }
        }
        assert!(self.granted > 1000 && self.refused > 500, "{} granted, {} refused", self.granted, self.refused);
    }
}

pub(crate) async fn ten_thousand_random_cycles_balance<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let mut run = Run::new(backend).await;
    for cycle in 0..CYCLES {
        run.cycle().await;
        // Each commit is checked by the database's own constraint; the sums, now and then.
        if cycle % 100 == 0 {
            run.balances().await;
        }
    }
    run.end().await;
}

pub(crate) async fn a_window_boundary_under_load_grants_each_period_once<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let nodes = [open(&store, "a").await, open(&store, "b").await];
    let hour = key("cap", Window::Calendar(Period::Hour));
    let granted = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (ledger, granted) = (nodes[n % 2].clone(), Arc::clone(&granted));
        let wants = [want(&ledger, &hour, 100, 1)];
        tasks.spawn(async move {
            for _ in 0..200 {
                if let Ok(hold) = ledger.reserve(&wants).await {
                    let lease = hold.lines()[0].lease;
                    granted.lock().unwrap().push(lease);
                    drop(hold.settle(|line| line.amount));
                }
                tokio::task::yield_now().await;
            }
        });
    }
    // Three hours pass while they ask.
    for _ in 0..36 {
        backend.clock().advance(Duration::from_mins(5));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    tasks.join_all().await;
    for node in &nodes {
        node.close().await;
        assert_eq!(node.verify().await.unwrap(), Vec::<String>::new());
    }
    let granted = granted.lock().unwrap().len();
    assert!((1..=400).contains(&granted), "{granted} of 100 in each of four hours");
}

pub(crate) async fn whoever_asks_and_goes_loses_nothing<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let cap = day("cap");
    let wants = [want(&ledger, &cap, 50, 1)];
    for _ in 0..20 {
        // Polled once: the transaction has begun, and nobody waits for it.
        if let Some(Ok(hold)) = ledger.reserve(&wants).now_or_never() {
            let _ = hold.release();
        }
    }
    let mut holds = Vec::new();
    while let Ok(hold) = ledger.reserve(&wants).await {
        holds.push(hold);
    }
    assert_eq!(holds.len(), 50);
    drop(holds);
    ledger.close().await;
    books(&ledger, &cap, (50, 0, 0)).await;
}

pub(crate) async fn a_silent_node_is_charged_in_full_until_its_journal_turns_up<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (dead, living) = (open(&store, "dead").await, open(&store, "living").await);
    let cap = day("cap");
    let under_way = dead.reserve(&[want(&dead, &cap, 1000, 10)]).await.unwrap();
    let lease = under_way.lines()[0].lease;
    std::mem::forget(under_way);
    drop(dead.reserve(&[want(&dead, &cap, 1000, 10)]).await.unwrap().settle(|_| 3));
    assert_eq!(living.recover("dead", Journal::Lost).await.unwrap_err().reason(), "conflict", "it may live");
    living.tick().await.unwrap();
    books(&living, &cap, (0, 0, 200)).await;

    backend.clock().advance(Duration::from_secs(61));
    living.tick().await.unwrap();
    books(&living, &cap, (200, 0, 0)).await;
    // It was only silent: what it says now counts.
    dead.give_back_idle(Duration::ZERO).await.unwrap();
    books(&living, &cap, (3, 0, 10)).await;

    backend.clock().advance(Duration::from_secs(61));
    living.tick().await.unwrap();
    let unresolved = vec![("req_1".to_owned(), 10)];
    let journal = Journal::Kept(vec![LeaseUse { lease, settled: 3, unresolved }]);
    let recovered = living.recover("dead", journal).await.unwrap();
    assert_eq!((recovered.spent, recovered.held, recovered.returned), (0, 10, 0));
    books(&living, &cap, (3, 10, 0)).await;
    // Nobody resolves it: after its grace it is charged as it was estimated, and a late usage corrects that.
    backend.clock().advance(Duration::from_mins(61));
    living.tick().await.unwrap();
    books(&living, &cap, (13, 0, 0)).await;
    assert_eq!(living.settle_late("req_1", &[], |_, _| 4).await.unwrap().lines, 1);
    books(&living, &cap, (7, 0, 0)).await;
}

pub(crate) async fn an_estimate_is_corrected_once<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let cap = day("cap");
    let settled = ledger.reserve(&[want(&ledger, &cap, 1000, 100)]).await.unwrap().settle(|line| line.amount);
    for _ in 0..2 {
        ledger
            .settle_late("req_1", &settled.lines, |unit, _| if unit == Unit::NanoUsd { 30 } else { 0 })
            .await
            .unwrap();
        ledger.give_back_idle(Duration::ZERO).await.unwrap();
        books(&ledger, &cap, (30, 0, 0)).await;
    }
    assert_eq!(ledger.settle_late("req_2", &[], |_, _| 1).await.unwrap().lines, 0, "nobody knows it");
}

pub(crate) async fn what_is_released_and_used_after_all_is_charged_as_far_as_there_is_room<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let settings = LedgerSettings { unresolved: store::Unresolved::Release, ..LedgerSettings::new("a") };
    let first = Ledger::open(&store, settings.clone()).await.unwrap();
    let cap = day("cap");
    let hold = first.reserve(&[want(&first, &cap, 10, 10)]).await.unwrap();
    let unresolved = vec![("req_1".to_owned(), 10)];
    let lease = hold.lines()[0].lease;
    std::mem::forget(hold);
    let ledger = Ledger::open(&store, settings).await.unwrap();
    ledger.recover("a", Journal::Kept(vec![LeaseUse { lease, settled: 0, unresolved }])).await.unwrap();
    assert!(ledger.reserve(&[want(&ledger, &cap, 10, 1)]).await.is_err(), "it is held");
    backend.clock().advance(Duration::from_mins(61));
    ledger.tick().await.unwrap();
    drop(ledger.reserve(&[want(&ledger, &cap, 10, 7)]).await.unwrap());
    ledger.give_back_idle(Duration::ZERO).await.unwrap();
    let late = ledger.settle_late("req_1", &[], |_, _| 5).await.unwrap();
    assert_eq!((late.lines, late.uncovered), (1, 2));
    books(&ledger, &cap, (10, 0, 0)).await;
}

pub(crate) async fn what_was_charged_and_not_written_into_the_journal_is_not_charged_twice<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let first = open(&store, "a").await;
    let cap = day("cap");
    let ended = first.reserve(&[want(&first, &cap, 30, 10)]).await.unwrap();
    let under_way = first.reserve(&[want(&first, &cap, 30, 10)]).await.unwrap();
    let lease = ended.lines()[0].lease;
    // It ends, the database learns it, and then the process dies before its journal does.
    drop(ended.settle(|_| 4));
    first.give_back_idle(Duration::ZERO).await.unwrap();
    books(&first, &cap, (4, 0, 10)).await;
    std::mem::forget(under_way);
    let ledger = open(&store, "a").await;
    let unresolved = vec![("req_1".to_owned(), 10), ("req_2".to_owned(), 10)];
    ledger.recover("a", Journal::Kept(vec![LeaseUse { lease, settled: 0, unresolved }])).await.unwrap();
    books(&ledger, &cap, (4, 10, 0)).await;
    assert_eq!(ledger.settle_late("req_2", &[], |_, whole| whole - 1).await.unwrap().uncovered, 0);
    assert_eq!(ledger.settle_late("req_1", &[], |_, _| 4).await.unwrap().uncovered, 0);
    books(&ledger, &cap, (13, 0, 0)).await;
}

pub(crate) async fn a_lost_journal_charges_all_that_was_leased<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let first = open(&store, "a").await;
    drop(first.reserve(&[want(&first, &day("cap"), 1000, 1)]).await.unwrap());
    let again = open(&store, "a").await;
    let recovered = again.recover("a", Journal::Lost).await.unwrap();
    assert_eq!((recovered.leases, recovered.spent), (1, 20));
    books(&again, &day("cap"), (20, 0, 0)).await;
}

pub(crate) async fn a_raise_lets_more_in_until_it_ends<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (ledger, other) = (open(&store, "a").await, open(&store, "b").await);
    let cap = day("cap");
    let take = |ledger: &Ledger| {
        let (ledger, wants) = (ledger.clone(), [want(ledger, &cap, 10, 1)]);
        async move { ledger.reserve(&wants).await.map(drop) }
    };
    for _ in 0..10 {
        take(&ledger).await.unwrap();
    }
    take(&ledger).await.unwrap_err();
    let raise = NewRaise {
        budget: "cap".to_owned(),
        whom: None,
        unit: Unit::NanoUsd,
        window: None,
        amount: 5,
        until: base::Clock::now(backend.clock()).plus(Duration::from_mins(10)),
        by: "operator".to_owned(),
        reason: "the demo".to_owned(),
    };
    let id = ledger.raise(raise.clone()).await.unwrap();
    assert_eq!(ledger.raises(Some("cap")).await.unwrap().len(), 1);
    assert_eq!(ledger.balance(&cap).await.unwrap().unwrap().remaining(), 5);
    for _ in 0..3 {
        take(&ledger).await.unwrap();
    }
    // What of it is leased and not spent when it ends goes back.
    backend.clock().advance(Duration::from_mins(10));
    take(&ledger).await.unwrap_err();
    take(&other).await.unwrap_err();
    assert!(ledger.raises(None).await.unwrap().is_empty());
    assert_eq!(ledger.end_raise(id).await.unwrap_err().reason(), "not_found");
    ledger.close().await;
    books(&other, &cap, (13, 0, 0)).await;
    // Ended by hand, it ends too.
    let until = base::Clock::now(backend.clock()).plus(Duration::from_hours(1));
    let id = other.raise(NewRaise { amount: 100, until, ..raise }).await.unwrap();
    take(&other).await.unwrap();
    other.end_raise(id).await.unwrap();
    take(&other).await.unwrap_err();
    other.close().await;
    books(&other, &cap, (14, 0, 0)).await;
}

pub(crate) async fn what_lies_idle_is_given_to_those_who_ask<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (one, two) = (open(&store, "a").await, open(&store, "b").await);
    let cap = day("cap");
    drop(one.reserve(&[want(&one, &cap, 10, 5)]).await.unwrap().release());
    let wants = [want(&two, &cap, 10, 6)];
    assert!(two.reserve(&wants).await.is_err());
    one.tick().await.unwrap();
    assert!(two.reserve(&wants).await.is_err(), "asked a moment ago");
    backend.clock().advance(Duration::from_secs(1));
    drop(two.reserve(&wants).await.unwrap());
    // Idle for a minute, a block goes back by itself, and its account is forgotten.
    drop(one.reserve(&[want(&one, &cap, 10, 1)]).await.unwrap());
    backend.clock().advance(Duration::from_secs(61));
    // What wrote its end may hold it a moment longer.
    for _ in 0..100 {
        one.tick().await.unwrap();
        if one.counters().accounts == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    two.tick().await.unwrap();
    assert_eq!(one.counters().accounts, 0);
    books(&one, &cap, (7, 0, 0)).await;
}

pub(crate) async fn what_nobody_else_wants_is_kept<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let (one, two) = (open(&store, "a").await, open(&store, "b").await);
    let (ours, theirs) = (day("ours"), day("theirs"));
    drop(one.reserve(&[want(&one, &ours, 1000, 5)]).await.unwrap().release());
    drop(two.reserve(&[want(&two, &theirs, 1000, 5)]).await.unwrap().release());
    for _ in 0..3 {
        one.tick().await.unwrap();
        two.tick().await.unwrap();
        drop(one.reserve(&[want(&one, &ours, 1000, 5)]).await.unwrap().release());
        backend.clock().advance(Duration::from_secs(1));
    }
    assert_eq!(one.counters().leases, 1, "the first block served them all");
}

pub(crate) async fn memory_is_bounded_and_full_memory_refuses<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let settings = LedgerSettings { max_accounts: 20, ..LedgerSettings::new("a") };
    let ledger = Ledger::open(&store, settings).await.unwrap();
    let whom = |n: usize| AccountKey { whom: format!("user {n}").into(), ..day("each") };
    for n in 0..20 {
        drop(ledger.reserve(&[want(&ledger, &whom(n), 100, 1)]).await.unwrap());
        backend.clock().advance(Duration::from_millis(100));
    }
    assert_eq!(ledger.account(&whom(20)).unwrap_err().reason(), "store_busy");
    ledger.tick().await.unwrap();
    assert!(ledger.counters().accounts < 20, "those used longest ago went");
    drop(ledger.reserve(&[want(&ledger, &whom(20), 100, 1)]).await.unwrap());
    ledger.close().await;
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new());
    let long = AccountKey { whom: "x".repeat(513).into(), ..day("each") };
    assert_eq!(open(&store, "b").await.account(&long).unwrap_err().reason(), "too_long");
}

pub(crate) async fn periods_long_past_are_forgotten_and_all_time_is_not<B: Backend>() {
    let Some(backend) = B::fresh() else { return };
    let store = backend.open().await;
    let ledger = open(&store, "a").await;
    let keys = [day("cap"), key("roll", Window::Rolling(Duration::from_hours(1))), key("all", Window::Total)];
    let use_all = || async {
        for key in &keys {
            drop(ledger.reserve(&[want(&ledger, key, DIME, 1)]).await.unwrap());
        }
        ledger.give_back_idle(Duration::ZERO).await.unwrap();
    };
    use_all().await;
    let now = base::Clock::now(backend.clock());
    assert_eq!(ledger.forget_before(now, 100).await.unwrap(), 0, "they count");
    backend.clock().advance(Duration::from_hours(48));
    assert_eq!(ledger.forget_before(now.plus(Duration::from_hours(47)), 100).await.unwrap(), 2);
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new());
    use_all().await;
    books(&ledger, &keys[0], (1, 0, 0)).await;
    books(&ledger, &keys[2], (2, 0, 0)).await;
}

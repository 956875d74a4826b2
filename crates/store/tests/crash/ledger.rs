//! kill -9 in the middle of leasing, settling, giving back and recovering. The child keeps a journal as the product does: a
//! request's begin before it is served, its end after it is settled. What each request uses follows from its name, so the
//! parent knows to the last unit what must have been spent.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Name, Rng, SeededRng, SystemClock, SystemRng};
use store::{
    AccountKey, Expect, HoldLine, Journal, LeaseUse, Ledger, LedgerSettings, ReserveError, Store, StoreUrl, Unit, Want,
    Window,
};
use tokio::task::JoinSet;
use vectors::postgres::{Cluster, Disk};

use super::{CHILDREN, Kill, acknowledge, kill_while_writing};

/// In the child's environment only: the database and the round.
const CHILD_URL: &str = "VOUCHGATE_TEST_CRASH_URL";
const CHILD_ROUND: &str = "VOUCHGATE_TEST_CRASH_ROUND";
/// How many kills; the tests' own number, unless `cargo xtask torture` says another.
const ROUNDS: &str = "VOUCHGATE_TEST_TORTURE";
const SERVERS: usize = 8;
const NODE: &str = "n";
/// A database is used for this many kills.
const PER_DATABASE: usize = 50;

/// Ample, so tight that most are refused, and one that rolls.
fn accounts(round: usize) -> Vec<(AccountKey, i64)> {
    let key = |budget: &str, window| AccountKey { budget: budget.into(), whom: "".into(), unit: Unit::NanoUsd, window };
    let grown = i64::try_from(round).unwrap() + 1;
    vec![
        (key("ample", Window::Total), 1_000_000_000),
        (key("tight", Window::Total), grown * 500),
        (key("month", Window::Rolling(Duration::from_hours(720))), 1_000_000_000),
    ]
}

/// What a request uses of what it holds.
fn usage(request: &str, whole: i64) -> i64 {
    let hash = request.bytes().fold(7i64, |hash, byte| (hash * 31 + i64::from(byte)) % 1009);
    if hash % 5 == 0 { whole } else { hash % (whole + 1) }
}

async fn open(dir: &Path, url: &str) -> Store {
    Store::open(&StoreUrl::parse(url).unwrap(), dir, Arc::new(SystemClock), Arc::new(SystemRng)).await.unwrap()
}

fn journal_file(dir: &Path) -> PathBuf {
    dir.join("test-journal")
}

/// Append one line, whole.
fn note(journal: &Mutex<File>, line: &str) {
    journal.lock().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[derive(Default)]
struct Request {
    /// Lease, account and amount of each part.
    lines: Vec<(i64, String, i64)>,
    ended: bool,
}

/// Every request in the journal, oldest first.
fn read_journal(dir: &Path) -> Vec<(String, Request)> {
    let text = std::fs::read_to_string(journal_file(dir)).unwrap_or_default();
    let mut order = Vec::new();
    let mut requests: HashMap<String, Request> = HashMap::new();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let mut words = line.split(' ');
        let (what, request) = (words.next().unwrap(), words.next().unwrap());
        let entry = requests.entry(request.to_owned()).or_insert_with(|| {
            order.push(request.to_owned());
            Request::default()
        });
        match what {
            "begun" => {
                for part in words {
                    let mut part = part.split(':');
                    let mut next = || part.next().unwrap();
                    let (lease, account, amount) = (next(), next(), next());
                    entry.lines.push((lease.parse().unwrap(), account.to_owned(), amount.parse().unwrap()));
                }
            }
            _ => entry.ended = true,
        }
    }
    order.into_iter().map(|request| requests.remove_entry(&request).unwrap()).collect()
}

/// What the journal says of each lease.
fn uses(requests: &[(String, Request)]) -> Journal {
    let mut leases: HashMap<i64, LeaseUse> = HashMap::new();
    for (name, request) in requests {
        for (lease, _, amount) in &request.lines {
            let nothing = || LeaseUse { lease: *lease, settled: 0, unresolved: Vec::new() };
            let told = leases.entry(*lease).or_insert_with(nothing);
            if request.ended {
                told.settled += usage(name, *amount);
            } else {
                told.unresolved.push((name.clone(), *amount));
            }
        }
    }
    Journal::Kept(leases.into_values().collect())
}

fn variable(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods)] // the child is told by its environment
    std::env::var(name).ok()
}

/// The child: recover as a start does, then serve until killed.
pub(crate) async fn serve_until_killed(dir: &Path) {
    let round: usize = variable(CHILD_ROUND).unwrap().parse().unwrap();
    let store = open(dir, &variable(CHILD_URL).unwrap()).await;
    let ledger = Ledger::open(&store, LedgerSettings::new(NODE)).await.unwrap();
    acknowledge("opened");
    ledger.recover(NODE, uses(&read_journal(dir))).await.unwrap();
    let journal = OpenOptions::new().create(true).append(true).open(journal_file(dir)).unwrap();
    let journal = Arc::new(Mutex::new(journal));
    let mut tasks = JoinSet::new();
    for server in 0..SERVERS {
        let (store, ledger, journal) = (store.clone(), ledger.clone(), Arc::clone(&journal));
        tasks.spawn(async move {
            let rng = SeededRng::new(u64::try_from(round * SERVERS + server).unwrap());
            // Ends reach the journal a little late, as in the product, where nobody waits for them.
            let mut ended = Vec::new();
            for n in 0..100_000 {
                let name = format!("r{round}-{server}-{n}");
                ended.extend(serve(&store, &ledger, &journal, (&name, round, &rng)).await);
                if ended.len() > 3 {
                    note(&journal, &std::mem::take(&mut ended).join("\n"));
                }
            }
        });
    }
    tasks.join_all().await;
}

/// One step; the line of a request that has ended.
async fn serve(
    store: &Store,
    ledger: &Ledger,
    journal: &Mutex<File>,
    (name, round, rng): (&str, usize, &SeededRng),
) -> Option<String> {
    let mut dice = [0u8; 4];
    rng.fill(&mut dice);
    match dice[0] {
        0..20 => {
            let name = Name::new(name).unwrap();
            store.resources().put(("m", &name), name.as_str().to_owned(), Expect::Absent, "a").await.unwrap();
            acknowledge(&format!("resource {name}"));
        }
        20..30 => ledger.tick().await.unwrap(),
        30..45 => ledger.give_back_idle(Duration::ZERO).await.unwrap(),
        _ => {
            let want = |(key, limit): &(AccountKey, i64)| Want {
                account: ledger.account(key).unwrap(),
                limit: *limit,
                amount: i64::from(dice[1] % 60) + 1,
                enforce: true,
            };
            let wants: Vec<Want> = accounts(round).iter().take(usize::from(dice[2] % 3) + 1).map(want).collect();
            let hold = match ledger.reserve(&wants).await {
                Ok(hold) => hold,
                Err(error) => {
                    assert!(matches!(error, ReserveError::Exhausted { .. }), "{error}");
                    return None;
                }
            };
            let part = |line: &HoldLine| format!("{}:{}:{}", line.lease, line.key().budget, line.amount);
            let parts: Vec<String> = hold.lines().iter().map(part).collect();
            note(journal, &format!("begun {name} {}", parts.join(" ")));
            acknowledge(&format!("request {name}"));
            if dice[3] < 8 {
                // Never ends: a long stream.
                std::mem::forget(hold);
                return None;
            }
            tokio::task::yield_now().await;
            let _ = hold.settle(|line| usage(name, line.amount));
            return Some(format!("ended {name}"));
        }
    }
    None
}

/// What was found over all kills.
#[derive(Default)]
struct Figures {
    kills: usize,
    resources: usize,
    requests: usize,
    unresolved: usize,
}

/// Kill a child that serves from the database at `url`, `rounds` times, and look at the books after each.
async fn torture(test: &str, (url, rounds): (&str, usize), server: &mut Option<Cluster>, figures: &mut Figures) {
    let dir = tempfile::tempdir().unwrap();
    let rng = SeededRng::new(0x001e_d9e4);
    let mut resources = Vec::new();
    let mut uncovered = 0;
    for round in 0..rounds {
        let number = round.to_string();
        let environment = [(CHILD_URL, url), (CHILD_ROUND, &*number)];
        let mut crash = || {
            // Now and then the database's server dies with it.
            if let Some(server) = server.as_mut().filter(|_| round % 5 == 4) {
                assert!(server.crash());
            }
        };
        let mut kill = Kill { dir: dir.path(), environment: &environment, before: &mut crash };
        let acknowledged = kill_while_writing(test, &mut kill, &rng);
        if let Some(server) = server.as_mut().filter(|_| round % 5 == 4) {
            assert!(server.restart());
        }
        assert!(!acknowledged.is_empty(), "round {round}: the child served");
        resources.extend(acknowledged.iter().filter_map(|line| line.strip_prefix("resource ")).map(str::to_owned));

        let store = open(dir.path(), url).await;
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new(), "round {round}");
        let stored = store.resources().all().await.unwrap();
        let names: std::collections::HashSet<_> = stored.iter().map(|resource| resource.name.as_str()).collect();
        for name in &resources {
            assert!(names.contains(name.as_str()), "round {round}: {name} was acknowledged and is gone");
        }
        let requests = read_journal(dir.path());
        for line in acknowledged.iter().filter_map(|line| line.strip_prefix("request ")) {
            assert!(requests.iter().any(|(name, _)| name == line), "round {round}: {line} began and is gone");
        }
        // As it was left, before anybody recovers anything.
        let ledger = Ledger::open(&store, LedgerSettings::new("auditor")).await.unwrap();
        assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new(), "round {round}");
        // Every other time the next child is the first to recover.
        if round % 2 == 1 || round + 1 == rounds {
            uncovered += reconcile(&store, dir.path(), (&requests, round, uncovered)).await;
        }
        figures.kills += 1;
        figures.unresolved += requests.iter().filter(|(_, request)| !request.ended).count();
        if round + 1 == rounds {
            figures.requests += requests.len();
            figures.resources += resources.len();
        }
        store.close().await;
    }
}

/// Recover by the journal, settle what never ended, and compare with what every request must have used. Returns what could
/// not be charged.
async fn reconcile(
    store: &Store,
    dir: &Path,
    (requests, round, uncovered_before): (&[(String, Request)], usize, i64),
) -> i64 {
    let ledger = Ledger::open(store, LedgerSettings::new(NODE)).await.unwrap();
    ledger.recover(NODE, uses(requests)).await.unwrap();
    assert_eq!(ledger.recover(NODE, uses(requests)).await.unwrap().leases, 0, "round {round}: once");
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new(), "round {round}");
    let journal = Mutex::new(OpenOptions::new().create(true).append(true).open(journal_file(dir)).unwrap());
    let mut uncovered = 0;
    for (name, _) in requests.iter().filter(|(_, request)| !request.ended) {
        let late = ledger.settle_late(name, &[], |_, whole| usage(name, whole)).await.unwrap();
        uncovered += late.uncovered;
        note(&journal, &format!("ended {name}"));
    }
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new(), "round {round}");
    let mut missing = uncovered + uncovered_before;
    for (key, limit) in accounts(round) {
        let used = requests.iter().flat_map(|(name, request)| {
            let of = request.lines.iter().filter(|(_, account, _)| **account == *key.budget);
            of.map(|(_, _, amount)| usage(name, *amount))
        });
        let used: i64 = used.sum();
        let balance = ledger.balance(&key).await.unwrap();
        let (spent, held, leased) = balance.map_or((0, 0, 0), |b| (b.spent, b.held, b.leased));
        assert_eq!((held, leased), (0, 0), "round {round}: {key:?}");
        assert!(spent <= limit, "round {round}: {key:?}");
        assert!(spent <= used && used - spent <= missing, "round {round}: {key:?}: {spent} of {used}");
        missing -= used - spent;
    }
    assert_eq!(missing, 0, "round {round}: what could not be charged is known");
    uncovered
}

fn rounds(usual: usize) -> usize {
    variable(ROUNDS).map_or(usual, |rounds| rounds.parse().unwrap())
}

fn report(engine: &str, figures: &Figures) {
    let Figures { kills, resources, requests, unresolved } = figures;
    println!(
        "torture on {engine}: {kills} kills; {resources} acknowledged writes and {requests} requests, none lost; \
         {unresolved} times a request was under way or its end not written; the books balanced each time"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_balance_when_the_process_is_killed() {
    if let Some(dir) = variable(super::DIR) {
        return serve_until_killed(Path::new(&dir)).await;
    }
    let _alone = CHILDREN.lock().await;
    let mut figures = Figures::default();
    let mut left = rounds(25);
    while left > 0 {
        let now = left.min(PER_DATABASE);
        let test = "ledger::the_books_balance_when_the_process_is_killed";
        torture(test, ("sqlite:", now), &mut None, &mut figures).await;
        left -= now;
    }
    report("SQLite", &figures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_balance_on_postgresql_when_process_or_server_are_killed() {
    if let Some(dir) = variable(super::DIR) {
        return serve_until_killed(Path::new(&dir)).await;
    }
    let _alone = CHILDREN.lock().await;
    let Some(cluster) = Cluster::start(Disk::Durable) else {
        return vectors::skip("the torture on PostgreSQL", "PostgreSQL is not installed");
    };
    let mut server = Some(cluster);
    let mut figures = Figures::default();
    let mut left = rounds(10);
    while left > 0 {
        let now = left.min(PER_DATABASE);
        let url = server.as_ref().and_then(Cluster::database).unwrap();
        let test = "ledger::the_books_balance_on_postgresql_when_process_or_server_are_killed";
        torture(test, (&url, now), &mut server, &mut figures).await;
        left -= now;
    }
    report("PostgreSQL", &figures);
}

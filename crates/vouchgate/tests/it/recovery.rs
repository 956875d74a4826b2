//! kill -9 of the real program under load: what it had set aside of budgets is settled by its audit log at the next start, to the
//! last unit; nothing that was acknowledged is lost; the log verifies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use audit::disk::{Disk, RealDisk};
use audit::verify::{self, Trusted};
use base::{Name, Rng, SeededRng, SystemClock, SystemRng};
use serde_json::{Value, json};
use store::{AccountKey, Ledger, LedgerSettings, Store, StoreUrl, Unit, Window};
use testkit::mock::{Answer, Gate, Mock};
use testkit::patiently;
use testkit::raw::Connection;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{APP, Program, command, provider, run, secret_file, write_config};

/// What a request may take at most, and what it does take, in nano-USD.
const HELD: i64 = 100_000_000;
const USED: i64 = 40_000_000;
/// How many requests of the second model there may be, more after each kill: fewer than are asked for.
const TIGHT: usize = 15;
/// How many callers there are at once.
const CALLERS: usize = 8;
/// How often what is left is compared with what must be.
const AUDIT: usize = 5;
/// How many answers there are before a kill, at most. Of many kills most come early: what all of them left is read after each.
const ANSWERS: usize = 352;
const EARLY: usize = 64;
/// So many kills are many, and so often one of them comes late.
const MANY: usize = 100;
const LATE: usize = 8;
/// After so many kills the next ones are of a new data directory, since all that the old one holds is read after each.
const LIFE: usize = 250;

/// A number that `cargo xtask torture` says.
fn told(name: &str, usual: usize) -> usize {
    #[allow(clippy::disallowed_methods)] // of the task
    std::env::var(name).map_or(usual, |number| number.parse().unwrap())
}

fn rounds(usual: usize) -> usize {
    told("VOUCHGATE_TEST_TORTURE", usual)
}

/// How many kills each data directory sees.
fn lives(rounds: usize) -> impl Iterator<Item = usize> {
    (0..rounds).step_by(LIFE).map(move |begun| LIFE.min(rounds - begun))
}

fn configure(dir: &Path, mock: &Mock, (url, tight): (&str, usize)) {
    let key = secret_file(dir, "provider.key", "fake-provider-key");
    let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    let price = |model: &str| {
        format!(
            "[[price]]\nprovider = \"prov\"\nmodel = \"{model}\"\ninput = \"0 USD\"\noutput = \"1000 USD\"\ncontext = 10000\n\
             max_output = 4000\n"
        )
    };
    let budgets = format!(
        "[[budget]]\nname = \"ample\"\nlimit = \"100000 USD\"\nwindow = \"total\"\n\
         [[budget]]\nname = \"tight\"\nover = {{ model = \"prov/t\" }}\nrequests = {tight}\nwindow = \"total\"\n"
    );
    let limits = "[limits]\npre_stop = \"0s\"\ndrain_timeout = \"1s\"\n";
    let more = format!("[store]\nurl = \"{url}\"\n{limits}{APP}{prov}{}{}{budgets}", price("m"), price("t"));
    write_config(dir, "", &more);
}

fn answered() -> Answer {
    Answer::json(
        200,
        &json!({
            "id": "x", "object": "chat.completion", "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 40, "total_tokens": 47},
        }),
    )
}

fn ask(model: &str) -> String {
    json!({"model": format!("prov/{model}"), "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]})
        .to_string()
}

/// What one run of the program acknowledged.
#[derive(Default)]
struct Acknowledged {
    requests: Mutex<Vec<String>>,
    refused: Mutex<usize>,
    busy: Mutex<usize>,
    clients: Mutex<Vec<String>>,
    answers: watch::Sender<usize>,
    over: AtomicBool,
}

/// Ask as long as the program lives.
async fn call(program: std::net::SocketAddr, token: String, caller: usize, told: Arc<Acknowledged>) {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let Ok(stream) = tokio::net::TcpStream::connect(program).await else { return };
    drop(stream);
    let mut connection = Connection::open(program).await;
    for n in caller.. {
        if told.over.load(Ordering::Relaxed) {
            return;
        }
        let body = ask(if n % 4 == 0 { "t" } else { "m" });
        connection.request("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
        let Some(answer) = connection.try_response().await.filter(|answer| answer.complete) else { return };
        let id = answer.header("x-request-id").unwrap().to_owned();
        match answer.status() {
            200 => told.requests.lock().unwrap().push(id),
            429 => *told.refused.lock().unwrap() += 1,
            // A machine that is too busy to ask the budgets within a second: nothing is promised.
            503 if answer.text().contains("budget_unavailable") => *told.busy.lock().unwrap() += 1,
            other => panic!("{other}: {}", answer.text()),
        }
        told.answers.send_modify(|answers| *answers += 1);
    }
}

/// Make clients by the command line, as long as the program lives.
fn administrate(dir: &Path, round: usize, told: &Acknowledged) {
    for n in 0..1000 {
        if told.over.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("c{round}-{n}");
        let args = ["client", "create", &name, "--scope", "chat", "--config", "vouchgate.toml"];
        let (exit, _, said) = run(&args, dir, b"");
        if exit == 0 {
            told.clients.lock().unwrap().push(name);
        } else {
            assert!(told.over.load(Ordering::Relaxed) || exit == 2, "{said}");
            return;
        }
    }
}

/// What was found over all kills.
#[derive(Default)]
struct Figures {
    kills: usize,
    requests: usize,
    refused: usize,
    busy: usize,
    clients: Vec<String>,
    acknowledged: Vec<String>,
    unresolved: usize,
    entries: u64,
}

/// Start the program, let it work until a random moment within so many answers, and kill it.
async fn kill_under_load(dir: &Path, (round, within): (usize, usize), rng: &SeededRng, figures: &mut Figures) {
    let mut program = Program::serve(dir, &[]).await;
    let token = command(dir, &["token", "mint", "--client", "app"], b"");
    let told = Arc::<Acknowledged>::default();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(call(program.public, token.clone(), caller, Arc::clone(&told)));
    }
    let (at, clerk) = (dir.to_owned(), Arc::clone(&told));
    let clerk = tokio::task::spawn_blocking(move || administrate(&at, round, &clerk));
    let mut dice = [0u8; 2];
    rng.fill(&mut dice);
    // By what has been done, not by a clock: the same load on a slow machine.
    let due = 1 + usize::from(u16::from_le_bytes(dice)) % within;
    let mut answers = told.answers.subscribe();
    while *answers.borrow_and_update() < due {
        patiently("an answer", answers.changed()).await.unwrap();
    }
    program.process.signal("KILL");
    told.over.store(true, Ordering::Relaxed);
    program.process.ended().await;
    while callers.join_next().await.is_some() {}
    clerk.await.unwrap();
    figures.kills += 1;
    figures.acknowledged.append(&mut told.requests.lock().unwrap());
    figures.clients.append(&mut told.clients.lock().unwrap());
    figures.refused += *told.refused.lock().unwrap();
    figures.busy += *told.busy.lock().unwrap();
}

fn verified(dir: &Path, round: usize) -> verify::Report {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let report = verify::directory(&disk, &dir.join("data/audit"), &Trusted::default());
    assert!(report.valid, "round {round}: {report:?}");
    report
}

/// What the log says of every request: what it holds and what of that was settled, and to what, per unit.
fn logged(dir: &Path) -> BTreeMap<String, BTreeMap<String, [i64; 3]>> {
    let log = dir.join("data/audit");
    let vkey = std::fs::read_to_string(log.join("vkey")).unwrap();
    let verifier = audit::note::Verifier::parse(&vkey).unwrap();
    let reader = audit::Reader::open(Arc::new(RealDisk), &log, &verifier).unwrap();
    let mut requests = BTreeMap::<String, BTreeMap<String, [i64; 3]>>::new();
    for bundle in 0..reader.checkpoint().size.div_ceil(256) {
        for entry in reader.bundle(bundle).unwrap() {
            let entry: Value = serde_json::from_slice(&entry).unwrap();
            let kind = entry["kind"].as_str().unwrap();
            if !kind.starts_with("request.") || kind == "request.refused" {
                continue;
            }
            let request = requests.entry(entry["request"].as_str().unwrap().to_owned()).or_default();
            for (name, columns) in [("holds", &[(2, 0)][..]), ("settled", &[(2, 1), (3, 2)][..])] {
                for line in entry[name].as_array().into_iter().flatten() {
                    let sums = request.entry(line[1].as_str().unwrap().to_owned()).or_default();
                    for (from, to) in columns {
                        sums[*to] += line[*from].as_i64().unwrap();
                    }
                }
            }
        }
    }
    requests
}

/// Start once more, stop in order, and compare.
async fn compare(dir: &Path, (url, mock, tight): (&str, &Mock, usize), figures: &mut Figures) {
    let round = figures.kills;
    let mut program = Program::serve(dir, &[]).await;
    program.process.signal("TERM");
    assert!(program.process.ended().await.success(), "{}", program.process.output());
    figures.entries = verified(dir, round).size;

    let data = dir.join("data");
    let store =
        Store::open(&StoreUrl::parse(url).unwrap(), &data, Arc::new(SystemClock), Arc::new(SystemRng)).await.unwrap();
    assert_eq!(store.check().await.unwrap(), Vec::<String>::new(), "round {round}");
    for client in &figures.clients {
        let stored = store.clients().get(&Name::new(client).unwrap()).await.unwrap();
        assert!(stored.is_some(), "round {round}: {client} was acknowledged and is gone");
    }
    let ledger = Ledger::open(&store, LedgerSettings::new("auditor")).await.unwrap();
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new(), "round {round}");
    let balance = async |budget: &str, unit| {
        let key = AccountKey { budget: budget.into(), whom: "".into(), unit, window: Window::Total };
        let balance = ledger.balance(&key).await.unwrap();
        balance.map_or((0, 0, 0), |balance| (balance.spent, balance.held, balance.leased))
    };
    let (money, requests) = (balance("ample", Unit::NanoUsd).await, balance("tight", Unit::Requests).await);
    store.close().await;

    let logged = logged(dir);
    for id in &figures.acknowledged {
        assert!(logged.contains_key(id), "round {round}: {id} was answered and is not in the log");
    }
    let sum = |unit: &str, column: usize| -> i64 {
        logged.values().filter_map(|units| units.get(unit)).map(|sums| sums[column]).sum()
    };
    // What ended is charged by what it used, and what has no end holds all that it may have used.
    for (unit, (spent, held, leased)) in [("nano_usd", money), ("requests", requests)] {
        let (holds, settled, of) = (sum(unit, 0), sum(unit, 1), sum(unit, 2));
        assert_eq!((spent + held, leased), (settled + holds - of, 0), "round {round}: {unit}");
        assert!(spent >= settled, "round {round}: {unit}: {spent} of {settled}");
    }
    // What the provider answered has been paid for, and no more was asked of it than the budget allows.
    let asked = |model: &str| mock.requests().iter().filter(|request| request.json()["model"] == model).count();
    let (ample, of_tight) = (asked("m"), asked("t"));
    let total = i64::try_from(ample + of_tight).unwrap();
    assert!(money.0 + money.1 >= total * USED, "round {round}: {money:?} for {total}");
    assert!(of_tight <= tight, "round {round}: {of_tight} of {tight}");
    assert!(requests.0 + requests.1 >= i64::try_from(of_tight).unwrap(), "round {round}: {requests:?} for {of_tight}");
    figures.unresolved = logged.values().filter(|units| units.values().any(|[holds, _, of]| holds > of)).count();
    let open: i64 = logged.values().filter_map(|units| units.get("nano_usd")).map(|[holds, _, of]| holds - of).sum();
    assert_eq!(open % HELD, 0);
    figures.requests = ample + of_tight;
}

/// Kill it so many times, at moments that differ with each life.
async fn torture(name: &str, url: &str, (life, rounds): (usize, usize)) {
    let dir = tempfile::tempdir().unwrap();
    let mock = Mock::start_with(|_| answered()).await;
    let seed = told("VOUCHGATE_TEST_SEED", 0x00a0_d17e) + life;
    let rng = SeededRng::new(u64::try_from(seed).unwrap());
    let mut figures = Figures::default();
    for round in 0..rounds {
        let tight = TIGHT * (round + 1);
        configure(dir.path(), &mock, (url, tight));
        let within = if rounds > MANY && round % LATE != 0 { EARLY } else { ANSWERS };
        kill_under_load(dir.path(), (round, within), &rng, &mut figures).await;
        verified(dir.path(), round);
        if (round + 1) % AUDIT == 0 || round + 1 == rounds {
            compare(dir.path(), (url, &mock, tight), &mut figures).await;
        }
    }
    assert_eq!(run(&["audit", "verify", "--config", "vouchgate.toml"], dir.path(), b"").0, 0);
    let Figures { kills, requests, refused, busy, clients, acknowledged, unresolved, entries } = figures;
    // What it guards has been tried: in so many rounds more was asked for than the tight budget has.
    assert!(rounds < 5 || refused > 0, "the tight budget refused nothing");
    println!(
        "torture of the program on {name}, seed {seed}: {kills} kills; {requests} requests at the provider, {refused} refused, {busy} not asked \
         for in time, {} answers and {} administrative writes acknowledged, none lost; {unresolved} requests have no end; {entries} entries verify; the \
         books balanced each time",
        acknowledged.len(),
        clients.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_program_had_set_aside_is_settled_by_its_log() {
    for life in lives(rounds(25)).enumerate() {
        torture("SQLite", "sqlite:", life).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_program_had_set_aside_is_settled_by_its_log_on_postgresql() {
    for life in lives(rounds(10)).enumerate() {
        let Some(url) = vectors::postgres::database() else {
            return vectors::skip("kill -9 of the program on PostgreSQL", "PostgreSQL is not installed");
        };
        torture("PostgreSQL", &url, life).await;
    }
}

/// One request ended, and one under way, whose client waits.
async fn under_way(dir: &Path, mock: &Mock) -> (Program, Connection) {
    configure(dir, mock, ("sqlite:", 5));
    let program = Program::serve(dir, &[]).await;
    let token = command(dir, &["token", "mint", "--client", "app"], b"");
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut connection = Connection::open(program.public).await;
    mock.push(answered());
    connection.request("POST", "/v1/chat/completions", &headers, ask("m").as_bytes()).await;
    assert_eq!(connection.response().await.status(), 200);
    // What nobody waits for is on the disk once something behind it is: the beginning of the next.
    let gate = Gate::closed();
    mock.push(answered().hold_head(&gate));
    let before = mock.count();
    connection.request("POST", "/v1/chat/completions", &headers, ask("m").as_bytes()).await;
    mock.request(before).await;
    (program, connection)
}

/// That, and a kill.
async fn killed(dir: &Path, mock: &Mock) {
    let (mut program, _waiting) = under_way(dir, mock).await;
    program.process.signal("KILL");
    program.process.ended().await;
}

/// What the account of money has after another start and an orderly end.
async fn settled(dir: &Path) -> (i64, i64, i64) {
    let mut program = Program::serve(dir, &[]).await;
    program.process.signal("TERM");
    assert!(program.process.ended().await.success(), "{}", program.process.output());
    let url = StoreUrl::parse("sqlite:").unwrap();
    let store = Store::open(&url, &dir.join("data"), Arc::new(SystemClock), Arc::new(SystemRng)).await.unwrap();
    let ledger = Ledger::open(&store, LedgerSettings::new("auditor")).await.unwrap();
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new());
    let key = AccountKey { budget: "ample".into(), whom: "".into(), unit: Unit::NanoUsd, window: Window::Total };
    let balance = ledger.balance(&key).await.unwrap().unwrap();
    store.close().await;
    (balance.spent, balance.held, balance.leased)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_stays_held_and_what_was_not_used_is_free_again() {
    let (dir, mock) = (tempfile::tempdir().unwrap(), Mock::start().await);
    killed(dir.path(), &mock).await;
    assert_eq!(settled(dir.path()).await, (USED, HELD, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_of_the_log_takes_nothing_with_it_that_was_acknowledged() {
    let (dir, mock) = (tempfile::tempdir().unwrap(), Mock::start().await);
    killed(dir.path(), &mock).await;
    let journal = dir.path().join("data/audit/journal");
    let last = std::fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = std::fs::read(&last).unwrap();
    bytes.extend_from_slice(&[0, 0, 1, 17, 3]);
    std::fs::write(&last, bytes).unwrap();
    assert_eq!(settled(dir.path()).await, (USED, HELD, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_log_all_that_was_leased_counts_as_spent() {
    let (dir, mock) = (tempfile::tempdir().unwrap(), Mock::start().await);
    killed(dir.path(), &mock).await;
    std::fs::rename(dir.path().join("data/audit"), dir.path().join("moved-away")).unwrap();
    let (spent, held, leased) = settled(dir.path()).await;
    assert!(spent > USED + HELD && held == 0 && leased == 0, "{spent} {held} {leased}");
    // The new log knows nothing of them either, and the next start has nothing to settle.
    assert_eq!(settled(dir.path()).await, (spent, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_may_have_gone_on_without_a_record_is_charged_whole() {
    let (dir, mock) = (tempfile::tempdir().unwrap(), Mock::start().await);
    killed(dir.path(), &mock).await;
    let path = dir.path().join("vouchgate.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n[audit]\non_failure = \"allow\"\n")).unwrap();
    let (spent, held, leased) = settled(dir.path()).await;
    assert!(spent > USED + HELD && held == 0 && leased == 0, "{spent} {held} {leased}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_aside_when_a_backup_was_taken_is_settled_where_it_is_restored() {
    let (dir, other, mock) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Mock::start().await);
    let (mut program, _waiting) = under_way(dir.path(), &mock).await;
    command(dir.path(), &["backup", "all.backup"], b"");
    program.process.signal("KILL");
    program.process.ended().await;
    configure(other.path(), &mock, ("sqlite:", 5));
    std::fs::create_dir_all(other.path().join("data")).unwrap();
    std::fs::copy(dir.path().join("data/master.key"), other.path().join("data/master.key")).unwrap();
    command(other.path(), &["restore", dir.path().join("all.backup").to_str().unwrap()], b"");
    assert_eq!(settled(other.path()).await, (USED, HELD, 0));
    // As where it was taken.
    assert_eq!(settled(dir.path()).await, (USED, HELD, 0));
}

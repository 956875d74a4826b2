//! What nodes share by Redis: used proofs, rates and places, a server that stalls or goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, SystemClock, SystemRng};
use futures_util::future::join_all;
use store::{Claim, LimitWant, Limited, Replay, ReplayError, SharedError, SharedLimits, SharedReplay, SharedState};
use vectors::redis::Redis;

fn server(test: &str) -> Option<Redis> {
    let redis = Redis::start();
    if redis.is_none() {
        vectors::skip(test, "Redis is not installed");
    }
    redis
}

fn state(redis: &Redis) -> SharedState {
    SharedState::open(&redis.url(), None, &SystemRng).unwrap()
}

/// A node's memory of proofs, and what it was told of new memories.
async fn replay(state: &SharedState) -> (SharedReplay, Arc<AtomicU64>) {
    let told = Arc::new(AtomicU64::new(0));
    let telling = Arc::clone(&told);
    let renewed = Box::new(move |memory| telling.store(memory, Ordering::Relaxed));
    (state.replay((Arc::new(SystemClock), &SystemRng), renewed).await, told)
}

fn soon() -> base::Timestamp {
    SystemClock.now().plus(Duration::from_mins(1))
}

fn rate(id: u8, limit: u64, window: Duration) -> LimitWant {
    LimitWant { id: [id; 16], limit, window: Some(window), amount: 1 }
}

fn place(id: u8, limit: u64) -> LimitWant {
    LimitWant { id: [id; 16], limit, window: None, amount: 1 }
}

/// Ask until it answers again: its connection is made anew in the background.
async fn answers(state: &SharedState) {
    let again = async { while state.check().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_proof_shown_to_three_nodes_a_hundred_times_one_is_first() {
    let Some(redis) = server("a proof is good once by Redis") else { return };
    let states = [state(&redis), state(&redis), state(&redis)];
    let nodes = [replay(&states[0]).await.0, replay(&states[1]).await.0, replay(&states[2]).await.0];
    for round in 0..5u8 {
        let claims = join_all((0..100).map(|n| nodes[n % 3].claim([round; 32], soon()))).await;
        let first = claims.iter().filter(|claim| **claim == Ok(Claim::First)).count();
        let seen = claims.iter().filter(|claim| **claim == Ok(Claim::Seen)).count();
        assert_eq!((first, seen), (1, 99), "round {round}: {claims:?}");
    }
    let (later, _) = replay(&state(&redis)).await;
    assert_eq!(later.claim([0; 32], soon()).await, Ok(Claim::Seen), "to a node that joins too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stalls_or_goes_is_refused_in_time_and_found_again() {
    let Some(mut redis) = server("Redis stalls and goes") else { return };
    let shared = state(&redis);
    let (node, told) = replay(&shared).await;
    assert_eq!(node.claim([1; 32], soon()).await, Ok(Claim::First));
    let memory = told.load(Ordering::Relaxed);
    assert_ne!(memory, 0);

    assert!(redis.pause());
    for _ in 0..8 {
        assert_eq!(node.claim([2; 32], soon()).await, Err(ReplayError::Down));
        assert!(matches!(shared.take(&[rate(1, 5, Duration::from_mins(1))]).await, Err(SharedError::Down)));
    }
    assert!(redis.resume());
    answers(&shared).await;
    assert_eq!(node.claim([1; 32], soon()).await, Ok(Claim::Seen), "what it knew, it knows");
    assert_eq!(told.load(Ordering::Relaxed), memory);

    assert!(redis.crash());
    assert_eq!(node.claim([3; 32], soon()).await, Err(ReplayError::Down));
    assert!(redis.restart());
    answers(&shared).await;
    // It has forgotten: what it was asked by an old nonce is refused, and nonces are new from now on.
    assert_eq!(node.claim([1; 32], soon()).await, Err(ReplayError::Down));
    assert_ne!(told.load(Ordering::Relaxed), memory);
    assert_eq!(node.claim([4; 32], soon()).await, Ok(Claim::First));
    assert_eq!(node.claim([4; 32], soon()).await, Ok(Claim::Seen));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_one_for_all_nodes_and_empties_evenly() {
    let Some(redis) = server("a rate is one for all nodes") else { return };
    let nodes = [state(&redis), state(&redis), state(&redis)];
    let wants = [rate(1, 10, Duration::from_hours(1)), rate(2, 1000, Duration::from_hours(1))];
    let taken = join_all((0..60).map(|n| nodes[n % 3].take(&wants))).await;
    let mut admitted = 0;
    for taken in taken {
        match taken.unwrap() {
            Limited::Admitted(standings, None) => {
                admitted += 1;
                assert!(standings.len() == 2 && standings[0].remaining < 10);
            }
            Limited::Refused { which: 0, wait, standing } => {
                assert!(wait <= Duration::from_mins(6) && wait > Duration::ZERO, "{wait:?}");
                assert_eq!(standing.remaining, 0);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted, 10);
    // All or nothing: what one limit refused, the other has not counted.
    let other = nodes[0].take(&wants[1..]).await.unwrap();
    let Limited::Admitted(standings, _) = other else { panic!("{other:?}") };
    assert_eq!(standings[0].remaining, 1000 - 10 - 1);
    // A short window: as much again once it has passed by the server's own time.
    let short = [rate(3, 2, Duration::from_millis(200))];
    for _ in 0..2 {
        assert!(matches!(nodes[0].take(&short).await.unwrap(), Limited::Admitted(..)));
    }
    let again = async { while !matches!(nodes[1].take(&short).await.unwrap(), Limited::Admitted(..)) {} };
    tokio::time::timeout(Duration::from_secs(5), again).await.unwrap();
    // A limit of nothing admits nothing; one that takes more than it has takes all of it.
    assert!(matches!(nodes[0].take(&[rate(4, 0, Duration::from_mins(1))]).await.unwrap(), Limited::Refused { .. }));
    let all = LimitWant { amount: 5000, ..rate(5, 100, Duration::from_hours(1)) };
    assert!(matches!(nodes[0].take(&[all]).await.unwrap(), Limited::Admitted(..)));
    assert!(matches!(nodes[1].take(&[rate(5, 100, Duration::from_hours(1))]).await.unwrap(), Limited::Refused { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_counted_and_not_used_is_taken_back_for_all_nodes() {
    let Some(redis) = server("what was counted too much is taken back") else { return };
    let nodes = [state(&redis), state(&redis)];
    let keeping = nodes.clone().map(|node| {
        #[allow(clippy::disallowed_methods)] // ends with its test
        tokio::spawn(async move { node.keep_places().await })
    });
    let of = |amount| LimitWant { amount, ..rate(7, 1000, Duration::from_hours(1)) };
    let remaining = async |node: usize| match nodes[node].take(&[of(1)]).await.unwrap() {
        Limited::Admitted(standings, None) => standings[0].remaining,
        other => panic!("{other:?}"),
    };
    assert!(matches!(nodes[0].take(&[of(900)]).await.unwrap(), Limited::Admitted(..)));
    assert!(matches!(nodes[1].take(&[of(200)]).await.unwrap(), Limited::Refused { .. }));
    nodes[0].give_back(vec![of(800)]);
    let told = async { while remaining(1).await < 800 {} };
    tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
    // Never more than there is, and nothing of what nobody counted.
    nodes[1].give_back(vec![of(u64::MAX), LimitWant { amount: 5, ..rate(8, 10, Duration::from_hours(1)) }]);
    let told = async { while remaining(0).await < 999 {} };
    tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
    let all = LimitWant { amount: 10, ..rate(8, 10, Duration::from_hours(1)) };
    assert!(matches!(nodes[0].take(&[all]).await.unwrap(), Limited::Admitted(..)));
    assert!(matches!(nodes[1].take(&[rate(8, 10, Duration::from_hours(1))]).await.unwrap(), Limited::Refused { .. }));
    for task in keeping {
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_are_for_all_nodes_and_free_again_when_dropped() {
    let Some(redis) = server("places are for all nodes") else { return };
    let nodes = [state(&redis), state(&redis)];
    let keeping = nodes.clone().map(|node| {
        #[allow(clippy::disallowed_methods)] // ends with its test
        tokio::spawn(async move { node.keep_places().await })
    });
    let mut held = Vec::new();
    for n in 0..4 {
        match nodes[n % 2].take(&[place(1, 3), rate(2, 100, Duration::from_hours(1))]).await.unwrap() {
            Limited::Admitted(_, Some(place)) if n < 3 => held.push(place),
            Limited::Refused { which: 0, .. } if n == 3 => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    held.pop();
    let freed = async { while !matches!(nodes[0].take(&[place(1, 3)]).await.unwrap(), Limited::Admitted(..)) {} };
    tokio::time::timeout(Duration::from_secs(5), freed).await.unwrap();
    for task in keeping {
        task.abort();
    }
}

#[tokio::test]
async fn a_server_that_forgets_when_full_is_a_risk() {
    let Some(redis) = server("a Redis that evicts") else { return };
    let shared = state(&redis);
    assert_eq!(shared.check().await, Ok(Vec::new()));
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for (setting, value) in [("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")] {
        redis::cmd("CONFIG").arg("SET").arg(setting).arg(value).query_async::<()>(&mut connection).await.unwrap();
    }
    assert_eq!(shared.check().await.unwrap().len(), 1);
}

#[test]
fn a_url_is_of_redis_and_its_password_not_repeated() {
    for wrong in ["http://x", "redis://u:hunter2@host:port", "unix:/x", "", "rediss//x"] {
        let error = SharedState::open(wrong, None, &SystemRng).unwrap_err();
        assert_eq!(error.reason(), "store_url", "{wrong}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn sightings_of_all_nodes_add_up() {
    let Some(redis) = server("sightings add up") else { return };
    let (one, two) = (state(&redis), state(&redis));
    let seen = |id, add, place: Option<u8>| store::Sighting { id: [id; 16], add, place: place.map(|place| [place; 8]) };
    let share = async |node: &SharedState, some: &[store::Sighting]| store::Sightings::share(node, some).await.unwrap();
    assert_eq!(share(&one, &[seen(1, 2, None), seen(2, 0, Some(1))]).await, [2, 0]);
    assert_eq!(share(&two, &[seen(1, 1, None), seen(2, 0, Some(1))]).await, [3, 0]);
    assert_eq!(share(&two, &[seen(2, 0, Some(2)), seen(1, 0, None)]).await, [1, 3]);
    assert_eq!(share(&one, &[seen(2, 0, Some(1))]).await, [2]);
    let many: Vec<store::Sighting> = (0..600_u16).map(|n| seen(u8::try_from(n % 200).unwrap(), 1, None)).collect();
    assert_eq!(share(&one, &many).await.len(), 600);
}

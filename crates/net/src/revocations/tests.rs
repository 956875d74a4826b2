use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use base::FakeClock;
use http::StatusCode;

use super::*;

const LISTED: &str = r#"{"entries":{"abc123":{"status":"REVOKED"}}}"#;
const MORE: &str = r#"{"entries":{"abc123":{"status":"REVOKED"},"def456":{"status":"SUSPENDED"}}}"#;

/// What Google says, and how often it was asked.
struct Google {
    answer: Mutex<Result<Fetched, FetchError>>,
    asked: AtomicUsize,
}

impl Documents for Google {
    fn get<'a>(&'a self, url: &'a Url, _: Reach) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        assert_eq!(url.as_str(), ANDROID_STATUS_URL);
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { self.answer.lock().unwrap().clone() })
    }
}

#[derive(Default)]
struct Shelf(Mutex<Option<Saved>>);

impl LastGood for Shelf {
    fn load<'a>(&'a self, _: &'a Name) -> BoxFuture<'a, Option<Saved>> {
        Box::pin(async { self.0.lock().unwrap().clone() })
    }
    fn save<'a>(&'a self, _: &'a Name, saved: Saved) -> BoxFuture<'a, ()> {
        Box::pin(async {
            *self.0.lock().unwrap() = Some(saved);
        })
    }
}

struct World {
    google: Arc<Google>,
    shelf: Arc<Shelf>,
    clock: FakeClock,
    list: Revocations,
}

fn open(google: &Arc<Google>, shelf: &Arc<Shelf>, clock: &FakeClock, url: &str) -> Revocations {
    let name = Name::new("android-status").unwrap();
    let source = RevocationSource { name, url: Url::parse(url).unwrap(), reach: Reach::Public };
    let (google, shelf, clock) = (google.clone(), shelf.clone(), Arc::new(clock.clone()));
    Revocations::new(source, google, shelf, clock, RevocationTiming::default())
}

impl World {
    fn new() -> Self {
        let google = Arc::new(Google { answer: Mutex::new(Err(FetchError::Timeout)), asked: AtomicUsize::new(0) });
        let (shelf, clock) = (Arc::<Shelf>::default(), FakeClock::at(Timestamp::from_secs(1_795_219_200)));
        let list = open(&google, &shelf, &clock, ANDROID_STATUS_URL);
        Self { google, shelf, clock, list }
    }

    fn says(&self, body: &str, max_age: Option<u64>) {
        let fetched = Fetched { body: body.as_bytes().to_vec(), max_age: max_age.map(Duration::from_secs) };
        *self.google.answer.lock().unwrap() = Ok(fetched);
    }

    async fn refresh(&self) -> &'static str {
        self.list.refresh().await.map_or_else(|error| error.reason(), |()| "ok")
    }

    fn holds(&self, serial: &str) -> Result<bool, &'static str> {
        let list = self.list.list().map_err(|error| error.reason())?;
        Ok(list.of_serial(serial).is_some())
    }
}

#[tokio::test]
async fn there_is_no_list_until_one_was_fetched() {
    let world = World::new();
    assert_eq!(world.holds("abc123"), Err("revocation_list_missing"));
    assert!(world.list.is_due());
    assert_eq!(world.refresh().await, "fetch_timeout");
    assert_eq!(world.holds("abc123"), Err("revocation_list_missing"));
    world.says(LISTED, None);
    assert_eq!(world.refresh().await, "ok");
    assert_eq!((world.holds("ABC123"), world.holds("def456")), (Ok(true), Ok(false)));
}

#[tokio::test]
async fn it_is_fetched_as_often_as_google_says_within_bounds() {
    let world = World::new();
    for (max_age, early, late) in
        [(Some(7200), 7199, 7200), (Some(0), 299, 300), (Some(1 << 40), 86_399, 86_400), (None, 3599, 3600)]
    {
        world.says(LISTED, max_age);
        assert_eq!(world.refresh().await, "ok");
        world.clock.advance(Duration::from_secs(early));
        assert!(!world.list.is_due(), "{max_age:?}");
        world.clock.advance(Duration::from_secs(late - early));
        assert!(world.list.is_due(), "{max_age:?}");
    }
    // A failure waits too.
    *world.google.answer.lock().unwrap() = Err(FetchError::Status(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(world.refresh().await, "fetch_status");
    assert!(!world.list.is_due());
    world.clock.advance(Duration::from_mins(5));
    assert!(world.list.is_due());
}

#[tokio::test]
async fn the_last_good_list_counts_for_a_week_and_not_longer() {
    let world = World::new();
    world.says(LISTED, None);
    assert_eq!(world.refresh().await, "ok");
    for (body, reason) in [
        ("<html>", "malformed_json"),
        ("{}", "status_list_no_entries"),
        (r#"{"entries":{}}"#, "revocation_list_emptied"),
    ] {
        world.says(body, None);
        assert_eq!(world.refresh().await, reason);
        assert_eq!(world.holds("abc123"), Ok(true), "{body}");
    }
    world.clock.advance(Duration::from_hours(7 * 24));
    assert_eq!(world.holds("abc123"), Ok(true));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.holds("abc123"), Err("revocation_list_stale"));
    world.says(LISTED, None);
    assert_eq!(world.refresh().await, "ok");
    assert_eq!(world.holds("abc123"), Ok(true));
}

#[tokio::test]
async fn a_restart_takes_up_what_was_kept_of_the_same_place() {
    let world = World::new();
    world.says(LISTED, None);
    assert_eq!(world.refresh().await, "ok");
    let after = open(&world.google, &world.shelf, &world.clock, ANDROID_STATUS_URL);
    after.restore().await;
    assert!(after.list().is_ok_and(|list| list.of_serial("abc123").is_some()));
    assert_eq!(after.fetched_at(), world.list.fetched_at());
    assert!(after.is_due(), "a restart fetches");
    world.clock.advance(Duration::from_hours(8 * 24));
    let later = open(&world.google, &world.shelf, &world.clock, ANDROID_STATUS_URL);
    later.restore().await;
    assert_eq!(later.list(), Err(RevocationsError::Stale), "age is counted from the fetch, not from the start");
    let mirror = open(&world.google, &world.shelf, &world.clock, "https://mirror.example/status");
    mirror.restore().await;
    assert_eq!(mirror.list(), Err(RevocationsError::Missing));
    assert_eq!(world.google.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_generation_grows_with_the_entries_only() {
    let world = World::new();
    assert_eq!(world.list.generation(), 0);
    world.says(LISTED, None);
    assert_eq!((world.refresh().await, world.list.generation()), ("ok", 1));
    assert_eq!((world.refresh().await, world.list.generation()), ("ok", 1));
    world.says(MORE, None);
    assert_eq!((world.refresh().await, world.list.generation()), ("ok", 2));
    assert_eq!(world.holds("def456"), Ok(true));
}

//! Everything out of one store and into another.

use std::sync::Arc;

use base::{RequestId, SeededRng};
use futures_util::StreamExt;
use store::{Expect, Owner, Page, RecordFilter, Source, Store, StoreError};

use super::credentials::{new_client, new_key};
use super::records::record;
use super::secrets::seal;
use super::{Backend, START, all, name, secs, test_vault};

/// A dump in memory, given in pieces of a size.
pub(crate) struct Pieces(std::vec::IntoIter<Vec<u8>>);

impl Pieces {
    #[allow(clippy::unnecessary_box_returns)] // as it is taken
    pub(crate) fn of(bytes: &[u8], size: usize) -> Box<Self> {
        Box::new(Self(bytes.chunks(size.max(1)).map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter()))
    }
}

impl Source for Pieces {
    fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.next())
    }
}

pub(crate) async fn dumped(store: &Store) -> Vec<u8> {
    let pieces: Vec<_> = store.dump().await.unwrap().collect().await;
    pieces.into_iter().flat_map(Result::unwrap).collect()
}

/// Rows of many kinds, with every kind of value.
pub(crate) async fn fill(store: &Store) {
    let vault = test_vault();
    store.clients().create(new_client("batch")).await.unwrap();
    store.api_keys().create(new_key("one", 1)).await.unwrap();
    store.secrets().put(seal(&vault, "a", 1, "x")).await.unwrap();
    store.secrets().put(seal(&vault, "a", 2, "y")).await.unwrap();
    store.meta().set("odd", "\u{0}\u{e000}\u{1f600}'\"").await.unwrap();
    store.resources().put(("m", &name("fast")), "{\"a\":1}".to_owned(), Expect::Absent, "test").await.unwrap();
    let owner = Owner { issuer: "corp".into(), subject: "alice".into(), client: None };
    store.stored_objects().claim(&name("openai"), "resp_1", &owner.into()).await.unwrap();
    let rng = SeededRng::new(9);
    for second in 0..300 {
        store.sink().push(record(RequestId::new(&rng), START + second));
    }
}

pub(crate) async fn a_dump_loads_into_a_new_store_and_dumps_the_same<B: Backend>() {
    let (Some(from), Some(to)) = (B::fresh(), B::fresh()) else { return };
    let store = from.open().await;
    fill(&store).await;
    let dump = dumped(&store).await;

    let new = to.open().await;
    let rows = new.load(Pieces::of(&dump, 1000)).await.unwrap();
    assert!(rows > 307, "{rows}");
    new.close().await;
    let new = to.open().await;
    assert_eq!(new.version(), store.version());
    assert_eq!(new.meta().get("odd").await.unwrap().as_deref(), Some("\u{0}\u{e000}\u{1f600}'\""));
    let records = new.records().list(&RecordFilter::default(), &all()).await.unwrap().items;
    assert_eq!(records, store.records().list(&RecordFilter::default(), &all()).await.unwrap().items);
    assert_eq!(dumped(&new).await.len(), dump.len());
    // It goes on where the other stopped: nothing gets a number that was given.
    new.sink().push(record(RequestId::new(&SeededRng::new(10)), START + 1000));
    new.flush().await.unwrap();
    let newest = new.records().list(&RecordFilter::default(), &Page::first(1)).await.unwrap().items;
    assert_eq!(newest[0].at, secs(START + 1000));
    assert_eq!(new.check().await.unwrap(), Vec::<String>::new());
}

pub(crate) async fn a_dump_is_of_one_moment_while_writes_go_on<B: Backend>() {
    let (Some(from), Some(to)) = (B::fresh(), B::fresh()) else { return };
    let store = from.open().await;
    fill(&store).await;
    let mut dump = store.dump().await.unwrap();
    // Its moment has come when its first piece is there.
    let mut bytes = dump.next().await.unwrap().unwrap();
    for n in 0..50 {
        store.meta().set(&format!("late-{n}"), "x").await.unwrap();
    }
    while let Some(piece) = dump.next().await {
        bytes.extend(piece.unwrap());
    }
    let new = to.open().await;
    new.load(Pieces::of(&bytes, 64 << 10)).await.unwrap();
    for n in 0..50 {
        assert_eq!(new.meta().get(&format!("late-{n}")).await.unwrap(), None, "{n}");
    }
}

pub(crate) async fn a_damaged_dump_loads_nothing<B: Backend>() {
    let (Some(from), Some(to)) = (B::fresh(), B::fresh()) else { return };
    let store = from.open().await;
    fill(&store).await;
    let dump = dumped(&store).await;
    let new = to.open().await;
    let empty = dumped(&new).await;

    for cut in (0..dump.len()).step_by(dump.len() / 30) {
        assert_eq!(new.load(Pieces::of(&dump[..cut], 777)).await.unwrap_err().reason(), "store_row", "{cut}");
    }
    let more = [dump.as_slice(), b"R"].concat();
    assert_eq!(new.load(Pieces::of(&more, 777)).await.unwrap_err().reason(), "store_row");
    // A table of another name never becomes SQL.
    let at = dump.windows(4).position(|four| four == b"meta").unwrap();
    let mut other = dump.clone();
    other[at..at + 4].copy_from_slice(b"m--;");
    assert_eq!(new.load(Pieces::of(&other, 777)).await.unwrap_err().reason(), "store_row");
    // Another schema's.
    let mut newer = dump.clone();
    newer[8] += 1;
    assert_eq!(new.load(Pieces::of(&newer, 777)).await.unwrap_err().reason(), "store_newer_schema");
    assert_eq!(dumped(&new).await, empty, "nothing has been written");
    new.load(Pieces::of(&dump, 777)).await.unwrap();
}

pub(crate) async fn a_store_with_data_takes_no_dump<B: Backend>() {
    let (Some(from), Some(to)) = (B::fresh(), B::fresh()) else { return };
    let store = from.open().await;
    fill(&store).await;
    let dump = dumped(&store).await;
    let other = to.open().await;
    other.meta().set("mine", "x").await.unwrap();
    assert_eq!(other.load(Pieces::of(&dump, 777)).await.unwrap_err().reason(), "store_not_new");
    assert_eq!(other.meta().get("mine").await.unwrap().as_deref(), Some("x"));
    assert_eq!(other.meta().get("odd").await.unwrap(), None);
}

/// What a version of the program with the schema `schema` would have dumped, were there nothing but one fact.
fn old(schema: u64) -> Vec<u8> {
    let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let cell = |text: &str| [b"T", &u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let columns = ["tenant", "key", "value"].map(|column| [text(column), b"T".to_vec()].concat()).concat();
    let mut bytes = [b"V", &schema.to_be_bytes()[..], b"T", &text("meta"), &3u16.to_be_bytes(), &columns].concat();
    bytes.extend([b"R".to_vec(), cell("default"), cell("kept"), cell("since then")].concat());
    bytes.extend([b"E", &1u64.to_be_bytes()[..]].concat());
    bytes
}

pub(crate) async fn a_dump_of_an_older_schema_is_put_in_and_brought_up_to_date<B: Backend>() {
    for schema in 1..=3 {
        let Some(to) = B::fresh() else { return };
        let dump = old(schema);
        assert_eq!(store::schema_of(&dump), Some(schema));
        let (url, dir) = to.place();
        let restore = async |dump: &[u8], schema| {
            let by = (Arc::new(to.clock().clone()) as _, Arc::new(SeededRng::new(3)) as _);
            Store::restore((&url, &dir), by, schema, Pieces::of(dump, 11)).await
        };
        // Cut short, nothing is in it, and it can be tried again.
        assert_eq!(restore(&dump[..dump.len() - 1], schema).await.unwrap_err().reason(), "store_row");
        assert_eq!(restore(&dump, schema).await.unwrap(), 1);
        assert_eq!(restore(&dump, schema).await.unwrap_err().reason(), "store_not_new");
        let store = to.open().await;
        assert_eq!(store.meta().get("kept").await.unwrap().as_deref(), Some("since then"));
        store.clients().create(new_client("batch")).await.unwrap();
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new());
        store.close().await;
        // Up to date already, and neither old nor from the future.
        assert_eq!(restore(&dump, schema).await.unwrap_err().reason(), "store_not_new");
        assert_eq!(restore(&old(1000), 1000).await.unwrap_err().reason(), "store_newer_schema");
        assert_eq!(restore(&old(0), 0).await.unwrap_err().reason(), "store_row");
    }
}

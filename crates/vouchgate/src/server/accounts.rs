//! What the audit log says of what a start that was killed had set aside of budgets.
//!
//! A request's entry of its beginning, and those that follow it, say what is set aside of which lease (`holds`); later ones say
//! how much of that was used (`settled`). Sums do not mind their order, so the log is read from its end, as far back as the leases
//! go: entries between say after which no later lease can come (`budgets.opened`, `budgets.marked`).

use std::borrow::Cow;
use std::collections::HashMap;

use audit::{Log, LogError};
use serde::Deserialize;
use store::{LeaseUse, OpenLease};

/// The entry of a start of the ledger: no lease of this start or a later one was used before it.
pub(super) const OPENED: &str = "budgets.opened";
/// The entry that says of an earlier index that no lease greater than `after` was used before it.
pub(super) const MARKED: &str = "budgets.marked";

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// What is known of each lease.
    pub(super) uses: Vec<LeaseUse>,
    /// How many of them the log does not reach back to: they count as used up.
    pub(super) unknown: usize,
}

/// Ask the log of `node` about its open leases. Blocks.
pub(super) fn read(log: &Log, node: &str, leases: &[OpenLease]) -> Result<Told, LogError> {
    let mut books = Books::new(node, leases);
    let found = std::cell::RefCell::new(&mut books);
    log.look_back(|index, entry| found.borrow_mut().take(index, entry), |first| found.borrow_mut().is_enough(first))?;
    Ok(books.finish())
}

/// The members that matter.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    request: Option<Cow<'a, str>>,
    #[serde(default)]
    holds: Vec<(i64, serde::de::IgnoredAny, i64)>,
    #[serde(default)]
    settled: Vec<(i64, serde::de::IgnoredAny, i64, i64)>,
    #[serde(borrow, default)]
    node: Option<Cow<'a, str>>,
    #[serde(default)]
    epoch: Option<i64>,
    #[serde(default)]
    from: Option<u64>,
    #[serde(default)]
    after: Option<i64>,
}

struct Books<'a> {
    node: &'a str,
    leases: HashMap<i64, Book>,
    /// Where starts of the ledger are in the log, and what cannot have been used before.
    bounds: Vec<Bound>,
    /// Open leases that may have been used before what has been read.
    before: Vec<OpenLease>,
}

/// No lease that this holds for was used before this index.
struct Bound {
    from: u64,
    holds: Holds,
}

enum Holds {
    Epoch(i64),
    Lease(i64),
}

#[derive(Default)]
struct Book {
    settled: i64,
    /// What is set aside for each request and not settled, and the index of its first entry.
    open: HashMap<Box<str>, (i64, u64)>,
}

impl<'a> Books<'a> {
    fn new(node: &'a str, leases: &[OpenLease]) -> Self {
        let books = leases.iter().map(|lease| (lease.lease, Book::default())).collect();
        Self { node, leases: books, bounds: Vec::new(), before: leases.to_vec() }
    }

    fn take(&mut self, index: u64, entry: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<Entry<'_>>(entry) else { return };
        match &*entry.kind {
            "request.begun" | "request.held" | "request.ended" | "request.settled" => self.request(index, &entry),
            OPENED | MARKED if entry.node.as_deref() == Some(self.node) => {
                let opened = entry.epoch.map(|epoch| Bound { from: index, holds: Holds::Epoch(epoch) });
                let marked = entry.from.zip(entry.after);
                let marked = marked.map(|(from, after)| Bound { from, holds: Holds::Lease(after) });
                self.bounds.extend(opened.or(marked));
            }
            _ => {}
        }
    }

    fn request(&mut self, index: u64, entry: &Entry<'_>) {
        let Some(request) = entry.request.as_deref() else { return };
        for (lease, _, amount) in &entry.holds {
            self.add(*lease, (request, index), *amount, 0);
        }
        for (lease, _, amount, of) in &entry.settled {
            self.add(*lease, (request, index), of.saturating_neg(), *amount);
        }
    }

    fn add(&mut self, lease: i64, (request, index): (&str, u64), held: i64, settled: i64) {
        let Some(book) = self.leases.get_mut(&lease) else { return };
        book.settled = book.settled.saturating_add(settled.max(0));
        if held == 0 {
            return;
        }
        if let Some((open, first)) = book.open.get_mut(request) {
            *open = open.saturating_add(held);
            *first = index.min(*first);
            if *open == 0 {
                book.open.remove(request);
            }
        } else {
            book.open.insert(request.into(), (held, index));
        }
    }

    /// Whether nothing before this index can concern an open lease.
    fn is_enough(&mut self, first: u64) -> bool {
        let bounds = &self.bounds;
        self.before.retain(|lease| {
            !bounds.iter().any(|bound| {
                bound.from >= first
                    && match bound.holds {
                        Holds::Epoch(epoch) => epoch <= lease.epoch,
                        Holds::Lease(after) => after < lease.lease,
                    }
            })
        });
        self.before.is_empty()
    }

    fn finish(mut self) -> Told {
        let unknown = self.before.len();
        for lease in &self.before {
            // The log begins later than the lease: nobody knows what was used before.
            self.leases.insert(lease.lease, Book { settled: i64::MAX, open: HashMap::new() });
        }
        let mut uses: Vec<LeaseUse> = self.leases.into_iter().map(|(lease, book)| book.told(lease)).collect();
        uses.sort_unstable_by_key(|told| told.lease);
        Told { uses, unknown }
    }
}

impl Book {
    fn told(self, lease: i64) -> LeaseUse {
        // Settled by more than was set aside: the entry that said so was not written in time, and its request was refused.
        let open = self.open.into_iter().filter(|(_, (amount, _))| *amount > 0);
        let mut open: Vec<_> = open.map(|(request, (amount, first))| (first, String::from(request), amount)).collect();
        open.sort_unstable();
        let unresolved = open.into_iter().map(|(_, request, amount)| (request, amount)).collect();
        LeaseUse { lease, settled: self.settled, unresolved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Timestamp;
    use serde_json::{Value, json};

    fn lease(lease: i64, epoch: i64) -> OpenLease {
        OpenLease { lease, epoch, taken_at: Timestamp::from_secs(0), amount: 100 }
    }

    fn take(books: &mut Books<'_>, index: u64, entry: &Value) {
        books.take(index, entry.to_string().as_bytes());
    }

    #[test]
    fn retries_and_what_is_settled_after_the_end_add_up_in_any_order() {
        let entries = [
            json!({"kind": "budgets.opened", "node": "n", "epoch": 3}),
            json!({"kind": "request.begun", "request": "a", "holds": [[7, "nano_usd", 40], [8, "requests", 1]]}),
            json!({"kind": "request.held", "request": "a", "holds": [[7, "nano_usd", 40]]}),
            json!({"kind": "request.ended", "request": "a", "settled": [[7, "nano_usd", 15, 40], [8, "requests", 1, 1]]}),
            json!({"kind": "request.begun", "request": "b", "holds": [[7, "nano_usd", 10]]}),
            json!({"kind": "request.settled", "request": "a", "settled": [[7, "nano_usd", 40, 40]]}),
            json!({"kind": "request.held", "request": "c", "holds": [[7, "nano_usd", 5]], "settled": [[7, "nano_usd", 2, 9]]}),
            json!({"kind": "request.ended", "request": "kept", "settled": [[7, "nano_usd", 3, 0]]}),
            json!({"kind": "request.begun", "request": "other", "holds": [[70, "nano_usd", 10]]}),
        ];
        let leases = [lease(7, 3), lease(8, 3)];
        let mut told = Vec::new();
        for backwards in [false, true] {
            let mut books = Books::new("n", &leases);
            let mut order: Vec<u64> = (0..entries.len() as u64).collect();
            if backwards {
                order.reverse();
            }
            for index in order {
                take(&mut books, index, &entries[usize::try_from(index).unwrap()]);
            }
            assert!(books.is_enough(0));
            told.push(books.finish());
        }
        assert_eq!(told[0], told[1]);
        // What `c` had before is not in the entries: of what it settled more is known than of what it holds.
        let expected = [
            LeaseUse { lease: 7, settled: 60, unresolved: vec![("b".into(), 10)] },
            LeaseUse { lease: 8, settled: 1, unresolved: vec![] },
        ];
        assert_eq!((told[0].uses.as_slice(), told[0].unknown), (expected.as_slice(), 0));
    }

    #[test]
    fn a_log_is_read_as_far_back_as_its_leases_go() {
        let leases = [lease(7, 3), lease(9, 4)];
        let mut books = Books::new("n", &leases);
        take(&mut books, 90, &json!({"kind": "budgets.opened", "node": "other", "epoch": 1}));
        take(&mut books, 91, &json!({"kind": "budgets.marked", "node": "n", "from": 70, "after": 8}));
        assert!(!books.is_enough(90));
        assert_eq!(books.before.len(), 2, "what the mark speaks of has not been read");
        assert!(!books.is_enough(70));
        assert_eq!(books.before, [lease(7, 3)]);
        take(&mut books, 60, &json!({"kind": "budgets.opened", "node": "n", "epoch": 4}));
        assert!(!books.is_enough(60), "a later start than the lease's");
        take(&mut books, 50, &json!({"kind": "budgets.opened", "node": "n", "epoch": 3}));
        assert!(books.is_enough(50));
    }

    #[test]
    fn a_lease_from_before_the_log_counts_as_used_up() {
        let leases = [lease(7, 3), lease(9, 4)];
        let mut books = Books::new("n", &leases);
        take(&mut books, 0, &json!({"kind": "budgets.opened", "node": "n", "epoch": 4}));
        take(
            &mut books,
            1,
            &json!({"kind": "request.begun", "request": "a", "holds": [[7, "tokens", 5], [9, "tokens", 5]]}),
        );
        assert!(!books.is_enough(0));
        let told = books.finish();
        let expected = [
            LeaseUse { lease: 7, settled: i64::MAX, unresolved: vec![] },
            LeaseUse { lease: 9, settled: 0, unresolved: vec![("a".into(), 5)] },
        ];
        assert_eq!((told.uses.as_slice(), told.unknown), (expected.as_slice(), 1));
    }

    #[test]
    fn entries_of_any_other_form_say_nothing() {
        let leases = [lease(7, 3)];
        let mut books = Books::new("n", &leases);
        for entry in [
            json!({"kind": "request.begun", "request": "a", "holds": [[7, "tokens"]]}),
            json!({"kind": "request.begun", "holds": [[7, "tokens", 5]]}),
            json!({"kind": "admin.begun", "request": "a", "holds": [[7, "tokens", 5]]}),
            json!({"kind": "request.begun", "request": 5}),
            json!([]),
        ] {
            take(&mut books, 0, &entry);
        }
        books.take(1, b"\xff{");
        assert!(books.leases[&7].open.is_empty());
    }
}

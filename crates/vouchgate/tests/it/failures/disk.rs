//! The disk of the database, and that of the audit log: full, read-only, and one that does not keep what it is given. And the clock
//! of the machine, which the same shim sets.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Node, Told};
use crate::support::run;

/// Writing to the database (or the audit log) fails as this file says, and the clock is what it says.
pub(super) struct Faults {
    dir: tempfile::TempDir,
    shim: PathBuf,
}

impl Faults {
    /// `None` where there is no C compiler to make what stands between.
    pub(super) fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/failures/faults.c");
        let shim = dir.path().join("faults.so");
        let made =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).arg("-ldl").status();
        if !made.is_ok_and(|made| made.success()) {
            vectors::skip("failures of the disk", "there is no C compiler");
            return None;
        }
        let faults = Self { dir, shim };
        faults.order("none");
        Some(faults)
    }

    fn orders(&self) -> PathBuf {
        self.dir.path().join("orders")
    }

    /// From now on.
    pub(super) fn order(&self, what: &str) {
        // In one step: it is read at any moment.
        let new = self.dir.path().join("new");
        std::fs::write(&new, what).unwrap();
        std::fs::rename(new, self.orders()).unwrap();
    }

    async fn node(&self) -> Node {
        self.node_with("vouchgate.db").await
    }

    /// A node to whose files with this in their path it happens.
    pub(super) async fn node_with(&self, files: &str) -> Node {
        let (orders, shim) = (self.orders(), &self.shim);
        let variables = [
            ("FAULT_ORDERS", orders.to_str().unwrap()),
            ("FAULT_FILES", files),
            ("LD_PRELOAD", shim.to_str().unwrap()),
        ];
        Node::start("", &variables).await
    }
}

async fn fails_and_recovers(order: &str, told: &str, status: u16) {
    let told = Told::of(told);
    let Some(faults) = Faults::new() else { return };
    let node = faults.node().await;
    let strangers: Vec<String> = (0..3).map(|n| node.mint(&format!("stranger-{n}"), &[])).collect();
    for (round, stranger) in strangers.iter().enumerate() {
        faults.order(order);
        node.goes_on(order).await;
        // Its budget would have to be leased.
        told.refusal(&node.ask_as(stranger).await, 503);
        told.refusal(&node.change(&format!("meanwhile-{round}")).await, status);
        node.until_well(false).await;
        node.goes_on(order).await;
        faults.order("none");
        node.is_whole(&format!("round {round}")).await;
        assert_eq!(node.ask_as(stranger).await.status(), 200);
    }
    node.all_are_recorded().await;
    node.ends_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_59_the_disk_of_the_database_is_full() {
    fails_and_recovers("full", "The disk of the database is full", 507).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_59_the_disk_of_the_database_becomes_read_only() {
    fails_and_recovers("read-only", "The disk of the database fails", 503).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_59_fsync_fails() {
    fails_and_recovers("fsync", "The disk of the database fails", 503).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_on_a_data_directory_it_cannot_write_to() {
    let Some(faults) = Faults::new() else { return };
    let node = faults.node().await;
    let dir = node.at().to_owned();
    let place = node.dir.path().join("elsewhere");
    std::fs::write(&place, "a file where a directory should be").unwrap();
    let (exit, _, said) = run(&["key", "list", "--data-dir", place.to_str().unwrap()], &dir, b"");
    assert_eq!(exit, 2, "{said}");
    assert!(said.contains("elsewhere"), "{said}");
    // A second process on the directory of one that runs.
    let (exit, _, said) = run(&["serve", "--config", "vouchgate.toml"], &dir, b"");
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("in use by another vouchgate process"), "{said}");
    node.goes_on("it is not disturbed").await;
}

/// Nothing is sent on that is not written down; and it goes on by itself.
async fn nothing_goes_unrecorded(order: &str) {
    let told = Told::of("The disk of the audit log");
    let Some(faults) = Faults::new() else { return };
    let node = faults.node_with("/data/audit/").await;
    for round in 0..3 {
        faults.order(order);
        let asked = node.provider.count();
        for _ in 0..5 {
            told.refusal(&node.ask().await, 503);
        }
        told.refusal(&node.change(&format!("meanwhile-{round}")).await, 503);
        assert_eq!(node.provider.count(), asked, "{order}: no provider was asked");
        node.until_well(false).await;
        faults.order("none");
        let again = async { while node.ask().await.status() != 200 {} };
        testkit::patiently("the log to go on", again).await;
        node.is_whole(&format!("round {round}")).await;
    }
    node.all_are_recorded().await;
    node.ends_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_59_the_disk_of_the_audit_log_is_full() {
    nothing_goes_unrecorded("full").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_59_the_disk_of_the_audit_log_becomes_read_only() {
    nothing_goes_unrecorded("read-only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_59_fsync_of_the_audit_log_fails() {
    nothing_goes_unrecorded("fsync").await;
}

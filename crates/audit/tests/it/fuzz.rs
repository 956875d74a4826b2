//! What the fuzz targets of this crate do, over their corpora.

#[path = "../../../../fuzz/entries/audit.rs"]
mod entries;

#[test]
fn every_fuzz_target_holds_over_its_corpus() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for (name, entry) in entries::ENTRIES {
        assert!(fuzz.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name} has no target");
        let files: Vec<_> = std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap().flatten().collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            entry(&std::fs::read(file.path()).unwrap());
        }
        entry(b"");
    }
}

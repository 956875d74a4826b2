#![no_main]

#[path = "../entries/proof.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for (_, entry) in entries::ENTRIES.iter().filter(|(name, _)| *name == "ja4") {
        entry(data);
    }
});

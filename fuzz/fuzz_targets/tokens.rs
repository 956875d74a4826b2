#![no_main]

#[path = "../entries/llm.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for (_, entry) in entries::ENTRIES.iter().filter(|(name, _)| *name == "tokens") {
        entry(data);
    }
});

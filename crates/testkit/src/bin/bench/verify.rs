//! One ES256 verification with the library Vouchgate uses and nothing around it: what a proof costs at the least.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey,
};
use testkit::process::Process;

const COUNT: u32 = 40_000;
const DONE: &str = "verified";

/// CPU time in microseconds, taken in a process of its own like everything else.
pub(crate) async fn measure() -> f64 {
    eprintln!("measuring one ES256 verification");
    let own = std::env::current_exe().expect("a program knows itself");
    let mut process = Process::start(&own, &["verify"], Path::new("/"), &[]);
    process.line_within(std::time::Duration::from_mins(1), DONE).await;
    process.cost().cpu.as_secs_f64() * 1e6 / f64::from(COUNT)
}

/// The process itself: verifies, says so, and waits to be ended.
pub(crate) fn run() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let message = [7; 400];
    let signature = pair.sign(&SystemRandom::new(), &message).expect("a signature");
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()).expect("a public key");
    for _ in 0..COUNT {
        public.verify_sig(&message, signature.as_ref()).expect("the signature is right");
    }
    println!("{DONE} {COUNT}");
    loop {
        std::thread::park();
    }
}

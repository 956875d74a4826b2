//! kill -9 under load, more often than the tests do it.

use crate::run::{Failure, cargo, fail, must, step};

/// The engines, each with its test and how many kills are usual.
const ENGINES: [(&str, &str, &str); 2] = [
    ("sqlite", "ledger::the_books_balance_when_the_process_is_killed", "1000"),
    ("postgres", "ledger::the_books_balance_on_postgresql_when_process_or_server_are_killed", "200"),
];

/// Kill a process that writes, leases and settles at so many random moments, on one engine or on both, and look after each
/// at the database, at every write that was acknowledged, and at the books.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let (rounds, named) = match args {
        [flag, rounds, named @ ..] if flag == "--rounds" => (Some(rounds.as_str()), named),
        named => (None, named),
    };
    if rounds.is_some_and(|rounds| rounds.parse::<u32>().is_err()) {
        return fail("`--rounds` wants a number");
    }
    let known = |name: &String| ENGINES.iter().any(|(engine, ..)| engine == name);
    if let Some(unknown) = named.iter().find(|name| !known(name)) {
        return fail(format!("there is no engine `{unknown}`; there are sqlite and postgres"));
    }
    for (engine, test, usual) in ENGINES {
        if named.is_empty() || named.iter().any(|name| name == engine) {
            let rounds = rounds.unwrap_or(usual);
            step(&format!("{rounds} kills on {engine}"));
            let test = ["test", "-q", "-p", "store", "--test", "crash", "--", "--exact", test, "--nocapture"];
            must(cargo(&test).env("VOUCHGATE_TEST_TORTURE", rounds).env("VOUCHGATE_NO_SKIP", "1"))?;
        }
    }
    Ok(())
}

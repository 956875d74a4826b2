//! kill -9 under load, more often than the tests do it.

use crate::run::{Failure, cargo, fail, must, step};

/// The engines, each with the test of the program and how many kills are usual.
const ENGINES: [(&str, &str, &str); 2] = [
    ("sqlite", "recovery::what_a_killed_program_had_set_aside_is_settled_by_its_log", "1000"),
    ("postgres", "recovery::what_a_killed_program_had_set_aside_is_settled_by_its_log_on_postgresql", "200"),
];

/// Kill the program under load at so many random moments, on one engine or on both, and look after each at the audit log, and
/// after every few at the database, at every write that was acknowledged, and at the books.
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
            let test = ["test", "-q", "-p", "vouchgate", "--test", "it", "--", "--exact", test, "--nocapture"];
            must(cargo(&test).env("VOUCHGATE_TEST_TORTURE", rounds).env("VOUCHGATE_NO_SKIP", "1"))?;
        }
    }
    Ok(())
}

//! What the tests do a few times, many times: kill -9 under load; restarts one after the other at a rate; a Redis that stalls.

use crate::run::{Failure, cargo, fail, must, step};

/// The engines, each with the test of the program and how many kills are usual.
const ENGINES: [(&str, &str, &str); 2] = [
    ("sqlite", "recovery::what_a_killed_program_had_set_aside_is_settled_by_its_log", "1000"),
    ("postgres", "recovery::what_a_killed_program_had_set_aside_is_settled_by_its_log_on_postgresql", "200"),
];

/// Restarts of three nodes under requests and streams.
const RESTART: &str = "fleet_program::a_rolling_restart_under_requests_and_streams_fails_nobody";
/// Redis that does not answer.
const STALL: &str = "failures::databases::redis_stalls_goes_and_comes_back";

/// What is asked for.
#[derive(Default)]
struct Wanted {
    rounds: Option<String>,
    rate: Option<String>,
    seed: Option<String>,
    restart: bool,
    stall: Option<String>,
    engines: Vec<String>,
    release: bool,
}

impl Wanted {
    fn of(args: &[String]) -> Result<Self, Failure> {
        let (mut wanted, mut args) = (Self::default(), args.iter().peekable());
        while let Some(arg) = args.next() {
            let mut number = |usual: Option<&str>| match args.next_if(|next| next.parse::<u32>().is_ok_and(|n| n > 0)) {
                Some(number) => Ok(Some(number.clone())),
                None if usual.is_some() => Ok(usual.map(str::to_owned)),
                None => Err(Failure(format!("`{arg}` wants a number"))),
            };
            match arg.as_str() {
                "--rounds" => wanted.rounds = number(None)?,
                "--seed" => wanted.seed = number(None)?,
                "--rps" => wanted.rate = number(None)?,
                "--redis-stall" => wanted.stall = number(Some("30"))?,
                "--restart" => wanted.restart = true,
                "--release" => wanted.release = true,
                engine if ENGINES.iter().any(|(known, ..)| *known == engine) => wanted.engines.push(arg.clone()),
                unknown => return fail(format!("there is no engine `{unknown}`; there are sqlite and postgres")),
            }
        }
        if wanted.rate.is_some() && !wanted.restart {
            return fail("`--rps` is of `--restart`");
        }
        Ok(wanted)
    }

    /// Run one test of the program with these variables.
    fn run(&self, test: &str, variables: &[(&str, &str)]) -> Result<(), Failure> {
        let profile: &[&str] = if self.release { &["--release"] } else { &[] };
        let args =
            [&["test", "-q", "-p", "vouchgate", "--test", "it"], profile, &["--", "--exact", test, "--nocapture"]];
        let mut command = cargo(&args.concat());
        command.env("VOUCHGATE_NO_SKIP", "1");
        for (name, value) in variables {
            command.env(name, value);
        }
        must(&mut command)
    }
}

/// Kill the program under load at so many random moments, on one engine or on both, and look after each at the audit log, and
/// after every few at the database, at every write that was acknowledged, and at the books. With `--restart`: restart three nodes
/// one after the other, `--rounds` times, under 50 streams and `--rps` requests a second. With `--redis-stall`: have Redis not
/// answer for so many seconds.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let wanted = Wanted::of(args)?;
    if wanted.restart {
        let (rounds, rate) = (wanted.rounds.as_deref().unwrap_or("1"), wanted.rate.as_deref());
        step(&format!("restarts of three nodes, {rounds} of each"));
        let mut variables = vec![("VOUCHGATE_TEST_TORTURE", rounds)];
        variables.extend(rate.map(|rate| ("VOUCHGATE_TEST_RATE", rate)));
        return wanted.run(RESTART, &variables);
    }
    if let Some(seconds) = &wanted.stall {
        step(&format!("Redis does not answer for {seconds} seconds"));
        return wanted.run(STALL, &[("VOUCHGATE_TEST_STALL", seconds)]);
    }
    for (engine, test, usual) in ENGINES {
        if wanted.engines.is_empty() || wanted.engines.iter().any(|name| name == engine) {
            let rounds = wanted.rounds.as_deref().unwrap_or(usual);
            step(&format!("{rounds} kills on {engine}"));
            let mut variables = vec![("VOUCHGATE_TEST_TORTURE", rounds)];
            variables.extend(wanted.seed.as_deref().map(|seed| ("VOUCHGATE_TEST_SEED", seed)));
            wanted.run(test, &variables)?;
        }
    }
    Ok(())
}

//! `vouchgate check`: the verdict of `serve`, without starting.

use super::args::CheckArgs;
use super::io::{Exit, Io, Outcome};
use super::place::read_text;

/// Print `FILE:LINE:COL: message` for every fault.
pub(super) fn run(args: &CheckArgs, io: &mut Io<'_>) -> Outcome {
    let text = read_text(&args.config)?;
    let (warnings, faults) = match crate::preflight::read(&text) {
        Ok(config) => (crate::preflight::warnings(&config), Vec::new()),
        Err(faults) => (Vec::new(), faults),
    };
    let exit = if faults.is_empty() { Exit::Done } else { Exit::No };
    if args.json {
        io.json(&serde_json::json!({ "valid": faults.is_empty(), "faults": faults, "warnings": warnings }))?;
        return Ok(exit);
    }
    for fault in &faults {
        io.line(&format!("{}:{fault}", args.config.display()))?;
    }
    for warning in &warnings {
        io.note(&format!("warning: {warning}"));
    }
    match faults.len() {
        0 => io.note(&format!("{} is valid", args.config.display())),
        1 => io.note("1 fault"),
        many => io.note(&format!("{many} faults")),
    }
    Ok(exit)
}

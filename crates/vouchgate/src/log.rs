//! Structured logs on standard error.
//!
//! The configured level is that of Vouchgate's own crates. Libraries never log below `info`: their debug
//! output may show headers and frames, and a header may be a credential.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// Vouchgate's own crates: the ones the configured level applies to.
const OWN: [&str; 12] =
    ["base", "config", "llm", "proof", "policy", "vault", "net", "store", "gateway", "control", "vouchgate", "audit"];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: one line each, coloured on a terminal.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What passes: `level` for our own crates, at most `info` for the libraries.
pub fn filter(level: LevelFilter) -> Targets {
    let libraries = level.min(LevelFilter::INFO);
    Targets::new().with_default(libraries).with_targets(OWN.map(|name| (name, level)))
}

/// Start logging for the process, and whatever else listens: `spans` takes the requests' spans, where that is built in.
/// Does nothing if logging was started before.
pub fn start(level: LevelFilter, format: Format, color: bool, spans: Option<Spans>) {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(spans);
    let _ = match format {
        Format::Text => registry.with(layer.with_ansi(color).with_filter(filter(level))).try_init(),
        Format::Json => registry.with(layer.json().flatten_event(true).with_filter(filter(level))).try_init(),
    };
}

/// Takes the requests' spans.
pub type Spans = Box<dyn Layer<Registry> + Send + Sync>;

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn libraries_stay_quiet_even_at_trace() {
        let filter = filter(LevelFilter::TRACE);
        assert!(filter.would_enable("gateway::relay", &Level::TRACE));
        assert!(filter.would_enable("hyper", &Level::INFO));
        assert!(!filter.would_enable("hyper::proto::h1", &Level::DEBUG));
        assert!(!filter.would_enable("h2::codec", &Level::TRACE));
    }

    #[test]
    fn a_quiet_level_is_quiet_for_libraries_too() {
        let filter = filter(LevelFilter::ERROR);
        assert!(!filter.would_enable("hyper", &Level::WARN));
        assert!(!filter.would_enable("gateway", &Level::WARN));
    }
}

//! Export of spans, where the feature `otel` is built in; elsewhere a warning for whoever asks for it.

/// Names the collector (the OTLP specification's own variable).
pub const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Tell whoever asks for spans that this program makes none.
pub fn warn_if_absent() {
    if cfg!(not(feature = "otel")) && crate::references::variable(ENDPOINT).is_some() {
        tracing::warn!("{ENDPOINT} is set, but this program was built without the feature otel");
    }
}

#[cfg(feature = "otel")]
pub use crate::otel::{Exporter, OtelError as SpansError, start};

#[cfg(not(feature = "otel"))]
pub use absent::{Exporter, SpansError, start};

#[cfg(not(feature = "otel"))]
mod absent {
    use crate::log::Spans;

    /// Exports nothing: there is none.
    #[derive(Debug)]
    pub enum Exporter {}

    /// Cannot happen here.
    #[derive(Debug, thiserror::Error)]
    pub enum SpansError {}

    impl Exporter {
        /// Send what is waiting, then stop.
        pub fn shut_down(self) -> std::future::Ready<()> {
            match self {}
        }
    }

    /// The exporter of this process: none.
    pub fn start() -> Result<Option<(Exporter, Spans)>, SpansError> {
        Ok(None)
    }
}

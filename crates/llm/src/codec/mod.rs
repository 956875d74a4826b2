//! Framing of streamed answers.

pub(crate) mod sse;

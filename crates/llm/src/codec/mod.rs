//! Framing of streamed answers.

pub(crate) mod array;
pub(crate) mod sse;

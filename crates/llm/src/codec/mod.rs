//! Framing of streamed answers.

pub(crate) mod array;
pub(crate) mod event_stream;
pub(crate) mod frames;
pub(crate) mod lines;
pub(crate) mod sse;

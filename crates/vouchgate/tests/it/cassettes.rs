//! Recorded traffic of real providers, through the running product and out again.
//!
//! Three questions: does each recording, whatever it is, come out byte for byte ([`every`]); and of OpenAI's chat and
//! Anthropic's messages: does the other dialect say the same, and does a request say the same to a provider of the other
//! dialect. What is asked here is read out of the recordings by means of its own ([`told`], [`wanted`]): nothing of the
//! translator is used to check it.
//!
//! Each question ends with its exact list of exceptions, so that the list cannot grow unseen.

mod every;
mod exact;
mod home;
mod table;
pub(crate) mod told;
mod translated;
mod wanted;
mod world;

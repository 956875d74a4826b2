//! Translation and passing on, against recordings of every provider.

mod common {
    pub(crate) mod compare;
    pub(crate) mod converse;
    pub(crate) mod natives;
}
mod bedrock;
mod cassettes;
mod custom_tools;
mod fuzz;
mod gemini;
mod golden;
mod golden_bedrock;
mod golden_gemini;
mod golden_responses;
mod mutated;
mod natives;
mod own_members;
mod passthrough;
mod prices;
mod responses;
mod schemas;
mod tokens;

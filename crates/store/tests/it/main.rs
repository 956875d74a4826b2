//! The store from outside: one conformance suite for every engine, and what only a real file can show.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod sqlite;

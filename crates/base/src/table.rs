//! Tables that are asked for every request.

use std::collections::HashMap;

/// Hashes in a few instructions, with a seed that each process and each table has by itself. It is for names from configuration, and for
/// texts that whoever issues tokens answers for: a sender of requests does not choose them. It decides nothing but places in memory.
pub type Hashing = foldhash::quality::RandomState;

/// A table that is asked for every request, with [`Hashing`].
pub type Table<K, V> = HashMap<K, V, Hashing>;

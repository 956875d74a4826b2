//! The admin API from outside.

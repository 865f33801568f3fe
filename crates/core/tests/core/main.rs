//! Tests of what `anteroom-core` promises.

mod harness;
mod history_walk;
mod lifecycle_table;
mod lifecycle_walk;
mod model;
mod schedule_walk;

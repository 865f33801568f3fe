//! The binary `anteroom` as a process: what it prints, its exit codes, how it starts and stops.
#![expect(clippy::unwrap_used, reason = "a test's unwrap is an assertion")]

mod calling_back;
mod clients;
mod configuration;
mod harness;
mod leases;
mod lists;
mod moving;
#[cfg(feature = "postgres")]
mod postgres;
mod programs;
mod pushing;
mod queues;
mod schedules;
mod scripted;
mod serving;
mod streams;
mod terminal;
mod tokens;

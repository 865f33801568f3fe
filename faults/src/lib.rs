//! Breaks a running server on purpose and checks the history of what it acknowledged.
//!
//! [`history`] is what was seen and the rules it is held to; the rest are campaigns, each of which
//! starts a real server process, hurts it in one way, and compares what it promised with what is
//! there afterwards.

pub mod history;

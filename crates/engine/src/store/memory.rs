//! The memory store (to come).

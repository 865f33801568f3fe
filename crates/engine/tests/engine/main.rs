//! The engine's integration tests: one binary, a module for each subject.

#[cfg(feature = "contract")]
mod broken_stores;
#[cfg(feature = "contract")]
mod store_contract;

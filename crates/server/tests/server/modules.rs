// The HTTP tests, for the test binaries of further stores: each says in `mod store` how to open its own. In
// `main.rs` they stand as well, where the formatter finds them.

mod browsers;
mod exposition;
mod harness;
mod http_access;
mod http_bulk;
mod http_callbacks;
mod http_connections;
mod http_control;
mod http_envelopes;
mod http_errors;
mod http_events;
mod http_keys;
mod http_leases;
mod http_ndjson;
mod http_patch;
mod http_queues;
mod http_read;
mod http_schedules;
mod http_schema;
mod http_submit;
mod http_waiting;
mod metrics;
mod mount;
mod openapi;
mod smuggling;
mod trouble;

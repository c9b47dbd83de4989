//! The end-to-end tests: real servers, the real binary, one module per behaviour.
//!
//! One binary, because linking is what costs most on a small machine. `support` holds what the tests stand
//! on. Add a behaviour as a file beside this one and a line here.
#![allow(clippy::unwrap_used)]

mod support;

mod abilities;
mod apply_cost;
mod binary_stream;
mod canaries;
mod command_line;
mod connection_strings;
mod connector_file;
mod consumers;
mod copy_once;
mod copy_rows;
mod documents;
mod emit;
mod envelope;
mod existing_tables;
mod faults;
mod fence_partitions;
mod hostile_corpus;
mod http;
mod identity;
mod identity_full;
mod interop;
mod kafka;
mod key_changes;
mod key_equality;
mod odd_names;
mod orders;
mod outbox;
mod partitions;
mod preflight;
mod privileges;
mod published_tables;
mod random;
mod replication_client;
mod run_commands;
mod schema_migrate;
mod schema_restore;
mod schema_round_trip;
mod source_catalog;
mod source_transactions;
mod stream;
mod support_kafka;
mod support_oracle;
mod support_proxy;
mod support_selfcheck;
mod target_triggers;
mod tls;
mod toast;
mod truncate;
mod values;
mod verify_content;
mod verify_outcomes;
mod verify_rig;
mod verify_scale;
mod whole_run;

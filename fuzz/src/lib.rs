//! Functions that take any bytes and must neither panic, nor hang, nor take much memory. `fuzz_targets/` gives them to libFuzzer
//! (`scripts/fuzz TARGET --minutes N`); the normal tests replay what is kept in `corpus/` (`hostile_corpus`).

// The binary's own modules, which need nothing else of it.
#[allow(dead_code, unused_imports)]
#[path = "../../src/config/mod.rs"]
mod config;
#[allow(dead_code, unused_imports)]
#[path = "../../src/connector/mod.rs"]
mod connector;

pub mod hostile;

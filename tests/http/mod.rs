//! `--http`: health and metrics while things go well, and while they don't.

mod readiness;
mod refusals;

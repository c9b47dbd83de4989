//! Schema `walferry` in the target: everything a run knows, so that any host can go on with it from the two databases alone.
//!
//! ```text
//! runs       one row a run: mode, step, slot, settings, what the running process last said
//! tables     what the run feeds: state, copied-at and left-at positions
//! progress   append-only; each target transaction that applies changes adds the next row (see `progress`)
//! post_data  what pg_dump puts after the data: indexes, constraints, triggers; done or not
//! requests   control: verify, cutover and refresh ask the running process through here
//! skips      source transactions that an operator told the run to leave out
//! steps      when each step began and ended
//! shards, shard_tables   processes that share the run, and who feeds which table from where on (see `shard`)
//! ```
//!
//! Every access goes through this folder; one writer per fact: only the process that holds the run's advisory lock writes `runs`,
//! `tables` and `progress`.

mod ddl;
mod lock;
mod progress;
mod request;
mod run;
mod shard;
mod skip;
mod step;
mod table;

pub use ddl::{Removed, ensure, exists, remove_if_unused};
pub use lock::{Holder, holder, try_lock};
pub use progress::{Carrier, Counters, FENCED, Progress, fenced};
pub use request::{Request, RequestKind, RequestState};
pub use run::{CutoverState, Live, Mode, OutboxLive, Run, SourceIdentity, StatusError, TopicLive};
pub use shard::{Assigned, Shard, together};
pub use skip::{Skips, ask_to_skip};
pub use step::{Step, StepTime};
pub use table::{RunTable, TableState};

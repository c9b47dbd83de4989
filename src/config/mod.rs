//! Configuration: typed settings out of layers of text.
//!
//! ```text
//! command line, --set, WALFERRY_*, file, the run's record ──► layers ──► component structs ──► Settings
//!                                                                └── where each value came from
//! ```
//!
//! Unknown keys and wrong values are refused, all at once, with exit code 2. Nothing here prints a password: connection strings show
//! themselves without one.

mod capture;
mod component;
mod components;
mod connection;
mod environment;
mod expressions;
mod layers;
mod nearest;
mod operations;
mod ranges;
mod reference;
mod settings;
mod table_partitions;
#[cfg(test)]
mod tests;
mod value;

pub use capture::{Autocreate, CaptureSettings, SnapshotMode};
pub use component::{Component, Field};
pub use components::{
    ApplySettings, BinaryMode, Converter, CopySettings, CutoverMode, CutoverSettings, CutoverVerify,
    Databases, DebeziumSettings, DecimalMode, EventRoute, EventTable, From, HstoreMode, HttpSettings,
    IndexSettings, IntervalMode, InvalidOperation, KafkaSettings, KafkaValues, Keyless, LimitSettings,
    LogFormat, LogSettings, MissingField, OnLimit, OutboxSettings, PayloadNulls, ProgressMode, ReplicaRole,
    RetrySettings, RunSettings, SaslMechanism, SchemaSettings, SecurityProtocol, Select, SlotSettings,
    StreamSettings, SynchronousCommit, TimeMode, VerifySettings, Via,
};
pub use expressions::Expressions;
pub use layers::{Layers, Origin, Reader};
pub use nearest::nearest;
pub use operations::Operations;
pub use reference::reference;
pub use settings::{Needs, Settings, components, fields};
pub use table_partitions::TablePartitions;
pub(crate) use value::words;
pub use value::{Jobs, Listen, Size, Value, unquote};

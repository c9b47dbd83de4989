//! What the two ends of a COPY agree on: which columns, and in which format their values travel.
//!
//! The reader's COPY TO STDOUT and the writer's COPY FROM STDIN are joined byte by byte; nothing in between understands a row, unless the
//! target might lose a part of one in silence ([`RowCheck`]). So the format is chosen before the first byte, from both catalogs
//! ([`Format::choose`]).

mod check;
mod format;
mod shape;

pub use check::RowCheck;
pub use format::Format;
pub use shape::{ColumnShape, shapes_sql};

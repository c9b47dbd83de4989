//! Values outside of an envelope: one column of an outbox row as JSON, or as plain text.

use pg::Result;

use super::options::Options;
use super::schema;
use super::types::ColumnType;
use super::value::Codec;
use crate::change::{Column, RelationColumn};

/// Writes the values of one column.
#[derive(Clone, Debug)]
pub struct ValueWriter {
    codec: Codec,
    placeholder: Vec<u8>,
}

impl ValueWriter {
    /// `described`: what the catalogue says about the column.
    #[must_use]
    pub fn new(options: &Options, column: &RelationColumn, described: Option<&ColumnType>) -> ValueWriter {
        let codec = Codec::new(options, column, described);
        let placeholder = codec.placeholder(column, &options.unavailable);
        ValueWriter { codec, placeholder }
    }

    /// Appends the JSON of `value`.
    ///
    /// # Errors
    /// A value that its type does not write.
    pub fn json(&self, out: &mut Vec<u8>, value: Column<'_>) -> Result<()> {
        self.codec.write(out, value, &self.placeholder)
    }

    /// The column's schema, without braces: `"type":…,"optional":…`.
    pub(crate) fn schema(&self, described: Option<&ColumnType>) -> String {
        schema::column(&self.codec, described)
    }
}

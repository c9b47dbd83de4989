//! Where in a row the router's columns are. Looked up once per version of the table.

use pg::{Error, Result};

use crate::change::{Column, Relation, Tuple};
use crate::envelope::{TableTypes, ValueWriter};

use super::options::{MissingField, Options};
use super::placement::Place;

/// One column of the row.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub at: usize,
    pub writer: ValueWriter,
}

/// The router's columns in one version of the table.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub id: Field,
    pub key: Field,
    pub payload: Field,
    pub route_by: Field,
    pub timestamp: Option<Field>,
    pub schema_version: Option<Field>,
    /// In the order of the list: place, alias, column.
    pub additional: Vec<(Place, String, Field)>,
}

impl Columns {
    /// # Errors
    /// `Stop`: a column that the options name is not there (any more). No event is lost by that: the stream waits.
    pub(super) fn of(options: &Options, relation: &Relation, types: Option<&TableTypes>) -> Result<Columns> {
        let find = |name: &str| -> Option<Field> {
            let at = relation.columns.iter().position(|column| column.name == name)?;
            let column = &relation.columns[at];
            let described =
                types.and_then(|types| types.column(name)).filter(|d| d.type_oid == column.type_id);
            Some(Field { at, writer: ValueWriter::new(&options.envelope, column, described) })
        };
        let field = |option: &str, name: &str| {
            find(name).ok_or_else(|| {
                Error::stop(
                    "OUTBOX_COLUMN",
                    format!("{option}: table {} has no column \"{name}\"", relation.name),
                )
                .detail("the slot keeps the events until it is there")
                .hint(format!("add the column, or give --set {option}=COLUMN"))
            })
        };
        let optional =
            |option: &str, name: &Option<String>| name.as_deref().map(|name| field(option, name)).transpose();
        let mut additional = Vec::new();
        for placement in &options.placements {
            match find(&placement.column) {
                Some(found) => additional.push((placement.place, placement.alias.clone(), found)),
                None if options.missing == MissingField::Ignore => {}
                None => {
                    field("table.fields.additional.placement", &placement.column)?;
                }
            }
        }
        Ok(Columns {
            id: field("table.field.event.id", &options.id)?,
            key: field("table.field.event.key", &options.key)?,
            payload: field("table.field.event.payload", &options.payload)?,
            route_by: field("route.by.field", &options.route_by)?,
            timestamp: optional("table.field.event.timestamp", &options.timestamp)?,
            schema_version: optional("table.field.event.schema.version", &options.schema_version)?,
            additional,
        })
    }
}

impl Field {
    pub(super) fn value<'t>(&self, tuple: &'t Tuple) -> Column<'t> {
        tuple.columns().nth(self.at).unwrap_or(Column::Null)
    }

    /// The text as it came; None: NULL.
    pub(super) fn raw<'t>(&self, tuple: &'t Tuple) -> Option<&'t [u8]> {
        match self.value(tuple) {
            Column::Text(text) | Column::Binary(text) => Some(text),
            Column::Null | Column::Unchanged => None,
        }
    }
}

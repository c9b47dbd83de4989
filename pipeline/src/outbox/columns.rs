//! Where in a row the router's columns are. Looked up once per version of the table.

use pg::{Error, Result};

use crate::change::{Column, Relation, Tuple};
use crate::envelope::{TableTypes, Topics, ValueWriter};

use super::options::{Format, MissingField, Options};
use super::placement::Place;
use super::schema::{self, Known};

/// One column of the row.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub at: usize,
    pub writer: ValueWriter,
    /// Kafka Connect's schema of it, without braces.
    pub schema: String,
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
    pub schemas: Known,
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
            let writer = ValueWriter::new(&options.envelope, column, described);
            Some(Field { at, schema: writer.schema(described), writer })
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
        let key = field("table.field.event.key", &options.key)?;
        let payload = field("table.field.event.payload", &options.payload)?;
        let schemas = Known {
            key: (options.key_schemas && options.key_format == Format::Json).then(|| {
                let mut opening = Vec::new();
                schema::open(&mut opening, &key.schema);
                opening
            }),
            value: (options.value_schemas && options.value_format == Format::Json).then(|| schema::Value {
                payload: payload.schema.clone(),
                fields: fields(&additional),
                topic: Topics::new(&options.envelope.prefix).table(&relation.name),
            }),
        };
        Ok(Columns {
            id: field("table.field.event.id", &options.id)?,
            key,
            payload,
            route_by: field("route.by.field", &options.route_by)?,
            timestamp: optional("table.field.event.timestamp", &options.timestamp)?,
            schema_version: optional("table.field.event.schema.version", &options.schema_version)?,
            additional,
            schemas,
        })
    }
}

/// Those that go into the envelope, each with a comma before it.
fn fields(additional: &[(Place, String, Field)]) -> String {
    let placed = additional.iter().filter(|(place, ..)| *place == Place::Envelope);
    placed.map(|(_, alias, field)| format!(",{}", schema::field(&field.schema, alias))).collect()
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

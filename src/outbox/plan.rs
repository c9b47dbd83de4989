//! What is routed: the outbox tables as the source has them, the options that fit them, the prefixes of messages.

use std::collections::HashMap;

use pg::{Error, QualifiedName, Result, Session};
use pipeline::envelope::{self, TableTypes, Values};
use pipeline::outbox::{self, Format, Nulls, Options, Placement, Route, Router};
use reader::catalog;
use tokio_postgres::{Row, types::ToSql};

use super::{Context, cleanup, name};
use crate::config::{Converter, InvalidOperation, KafkaValues, MissingField, Origin, PayloadNulls, Settings};

/// The table that is looked for when none is named.
pub const DEFAULT_TABLE: &str = "public.outbox";
/// pgoutput passes logical messages from this version on.
pub const MESSAGES_SINCE: u32 = 14;

/// One outbox table.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: QualifiedName,
    pub oid: u32,
    pub partitioned: bool,
    /// Updates and deletes can be published.
    pub identity: bool,
    pub types: TableTypes,
    pub options: Options,
}

/// What a run routes.
pub struct Plan {
    pub tables: Vec<Table>,
    pub prefixes: Vec<String>,
    pub publications: Vec<String>,
    /// The publication is the run's own to make.
    pub own_publication: bool,
    base: Options,
}

impl Plan {
    pub fn routers(&self) -> (HashMap<QualifiedName, Router>, Router) {
        let tables = self
            .tables
            .iter()
            .map(|table| (table.name.clone(), Router::new(table.options.clone(), Some(table.types.clone()))));
        (tables.collect(), Router::new(self.base.clone(), None))
    }

    pub fn say(&self, context: &Context) {
        let tables = self.tables.iter().map(|table| {
            let options = &table.options;
            format!(
                "table {}: key {}, payload {}, topic by {}",
                table.name, options.key, options.payload, options.route_by
            )
        });
        let messages = (!self.prefixes.is_empty())
            .then(|| format!("logical messages with prefix {}", self.prefixes.join(", ")));
        let what: Vec<String> = tables.chain(messages).collect();
        context.reporter.note(format!("routes {}", what.join("; ")));
    }
}

/// The options, without a look at any table.
///
/// # Errors
/// Class `Usage`: all that doesn't fit together.
pub fn options(settings: &Settings) -> Result<Options> {
    let (table, route, outbox) = (&settings.event_table, &settings.event_route, &settings.outbox);
    let values = match settings.kafka.values {
        KafkaValues::Postgres => Values::Postgres,
        KafkaValues::Debezium => Values::Debezium,
    };
    let mut envelope = envelope::Options::new(settings.kafka_prefix(), "", values);
    crate::run::modes::set(settings, &mut envelope);
    let mut options = Options::new(envelope);
    let mut problems = Vec::new();
    match Route::new(&route.topic_regex, &route.topic_replacement) {
        Ok(made) => options.route = made,
        Err(problem) => problems.push(problem),
    }
    for placement in &table.placement {
        match Placement::parse(placement) {
            Ok(placement) => options.placements.push(placement),
            Err(expected) => problems.push(format!("table.fields.additional.placement: {expected}")),
        }
    }
    options.id.clone_from(&table.event_id);
    options.key.clone_from(&table.event_key);
    options.event_type.clone_from(&table.event_type);
    options.payload.clone_from(&table.event_payload);
    options.timestamp.clone_from(&table.event_timestamp);
    options.schema_version.clone_from(&table.schema_version);
    options.missing = match table.additional_missing {
        MissingField::Error => outbox::MissingField::Error,
        MissingField::Ignore => outbox::MissingField::Ignore,
    };
    options.expand = table.expand;
    options.nulls = match table.payload_nulls {
        PayloadNulls::Ignore => Nulls::Ignore,
        PayloadNulls::OptionalBytes => Nulls::OptionalBytes,
    };
    options.invalid = match table.invalid_operation {
        InvalidOperation::Warn => outbox::InvalidOperation::Warn,
        InvalidOperation::Error => outbox::InvalidOperation::Error,
        InvalidOperation::Fatal => outbox::InvalidOperation::Fatal,
    };
    options.route_by.clone_from(&route.by_field);
    options.tombstone = route.tombstone;
    options.key_format = format(outbox.key_converter);
    options.value_format = format(outbox.value_converter);
    options.message_topic.clone_from(&outbox.message_topic);
    options.key_schemas = schemas(settings, "outbox.key_schemas", outbox.key_schemas);
    options.value_schemas = schemas(settings, "outbox.value_schemas", outbox.value_schemas);
    problems.extend(options.problems(None));
    match problems.as_slice() {
        [] => Ok(options),
        [one] => Err(Error::usage(one.clone())),
        many => {
            Err(Error::usage(format!("{} problems in the configuration", many.len())).detail(many.join("\n")))
        }
    }
}

/// Of keys or of values: what is said of them, else what is said of both. A connector's file says something of each, its defaults included: whoever
/// says something of both besides means it.
fn schemas(settings: &Settings, key: &str, own: Option<bool>) -> bool {
    let from = |key: &str| settings.effective.iter().find(|e| e.key == key).map(|e| &e.origin);
    let file = matches!(from(key), Some(Origin::Connector(_)));
    let besides =
        matches!(from("kafka.schemas"), Some(Origin::Environment(_) | Origin::Set | Origin::Flag(_)));
    own.filter(|_| !(file && besides)).unwrap_or(settings.kafka.schemas)
}

fn format(converter: Converter) -> Format {
    match converter {
        Converter::Json => Format::Json,
        Converter::String => Format::String,
        Converter::Bytes => Format::Bytes,
    }
}

/// Looks at the source. `started`: the run has begun, so what is missing may come back.
///
/// # Errors
/// Tables, columns or types that don't fit: refused with the option's name, before anything is made.
pub async fn look(settings: &Settings, session: &Session, started: bool) -> Result<Plan> {
    let base = options(settings)?;
    let tables = tables(settings, session, &base).await.map_err(|error| later(error, started))?;
    // Later it is no reason to stop routing.
    if let Some(retention) = settings.outbox.retention.filter(|_| !started) {
        for table in &tables {
            cleanup::old(settings, table, retention)?;
        }
    }
    let given = |key: &str| settings.effective.iter().any(|e| e.key == key && e.origin != Origin::Default);
    let mut prefixes = settings.outbox.messages.clone();
    if session.version().major() < MESSAGES_SINCE && !prefixes.is_empty() {
        if given("outbox.messages") {
            return Err(Error::refuse(
                "OUTBOX_MESSAGES",
                format!("outbox.messages: logical messages need a source of {MESSAGES_SINCE} or later"),
            )
            .hint("emit into an outbox table: walferry outbox init --layout NAME"));
        }
        prefixes.clear();
    }
    let emits = session
        .query_opt(
            "SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = 'walferry' AND p.proname = 'emit'",
            &[],
        )
        .await?
        .is_some();
    if tables.is_empty() && (prefixes.is_empty() || !(emits || given("outbox.messages"))) {
        return Err(later(
            Error::refuse(
                "OUTBOX_MISSING",
                format!("outbox.table: there is no table {DEFAULT_TABLE}, and no walferry.emit"),
            )
            .hint(
                "walferry outbox init makes one of them; --set outbox.table=SCHEMA.NAME names another table",
            ),
            started,
        ));
    }
    let publications = &settings.run.publication;
    Ok(Plan {
        tables,
        prefixes,
        own_publication: publications.is_empty(),
        publications: if publications.is_empty() {
            vec![settings.name().to_owned()]
        } else {
            publications.clone()
        },
        base,
    })
}

/// Once the run has begun, what the table lacks is waited for: the slot keeps the events.
fn later(error: Error, started: bool) -> Error {
    if started && error.class() == pg::Class::Refuse { error.with_class(pg::Class::Stop) } else { error }
}

/// The outbox tables, and nothing else of the plan.
///
/// # Errors
/// As [`look`].
pub async fn tables(settings: &Settings, session: &Session, base: &Options) -> Result<Vec<Table>> {
    let named = !settings.outbox.table.is_empty();
    let names = if named { settings.outbox.table.clone() } else { vec![DEFAULT_TABLE.to_owned()] };
    let mut tables = Vec::new();
    let mut problems = Vec::new();
    for name in names {
        match table(session, &name, base).await? {
            Found::Table(table) => {
                problems.extend(table.options.problems(Some(&table.types)));
                tables.push(*table);
            }
            Found::Missing if !named => {}
            Found::Missing => problems.push(format!("outbox.table: there is no table {name}")),
            Found::Unusable(why) => problems.push(format!("outbox.table: {name} {why}")),
        }
    }
    let refused = |primary: String| {
        Error::refuse("OUTBOX_TABLE", primary).hint(
            "walferry outbox init --print shows tables of the usual layouts; --set KEY=COLUMN names another column",
        )
    };
    match problems.as_slice() {
        [] => Ok(tables),
        [one] => Err(refused(one.clone())),
        many => Err(refused(format!("the outbox does not fit the options: {} problems", many.len()))
            .detail(many.join("\n"))),
    }
}

enum Found {
    Table(Box<Table>),
    Missing,
    Unusable(&'static str),
}

/// The name as it is, then as SQL reads it.
async fn find(session: &Session, given: &str) -> Result<Option<Row>> {
    if let Some(name) = name::literal(given) {
        let literal =
            look_up(session, "n.nspname = $1 AND c.relname = $2", &[&name.schema, &name.name]).await?;
        if literal.is_some() {
            return Ok(literal);
        }
    }
    look_up(session, "c.oid = pg_catalog.to_regclass($1)", &[&name::sql(given)])
        .await
        .map_err(|error| error.context(format!("outbox.table {given}")))
}

async fn look_up(
    session: &Session,
    condition: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>> {
    let sql = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
                c.relreplident = 'f' OR EXISTS (
                    SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND CASE c.relreplident
                        WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {condition}"
    );
    Ok(session.query_opt(&sql, parameters).await?)
}

async fn table(session: &Session, name: &str, base: &Options) -> Result<Found> {
    let Some(row) = find(session, name).await? else { return Ok(Found::Missing) };
    let (oid, kind, persistence): (u32, String, String) = (row.get(0), row.get(3), row.get(4));
    if !matches!(kind.as_str(), "r" | "p") {
        return Ok(Found::Unusable("is no table"));
    }
    if persistence != "p" {
        return Ok(Found::Unusable("is unlogged or temporary: it leaves nothing in the WAL"));
    }
    let Some(types) = catalog::types(session, &[oid]).await?.pop() else { return Ok(Found::Missing) };
    let mut options = base.clone();
    options.adapt(&types);
    Ok(Found::Table(Box::new(Table {
        name: QualifiedName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
        oid,
        partitioned: kind == "p",
        identity: row.get(5),
        types,
        options,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, Needs};

    fn schemas_of(layers: &[(&str, &str, Origin)]) -> (bool, bool) {
        let mut all = Layers::default();
        for (key, text, origin) in layers {
            all.assign(*key, vec![(*text).to_owned()], origin.clone());
        }
        let options = options(&Settings::read(&all, Needs::Nothing).unwrap()).unwrap();
        (options.key_schemas, options.value_schemas)
    }

    #[test]
    fn schemas_of_keys_and_of_values() {
        let (flag, set) = (Origin::Flag("--schemas"), Origin::Set);
        let file = || Origin::Connector("c".to_owned());
        let both = ("kafka.schemas", "on", flag);
        let (key, value) = ("outbox.key_schemas", "outbox.value_schemas");
        assert_eq!(schemas_of(&[]), (false, false));
        assert_eq!(schemas_of(std::slice::from_ref(&both)), (true, true));
        assert_eq!(schemas_of(&[both.clone(), (key, "off", set.clone())]), (false, true));
        assert_eq!(schemas_of(&[(value, "on", set.clone())]), (false, true));
        assert_eq!(schemas_of(&[(key, "off", file()), (value, "on", file())]), (false, true));
        assert_eq!(schemas_of(&[both, (key, "off", file()), (value, "off", file())]), (true, true));
        assert_eq!(
            schemas_of(&[("kafka.schemas", "off", set), (key, "on", file()), (value, "on", file())]),
            (false, false)
        );
    }
}

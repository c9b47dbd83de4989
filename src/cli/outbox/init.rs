//! `walferry outbox init`.

use clap::Args;
use pg::{Error, Result};

use crate::cli::options::{Flags, Overrides};
use crate::cli::{Context, Exit};
use crate::outbox::{self, layout::Install, layout::Layout};
use crate::output;

/// Install an outbox on the source: a table of one of the usual layouts, and walferry.emit.
///
/// walferry.emit(aggregate_type, aggregate_id, event_type, payload jsonb, headers jsonb default '{}') emits an event in the caller's own
/// transaction, from any language. Can be run again: what is there stays.
#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    /// Layout of the table
    #[arg(long, value_enum, default_value = "messages")]
    pub layout: Layout,
    /// Name of the table [default: public.outbox, or outbox.table]
    #[arg(long, value_name = "SCHEMA.NAME")]
    pub table: Option<String>,
    /// Roles that emit: they get INSERT on the table, and EXECUTE of walferry.emit, which PUBLIC has unless it was revoked; may be repeated
    #[arg(long, value_name = "ROLE")]
    pub grant: Vec<String>,
    /// The role of outbox run: what it needs is granted, and the publication is made for it
    #[arg(long, value_name = "ROLE")]
    pub run_role: Option<String>,
    /// Print the SQL, and do nothing
    #[arg(long)]
    pub print: bool,
}

impl Overrides for InitArgs {
    fn assign(&self, _flags: &mut Flags<'_>) {}
}

pub async fn run(args: InitArgs, context: Context) -> Result<Exit> {
    let settings = &context.settings;
    let named = args.table.or_else(|| settings.outbox.table.first().cloned());
    let install = Install {
        layout: args.layout,
        table: named.unwrap_or_else(|| outbox::plan::DEFAULT_TABLE.to_owned()),
        prefix: settings.outbox.messages.first().cloned().unwrap_or_else(|| "outbox".to_owned()),
        emitters: args.grant,
        runner: args.run_role,
        publication: settings.run.publication.first().cloned().unwrap_or_else(|| settings.name().to_owned()),
    };
    let session = outbox::connect(&settings.source_admin()?, settings.name(), "admin").await?;
    let sql = install.sql(session.version())?;
    if args.print {
        output::print(&format!("{};", sql.join(";\n")))?;
        return Ok(Exit::Done);
    }
    session.batch_execute(&format!("BEGIN; {}; COMMIT", sql.join(";\n"))).await.map_err(|error| {
        let error = Error::from(error).context("could not install the outbox");
        if error.is(pg::sqlstate::INSUFFICIENT_PRIVILEGE) {
            return error
                .hint("give a role that may create in the database: --source-admin; --print shows the SQL");
        }
        match error.hint_text() {
            Some(_) => error,
            None => error.hint("the same command with --print shows the SQL"),
        }
    })?;
    let what = match install.layout {
        Layout::Messages => "walferry.emit is installed: events are logical messages".to_owned(),
        _ => format!("table {} and walferry.emit are installed", install.table),
    };
    output::print(&what)?;
    Ok(Exit::Done)
}

//! `walferry config`: what is in force, and the reference of all keys.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pg::Result;
use serde_json::{Map, json};

use super::options::{Flags, Overrides};
use super::{Context, Exit};
use crate::config::reference;
use crate::connector;
use crate::output;

/// Show the effective configuration, or the reference of all keys.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Subcommand, Clone, Debug)]
pub enum What {
    /// Print every value in force and where it came from; passwords are left out
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// A Debezium connector's configuration (JSON or .properties): what it becomes here; again for its worker's
        #[arg(long, value_name = "FILE")]
        connector: Vec<PathBuf>,
    },
    /// Print the reference page of all keys (docs/configuration.md)
    Reference,
    /// Print what becomes of each property of a Debezium connector (a table of docs/debezium.md)
    Properties {
        /// Those of the outbox event router instead (a table of docs/outbox.md)
        #[arg(long)]
        outbox: bool,
    },
}

impl ConfigArgs {
    /// Says what there is, not what is in force.
    pub fn only_explains(&self) -> bool {
        !matches!(self.what, What::Show { .. })
    }

    pub fn connector(&self) -> Vec<&Path> {
        match &self.what {
            What::Show { connector, .. } => connector.iter().map(AsRef::as_ref).collect(),
            What::Reference | What::Properties { .. } => Vec::new(),
        }
    }
}

impl Overrides for ConfigArgs {
    fn assign(&self, _flags: &mut Flags<'_>) {}
}

pub fn run(args: ConfigArgs, context: &Context) -> Result<Exit> {
    let effective = &context.settings.effective;
    match args.what {
        What::Reference => output::print(&reference()),
        What::Properties { outbox: true } => output::print(&connector::page(connector::OUTBOX)),
        What::Properties { outbox: false } => output::print(&format!(
            "{}\n{}",
            connector::page(connector::SOURCE),
            connector::page(connector::CLIENT)
        )),
        What::Show { json: true, .. } => {
            let object: Map<_, _> = effective
                .iter()
                .map(|e| (e.key.to_owned(), json!({"value": e.text, "origin": e.origin.to_string()})))
                .collect();
            output::print_json(&object.into())
        }
        What::Show { json: false, .. } => {
            let rows = effective.iter().map(|e| vec![e.key.to_owned(), e.text.clone(), e.origin.to_string()]);
            output::print(&output::table(&["key", "value", "from"], rows.collect()))
        }
    }?;
    Ok(Exit::Done)
}

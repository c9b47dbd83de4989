//! `walferry outbox dlq`: what could not be delivered.

use clap::{Args, Subcommand};
use kafka::outbox::{ERROR, ID, Letter, PREFIX, ROW, STAGE, TABLE, TopicSettings, read_letters, replay};
use pg::{Error, Result};
use pipeline::envelope::{Position, header};
use pipeline::outbox::{Event, Router};
use serde_json::{Value, json};

use crate::cli::options::{Flags, Kafka, Overrides};
use crate::cli::{Context, Exit};
use crate::config::{Needs, Settings};
use crate::outbox::{self, plan};
use crate::output;
use crate::run::topics;

/// The dead letters of a run: events that no attempt would deliver, with the bytes that they came with (topic <prefix>.dlq).
#[derive(Args, Clone, Debug)]
pub struct DlqArgs {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Subcommand, Clone, Debug)]
pub enum What {
    /// List the letters: place, event, stage and reason; never a value
    List {
        /// One JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        kafka: Kafka,
    },
    /// Show one letter with its key and value
    Show {
        /// PARTITION:OFFSET, or the offset alone, as list prints it
        place: String,
        #[command(flatten)]
        kafka: Kafka,
    },
    /// Route letters again, with the options of now, and mark those that were delivered
    Replay {
        /// The letters, as list prints them
        #[arg(required_unless_present = "all")]
        places: Vec<String>,
        /// Every letter that was not replayed yet
        #[arg(long, conflicts_with = "places")]
        all: bool,
        /// Those too that were replayed already
        #[arg(long)]
        again: bool,
        #[command(flatten)]
        kafka: Kafka,
    },
}

impl DlqArgs {
    /// Only a replay looks at the outbox table.
    pub fn needs(&self) -> Needs {
        match self.what {
            What::Replay { .. } => Needs::Source,
            What::List { .. } | What::Show { .. } => Needs::Brokers,
        }
    }
}

impl Overrides for DlqArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        match &self.what {
            What::List { kafka, .. } | What::Show { kafka, .. } | What::Replay { kafka, .. } => {
                kafka.assign(flags)
            }
        }
    }
}

pub async fn run(args: DlqArgs, context: Context) -> Result<Exit> {
    let settings = &context.settings;
    let (options, topic) = (topics::options(settings)?, outbox::dead_letters(settings));
    let letters = read_letters(&options, &topic).await?;
    match args.what {
        What::List { json: true, .. } => output::print_json(&letters.iter().map(described).collect())?,
        What::List { json: false, .. } => list(&topic, &letters)?,
        What::Show { place, .. } => show(chosen(&letters, &place, &topic)?)?,
        What::Replay { places, all, again, .. } => {
            let chosen: Vec<&Letter> = if all {
                letters.iter().collect()
            } else {
                places.iter().map(|place| chosen(&letters, place, &topic)).collect::<Result<_>>()?
            };
            return Box::pin(replayed(&context, &topic, &chosen, again)).await;
        }
    }
    Ok(Exit::Done)
}

fn chosen<'l>(letters: &'l [Letter], place: &str, topic: &str) -> Result<&'l Letter> {
    let full = if place.contains(':') { place.to_owned() } else { format!("0:{place}") };
    letters.iter().find(|letter| letter.place() == full).ok_or_else(|| {
        Error::refuse("NO_LETTER", format!("there is no letter {place} in topic \"{topic}\""))
            .hint("walferry outbox dlq list shows them")
    })
}

fn list(topic: &str, letters: &[Letter]) -> Result<()> {
    if letters.is_empty() {
        return output::print(&format!("no dead letters in topic \"{topic}\""));
    }
    let row = |letter: &Letter| {
        let header = |name: &str| letter.header(name).unwrap_or_default();
        vec![
            letter.place(),
            header(header::POSITION),
            header(ID),
            header(STAGE),
            if letter.replayed { "replayed" } else { "" }.to_owned(),
            header(ERROR),
        ]
    };
    let rows = letters.iter().map(row).collect();
    output::print(&output::table(&["letter", "position", "id", "stage", "", "reason"], rows))
}

fn described(letter: &Letter) -> Value {
    json!({
        "letter": letter.place(),
        "position": letter.header(header::POSITION),
        "id": letter.header(ID),
        "stage": letter.header(STAGE),
        "reason": letter.header(ERROR),
        "table": letter.header(TABLE),
        "prefix": letter.header(PREFIX),
        "replayed": letter.replayed,
        "bytes": letter.value.as_ref().map(Vec::len),
    })
}

fn show(letter: &Letter) -> Result<()> {
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "(none)".to_owned(),
    };
    let mut lines: Vec<String> = vec![format!("letter: {}", letter.place())];
    lines.extend(letter.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))));
    lines.push(format!("replayed: {}", if letter.replayed { "yes" } else { "no" }));
    lines.push(format!("key: {}", text(&letter.key)));
    lines.push(format!("value: {}", text(&letter.value)));
    output::print(&lines.join("\n"))
}

async fn replayed(context: &Context, topic: &str, letters: &[&Letter], again: bool) -> Result<Exit> {
    let settings = &context.settings;
    let options = topics::options(settings)?;
    let how = TopicSettings {
        create: settings.outbox.create_topics,
        partitions: options.partitions,
        retention: options.retention,
        message_bytes: options.message_bytes,
    };
    let session = outbox::connect(&settings.source()?, settings.name(), "dlq").await?;
    let base = plan::options(settings)?;
    let tables = plan::tables(settings, &session, &base).await?;
    let (mut sent, mut failed) = (0u64, 0u64);
    for letter in letters.iter().filter(|letter| again || !letter.replayed) {
        let outcome = match routed(settings, &tables, letter) {
            Ok(event) => replay(&options, &how, topic, letter, &event).await.map(|()| event.topic),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(to) => {
                sent += 1;
                output::print(&format!("letter {}: to topic \"{to}\"", letter.place()))?;
            }
            Err(error) if error.class() == pg::Class::Refuse => {
                failed += 1;
                output::print(&format!("letter {}: stays: {}", letter.place(), error.primary()))?;
            }
            Err(error) => return Err(error),
        }
    }
    let passed = letters.len() as u64 - sent - failed;
    let passed = if passed > 0 { format!(", {passed} were replayed before") } else { String::new() };
    output::print(&format!("{sent} delivered, {failed} stay{passed}"))?;
    Ok(if failed > 0 { Exit::Failed } else { Exit::Done })
}

fn routed(settings: &Settings, tables: &[plan::Table], letter: &Letter) -> Result<Event> {
    let stays = |why: String| Error::refuse("OUTBOX_LETTER", why);
    let position: Position = letter
        .header(header::POSITION)
        .and_then(|position| position.parse().ok())
        .ok_or_else(|| stays("it has no position".to_owned()))?;
    let again = if let Some(prefix) = letter.header(PREFIX) {
        let mut router = Router::new(plan::options(settings)?, None);
        router.replay_message(
            &prefix,
            letter.value.as_deref().unwrap_or_default(),
            position,
            letter.timestamp,
        )
    } else {
        let name = letter.header(TABLE).unwrap_or_default();
        let table = tables
            .iter()
            .find(|table| format!("{}.{}", table.name.schema, table.name.name) == name)
            .ok_or_else(|| stays(format!("table {name} is no outbox of this run")))?;
        let row = letter.header(ROW).unwrap_or_default();
        let mut router = Router::new(table.options.clone(), Some(table.types.clone()));
        router.replay_row(
            &table.types,
            row.as_bytes(),
            letter.value.as_deref(),
            position,
            letter.timestamp,
        )?
    };
    again.map_err(|letter| stays(letter.reason))
}

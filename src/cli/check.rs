//! `walferry check`: everything that would stop or surprise a run, with the SQL that fixes it.

use clap::Args;
use pg::{Class, Result};
use pipeline::{Finding, Severity, Side};

use super::options::{CutoverChoice, Flags, Follow, Http, Overrides, Restore, Resync, Selection};
use super::{Context, Exit};
use crate::outbox;
use crate::output::{print, print_json, redact};
use crate::preflight::{self, Look};

/// Look at both databases and list everything that would stop or surprise a run, each with the SQL that fixes it.
///
/// Changes nothing. Takes the options of `migrate` and `replicate`, so that it looks at what they would do. Ends with 0 when a run
/// would start, with 4 when it would be refused, with 3 when that is not known because a server or the brokers did not answer.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub restore: Restore,
    #[command(flatten)]
    pub follow: Follow,
    #[command(flatten)]
    pub http: Http,
    #[command(flatten)]
    pub resync: Resync,
    #[command(flatten)]
    pub cutover: CutoverChoice,
    /// Keep ordinary writers off the target's tables, as migrate does
    #[arg(long)]
    pub protect: bool,
    /// Look at what `outbox run` needs, instead: the source and the brokers
    #[arg(long)]
    pub outbox: bool,
    /// Print one JSON array of findings instead of text
    #[arg(long)]
    pub json: bool,
    /// Print the SQL that grants both roles what a run needs for the tables at hand, instead of findings
    #[arg(long, conflicts_with = "json")]
    pub grants: bool,
}

impl Overrides for CheckArgs {
    fn assign(&self, flags: &mut Flags<'_>) {
        self.selection.assign(flags);
        self.restore.assign(flags);
        self.follow.assign(flags);
        self.http.assign(flags);
        self.cutover.assign(flags);
        flags.on("run.protect", "--protect", self.protect);
    }
}

pub async fn run(args: CheckArgs, context: Context) -> Result<Exit> {
    let look = if args.outbox {
        if args.grants {
            print(&outbox::check::grants(&context.settings).await?)?;
            return Ok(Exit::Done);
        }
        // The target is none of its business, whether or not one is named.
        Look { findings: outbox::check::look(&context.settings).await, source: None }
    } else {
        preflight::look(&context.settings, true).await?
    };
    if args.grants {
        return grants(&context, &look);
    }
    if args.json {
        let findings = serde_json::to_string(&look.findings)
            .map_err(|error| pg::Error::failed("JSON", format!("the findings can't be written: {error}")))?;
        let findings: serde_json::Value = serde_json::from_str(&redact(&findings)).unwrap_or_default();
        print_json(&findings)?;
    } else {
        print(&text(&context, &look, args.outbox)?)?;
    }
    Ok(match look.findings.iter().any(Finding::refuses) {
        true if Finding::only_unseen(&look.findings) => Exit::Unverifiable,
        true => Exit::Refused,
        false => Exit::Done,
    })
}

/// Grouped by side, what refuses first, each with its fix.
fn text(context: &Context, look: &Look, outbox: bool) -> Result<String> {
    let mut out = String::new();
    let mut sides = vec![(Side::Source, format!("source {}", context.settings.source()?.display()))];
    if !outbox {
        sides.push((Side::Target, format!("target {}", context.settings.target()?.display())));
    }
    sides.push((Side::Here, "this machine".to_owned()));
    for (side, title) in sides {
        let findings: Vec<&Finding> = look.findings.iter().filter(|finding| finding.side == side).collect();
        if findings.is_empty() && side == Side::Here {
            continue;
        }
        out += &format!("{title}\n");
        if findings.is_empty() {
            out += "  nothing found\n";
        }
        for finding in findings {
            let severity = match finding.severity {
                Severity::Refuse => "refuse",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            out += &format!("  {severity:<8} {} [{}]\n", finding.primary, finding.code);
            for (label, text) in [("", &finding.detail), ("fix: ", &finding.fix)] {
                if let Some(text) = text {
                    let indent = format!("\n           {}", " ".repeat(label.len()));
                    out += &format!("           {label}{}\n", text.trim_end().replace('\n', &indent));
                }
            }
        }
        out.push('\n');
    }
    let count = |severity| look.findings.iter().filter(|finding| finding.severity == severity).count();
    let refused = count(Severity::Refuse);
    out += &match refused {
        0 => format!(
            "a run would start: {} warning(s), {} note(s)\n",
            count(Severity::Warning),
            count(Severity::Note)
        ),
        _ if Finding::only_unseen(&look.findings) => format!(
            "could not look: {refused} did not answer; {} warning(s), {} note(s)\n",
            count(Severity::Warning),
            count(Severity::Note)
        ),
        _ => format!(
            "a run would be refused: {refused} finding(s) stand in the way, {} warning(s), {} note(s)\n",
            count(Severity::Warning),
            count(Severity::Note)
        ),
    };
    Ok(redact(&out))
}

fn grants(context: &Context, look: &Look) -> Result<Exit> {
    let Some(facts) = &look.source else {
        let error = Finding::as_error(&look.findings)
            .unwrap_or_else(|| pg::Error::connection("there is no connection to the source"));
        let unseen = Finding::only_unseen(&look.findings);
        return Err(if unseen { error.with_class(Class::Unverifiable) } else { error });
    };
    let settings = &context.settings;
    let publication = settings.run.publication.is_empty().then(|| settings.name());
    let (source, target) = (settings.source()?, settings.target()?);
    print(&format!(
        "{}\n{}",
        reader::preflight::source_grants(source.user(), publication, facts),
        writer::preflight::target_grants(target.user(), target.dbname(), settings.run.existing_schema, facts)
    ))?;
    Ok(Exit::Done)
}

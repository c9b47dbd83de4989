//! Everything that would stop or surprise a run, before it changes anything: the looks at both sides, put together.

use pg::params::SslMode;
use pg::{Params, Result, ServerVersion};
use pipeline::{Finding, Severity, Side, SourceFacts};
use reader::catalog::{Selection, Without};
use reader::preflight::SourceOptions;
use writer::control::Mode;
use writer::preflight::TargetOptions;
use writer::schema::PgDump;

use crate::config::{Keyless, Settings, Via};
use crate::run::{Context, topics};

/// What both looks found.
pub struct Look {
    /// By side, what refuses first.
    pub findings: Vec<Finding>,
    /// None: there was no connection to the source.
    pub source: Option<SourceFacts>,
}

/// Looks at both sides and changes nothing. `stream`: for a run, not for a copy alone.
pub async fn look(settings: &Settings, stream: bool) -> Result<Look> {
    let (source, target) = (settings.source()?, settings.target()?);
    let select = &settings.select;
    let selection = Selection {
        schemas: select.schema.clone(),
        exclude_schemas: select.exclude_schema.clone(),
        tables: select.table.clone(),
        exclude_tables: select.exclude_table.clone(),
    };
    // A malformed pattern is bad usage, not a finding.
    selection.check()?;
    let existing_schema = settings.run.existing_schema;
    let source_options = SourceOptions {
        name: settings.name().to_owned(),
        slot: settings.slot_name().to_owned(),
        adopt_slot: settings.run.slot.is_some(),
        publications: settings.run.publication.clone(),
        selection,
        keyless: match settings.run.keyless {
            Keyless::Refuse => Without::Refuse,
            Keyless::Full => Without::Full,
            Keyless::Inserts => Without::Inserts,
        },
        admin: settings.source_admin()?,
        stream,
        schema: !existing_schema,
    };
    let target_options = TargetOptions {
        name: settings.name().to_owned(),
        admin: settings.target_admin()?,
        existing_schema,
        no_owner: settings.schema.no_owner,
        no_privileges: settings.schema.no_privileges,
        adopt_slot: settings.run.slot.is_some(),
        stream,
    };
    // Programs take their time to say which they are: they are asked beside the servers.
    let pg_dump = settings.schema.pg_dump.clone();
    let asked = tokio::spawn(async move { PgDump::find(pg_dump.as_deref(), 0).await.map(drop) });
    let there = Box::pin(reader::preflight::inspect(&source, &source_options)).await;
    let here = Box::pin(writer::preflight::inspect(&target, &target_options, there.facts.as_ref())).await;
    let mut findings = there.findings;
    findings.extend(here.findings);
    findings.extend(tls(Side::Source, &source));
    findings.extend(tls(Side::Target, &target));
    findings.extend(kafka_tls(settings).filter(|_| stream && settings.run.via == Via::Kafka));
    if let Some(facts) = there.facts.as_ref().filter(|_| !existing_schema && !here.resumes) {
        let _ = asked.await;
        let found =
            PgDump::find(settings.schema.pg_dump.as_deref(), ServerVersion(facts.version).major()).await;
        findings.extend(found.err().map(|error| Finding::from_error(Side::Here, &error)));
    }
    if let Some(facts) = there.facts.as_ref().filter(|_| stream && settings.run.via == Via::Kafka) {
        let found = Box::pin(topics::preflight(settings, &facts.tables, here.resumes)).await;
        match found {
            Ok((weak, refused)) => {
                findings.extend(
                    weak.into_iter().map(|weak| {
                        Finding::warning(Side::Here, "KAFKA_TOPIC_WEAK", weak.what).fix(weak.fix)
                    }),
                );
                findings.extend(refused.iter().map(|error| Finding::from_error(Side::Here, error)));
            }
            Err(error) => findings.push(Finding::from_error(Side::Here, &error)),
        }
    }
    findings.sort_by_key(|finding| (finding.side, finding.severity));
    findings.dedup();
    Ok(Look { findings, source: there.facts })
}

/// Refuses with all that stands in the way; warns of the rest.
pub async fn refuse(context: &Context) -> Result<()> {
    let look = look(&context.settings, context.mode != Mode::Copy).await?;
    for finding in look.findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        context.reporter.warning(finding.primary.clone(), finding.fix.clone());
    }
    Finding::as_error(&look.findings).map_or(Ok(()), Err)
}

/// As `tls`, on the way to the brokers.
fn kafka_tls(settings: &Settings) -> Option<Finding> {
    let (protocol, _) = settings.kafka_protocol();
    let local = |broker: &str| {
        let host = broker.trim().rsplit_once(':').map_or(broker, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let brokers = settings.kafka.brokers.as_deref().unwrap_or_default();
    let weak = !protocol.is_encrypted() && brokers.split(',').any(|broker| !local(broker));
    weak.then(|| {
        let what = if protocol.has_sasl() { "rows, and what proves the password," } else { "rows" };
        Finding::warning(
            Side::Here,
            "TLS",
            format!("the connection to the brokers is not encrypted: {what} can be read on the way"),
        )
        .fix("--set kafka.security_protocol=SASL_SSL (or SSL), to a listener that has it")
    })
}

/// A password or a row may be read on the way to a host that is not local.
fn tls(side: Side, params: &Params) -> Option<Finding> {
    let mode = params.tls().mode;
    let weak = mode < SslMode::VerifyFull && params.hosts().iter().any(|host| !host.is_local());
    weak.then(|| {
        let side_name = side.as_str();
        let what = match mode {
            SslMode::Disable | SslMode::Allow | SslMode::Prefer => {
                format!("the connection to the {side_name} may not be encrypted")
            }
            SslMode::VerifyCa => format!("the name of the {side_name}'s server is not verified"),
            _ => format!("the connection to the {side_name} is encrypted, but its server is not verified"),
        };
        Finding::warning(side, "TLS", format!("sslmode={mode}: {what}"))
            .fix("add sslmode=verify-full (and sslrootcert) to the connection string")
    })
}

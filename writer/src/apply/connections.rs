//! The sessions of an applier on the target, and what they are set to.

use pg::wire::Wire;
use pg::{Params, Purpose, Result, Session, quote_literal};

use super::worker::ApplyOptions;

/// The sessions of an applier. They can be opened before it is known where it starts.
pub struct Connections {
    pub(super) control: Session,
    pub(super) wire: Wire,
    /// The wire is a replica: ordinary triggers and foreign keys don't fire.
    pub(super) replica: bool,
}

impl Connections {
    pub async fn open(params: &Params, options: &ApplyOptions) -> Result<Connections> {
        let run = &options.run;
        let name = format!("{run} (control)");
        let control = Session::connect(params, Purpose::TargetControl, &name);
        let applying = async {
            let mut wire = Wire::connect(params, Purpose::TargetApply, run, false).await?;
            let replica = become_replica(&mut wire, options.replica_role).await?;
            wire.simple(&format!(
                "SET walferry.apply = {}; SET synchronous_commit = {}; SET plan_cache_mode = force_generic_plan; \
                 SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off",
                quote_literal(run),
                if options.synchronous_commit { "on" } else { "off" }
            ))
            .await?;
            Ok((wire, replica))
        };
        let (control, (wire, replica)) = tokio::try_join!(control, applying)?;
        Ok(Connections { control, wire, replica })
    }
}

/// Makes foreign keys and ordinary triggers not fire; false when the role may not.
async fn become_replica(wire: &mut Wire, wanted: Option<bool>) -> Result<bool> {
    if wanted == Some(false) {
        return Ok(false);
    }
    match wire.simple("SET session_replication_role = replica").await {
        Ok(_) => Ok(true),
        Err(error) if error.is("42501") && wanted.is_none() => Ok(false),
        Err(error) => Err(error.hint(
            "run on the target, as superuser: GRANT SET ON PARAMETER session_replication_role TO the run's role (15+)",
        )),
    }
}

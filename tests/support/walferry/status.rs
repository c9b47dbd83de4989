//! The object of `walferry status --json`.

use pg::Lsn;
use serde_json::Value;

/// The steps in their order; a run never goes back once live.
pub const STEPS: [&str; 9] =
    ["preflight", "slot", "schema", "copy", "indexes", "catchup", "live", "cutover", "done"];

#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    pub(super) fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|e| panic!("status --json is not JSON ({e}): {text}")))
    }

    pub fn step(&self) -> &str {
        self.text("step")
    }

    /// Whether the run has come to `step` or further.
    pub fn reached(&self, step: &str) -> bool {
        let place = |step: &str| {
            STEPS.iter().position(|s| *s == step).unwrap_or_else(|| panic!("there is no step {step:?}"))
        };
        place(self.step()) >= place(step)
    }

    /// A counter, for example `inserted`.
    pub fn count(&self, field: &str) -> u64 {
        self.0[field].as_u64().unwrap_or_else(|| panic!("status has no number {field:?}: {}", self.0))
    }

    /// A position, for example `slot_lsn`; `None` while it is null.
    pub fn lsn(&self, field: &str) -> Option<Lsn> {
        self.0[field].as_str().map(lsn)
    }

    pub fn applied(&self) -> Lsn {
        self.lsn("applied_lsn").unwrap_or_default()
    }

    /// The code of the error that the run waits on, if any.
    pub fn error_code(&self) -> Option<&str> {
        self.0["error"]["code"].as_str()
    }

    /// (schema, table, copied-at LSN if it has been copied).
    pub fn tables(&self) -> Vec<(String, String, Option<Lsn>)> {
        let tables = self.0["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |table: &Value, field: &str| table[field].as_str().unwrap_or_default().to_owned();
        tables
            .iter()
            .map(|t| (text(t, "schema"), text(t, "table"), t["copied_at_lsn"].as_str().map(lsn)))
            .collect()
    }

    fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_else(|| panic!("status has no text {field:?}: {}", self.0))
    }
}

/// A position as PostgreSQL prints it.
pub fn lsn(text: &str) -> Lsn {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

//! What the application does all day, one variant a kind of transaction. Together they hold what makes
//! replication hard: several tables in one transaction, cascades, key changes, two unique values that swap,
//! rows that change their partition, large values that an UPDATE leaves alone, equal rows in a table without
//! a key, savepoints and rollbacks.
//!
//! Only devices that were there at the start are changed, only devices made here are deleted, so that the
//! clients never wait for a row that another one deletes.

use std::hash::{BuildHasher, RandomState};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Transaction};

#[derive(Clone, Copy)]
enum Kind {
    Health,
    Admit,
    Retire,
    Alert,
    Measure,
    MoveGroup,
    MoveLocation,
    SwapSlots,
    Relabel,
    Firmware,
    Job,
    EqualRows,
    Savepoint,
    ChangeOfMind,
}

/// Kinds with their weights.
const MIX: &[(Kind, u64)] = &[
    (Kind::Health, 24),
    (Kind::Admit, 12),
    (Kind::Retire, 8),
    (Kind::Alert, 14),
    (Kind::Measure, 14),
    (Kind::MoveGroup, 5),
    (Kind::MoveLocation, 1),
    (Kind::SwapSlots, 5),
    (Kind::Relabel, 3),
    (Kind::Firmware, 3),
    (Kind::Job, 4),
    (Kind::EqualRows, 4),
    (Kind::Savepoint, 4),
    (Kind::ChangeOfMind, 4),
];

#[derive(PartialEq)]
pub enum Outcome {
    Commit,
    Rollback,
}

pub struct Work {
    client: u32,
    /// Counts this client's commits; stands in its rows of the audit log.
    number: i64,
    devices: i64,
    kind: Kind,
    random: u64,
}

impl Work {
    pub fn new(client: u32, devices: i64) -> Self {
        let random = RandomState::new().hash_one(client);
        Self { client, number: 0, devices, kind: Kind::Health, random }
    }

    /// Draws the next transaction. The same one is performed until it is done.
    pub fn choose(&mut self) {
        let mut draw = self.draw() % MIX.iter().map(|(_, weight)| weight).sum::<u64>();
        for (kind, weight) in MIX {
            if draw < *weight {
                self.kind = *kind;
                return;
            }
            draw -= weight;
        }
    }

    pub fn committed(&mut self) {
        self.number += 1;
    }

    pub async fn perform(&mut self, tx: &mut Transaction<'_>) -> Result<Outcome, Error> {
        let device = 1 + self.draw().cast_signed().rem_euclid(self.devices);
        let draw = self.draw();
        let name = format!("LD{}-{}", self.client, draw % 1_000_000_000);
        match self.kind {
            Kind::Health => {
                tx.execute(
                    "UPDATE devices SET health_status = (enum_range(NULL::health))[1 + $1::bigint % 4],
                     attributes = attributes || jsonb_build_object('checked', $1::bigint), tags = tags[1:2] || $2::text
                     WHERE id = $1",
                    &[&device, &name],
                )
                .await?;
            }
            Kind::Admit => admit(tx, &name).await?,
            Kind::Retire => {
                tx.execute(
                    "DELETE FROM devices WHERE id IN (SELECT id FROM devices WHERE service_tag LIKE 'LD%'
                     ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)",
                    &[],
                )
                .await?;
            }
            Kind::Alert => {
                tx.execute(
                    "INSERT INTO alerts (device_id, severity, message) VALUES ($1, 'Critical', $2)",
                    &[&device, &name],
                )
                .await?;
                tx.execute(
                    "UPDATE alerts SET acknowledged = now() WHERE device_id = $1 AND acknowledged IS NULL",
                    &[&device],
                )
                .await?;
            }
            Kind::Measure => measure(tx, device).await?,
            Kind::MoveGroup => {
                tx.execute(
                    "UPDATE group_members SET group_id = 6 + (group_id - 5) % 25 WHERE device_id = $1",
                    &[&device],
                )
                .await?;
            }
            Kind::MoveLocation => {
                tx.execute(
                    "UPDATE locations SET id = gen_random_uuid(), longitude = NULL
                     WHERE id = (SELECT id FROM locations ORDER BY random() LIMIT 1)",
                    &[],
                )
                .await?;
            }
            Kind::SwapSlots => {
                tx.execute("UPDATE components SET slot = 3 - slot WHERE device_id = $1", &[&device]).await?;
            }
            Kind::Relabel => {
                tx.execute(
                    "UPDATE devices SET service_tag = left('R' || id || '-' || $2::text, 20) WHERE id = $1",
                    &[&device, &name],
                )
                .await?;
            }
            Kind::Firmware => firmware(tx, device, &name).await?,
            Kind::Job => job(tx, device, &name).await?,
            Kind::EqualRows => {
                let insert =
                    "INSERT INTO audit_log (at, actor, action) VALUES ('2026-01-01', 'load', 'equal')";
                tx.execute(insert, &[]).await?;
                tx.execute(insert, &[]).await?;
                tx.execute(
                    "DELETE FROM audit_log WHERE ctid = (SELECT ctid FROM audit_log WHERE action = 'equal' LIMIT 1
                     FOR UPDATE SKIP LOCKED)",
                    &[],
                )
                .await?;
            }
            Kind::Savepoint => savepoint(tx, device, &name).await?,
            Kind::ChangeOfMind => {
                admit(tx, &name).await?;
                return Ok(Outcome::Rollback);
            }
        }
        tx.execute(
            "INSERT INTO audit_log (actor, action, detail) VALUES ($1, 'commit', jsonb_build_object('n', $2::bigint))",
            &[&format!("load {}", self.client), &self.number],
        )
        .await?;
        Ok(Outcome::Commit)
    }

    /// SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A device with everything that belongs to it: five tables, and the audit log by trigger.
async fn admit(tx: &Transaction<'_>, name: &str) -> Result<(), Error> {
    let id: i64 = tx
        .query_one(
            "INSERT INTO devices (service_tag, device_name, device_type_id, model, ip_address, location_id)
             SELECT $1::text, lower($1::text) || '.example.net', 1, 'PowerEdge R760', '10.200.0.1', id
             FROM locations ORDER BY position LIMIT 1 FOR KEY SHARE RETURNING id",
            &[&name],
        )
        .await?
        .get(0);
    tx.execute("INSERT INTO group_members (group_id, device_id) VALUES (6, $1), (7, $1)", &[&id]).await?;
    tx.execute(
        "INSERT INTO components (device_id, slot, part_number) SELECT $1, n, 'PN-new' FROM generate_series(1, 3) n",
        &[&id],
    )
    .await?;
    tx.execute("INSERT INTO firmware_installs VALUES ($1, 1001, now())", &[&id]).await?;
    tx.execute("INSERT INTO alerts (device_id, severity, message) VALUES ($1, 'OK', 'admitted')", &[&id])
        .await?;
    Ok(())
}

/// Inserts into today's partition, and moves one old row into another partition.
async fn measure(tx: &Transaction<'_>, device: i64) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO metrics SELECT $1, clock_timestamp() + n * interval '1 ms', n, 'NaN' FROM generate_series(1, 5) n",
        &[&device],
    )
    .await?;
    tx.execute(
        "UPDATE metrics SET measured_at = measured_at + interval '1 year', watts = -0.0
         WHERE device_id = $1 AND measured_at < '2026-01-01'",
        &[&device],
    )
    .await?;
    Ok(())
}

/// Large values, left alone and replaced; the sequence with the odd increment.
async fn firmware(tx: &Transaction<'_>, device: i64, name: &str) -> Result<(), Error> {
    let id = i32::try_from(1001 + 7 * (device % 24)).unwrap_or(1001);
    tx.execute("UPDATE firmware_images SET released = released + 1 WHERE id = $1", &[&id]).await?;
    if device % 4 == 0 {
        let notes: String = (0..4000).map(|line| format!("{name} line {line:05}\n")).collect();
        tx.execute("UPDATE firmware_images SET release_notes = $2 WHERE id = $1", &[&id, &notes]).await?;
    }
    tx.execute("DELETE FROM firmware_images WHERE version LIKE 'LD%'", &[]).await?;
    tx.execute(
        "INSERT INTO firmware_images (version, released, image, release_notes) VALUES ($1, '-infinity', '\\x00ff', '')",
        &[&name],
    )
    .await?;
    Ok(())
}

async fn job(tx: &Transaction<'_>, device: i64, name: &str) -> Result<(), Error> {
    tx.execute(
        "WITH made AS (INSERT INTO jobs (name, period, targets) VALUES ($1, tstzrange(now(), NULL), ARRAY[$2::bigint]) RETURNING id)
         INSERT INTO job_runs SELECT id, n, 'running', NULL, $1 FROM made, generate_series(1, 3) n",
        &[&name, &device],
    )
    .await?;
    // the whole key range moves by one
    tx.execute(
        "UPDATE job_runs SET attempt = attempt + 10, state = 'succeeded', took = '00:00:00.5' WHERE output = $1",
        &[&name],
    )
    .await?;
    Ok(())
}

/// A statement fails, the transaction goes on from the savepoint.
async fn savepoint(tx: &mut Transaction<'_>, device: i64, name: &str) -> Result<(), Error> {
    tx.execute("UPDATE devices SET device_name = $2 WHERE id = $1", &[&device, &name]).await?;
    let inner = tx.transaction().await?;
    inner
        .execute(
            "INSERT INTO alerts (device_id, severity, message) VALUES ($1, 'Warning', 'void')",
            &[&device],
        )
        .await?;
    let taken =
        inner.execute("INSERT INTO device_types (name, category) VALUES ('Server small', '')", &[]).await;
    inner.rollback().await?;
    match taken {
        Err(error) if error.code() != Some(&SqlState::UNIQUE_VIOLATION) => return Err(error),
        _ => {}
    }
    tx.execute("UPDATE devices SET health_status = 'OK' WHERE id = $1", &[&device]).await?;
    Ok(())
}

pub async fn highest_device(connection: &Client) -> Result<i64, Error> {
    connection
        .query_one("SELECT max(id) FROM devices WHERE service_tag !~ '^LD|TEST'", &[])
        .await
        .map(|row| row.get(0))
}

/// Finds out whether the database takes writes, and leaves no trace.
pub async fn probe(connection: &mut Client) -> Result<(), Error> {
    let tx = connection.transaction().await?;
    tx.execute("UPDATE device_types SET category = category WHERE id = 1", &[]).await?;
    tx.rollback().await
}

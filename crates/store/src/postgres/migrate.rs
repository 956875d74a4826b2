//! The schema, brought up to date once however many nodes start at the same time.

use std::sync::Arc;

use base::Clock;

use super::link::Link;
use crate::StoreError;
use crate::engine::{Connection, first, sql};
use crate::migrate::{Migration, pending};

/// The steps of the schema, oldest first. Their numbers are those of SQLite's.
pub(super) static MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "first", sql: include_str!("../../migrations/postgres/0001_first.sql") },
    Migration {
        version: 2,
        name: "token service",
        sql: include_str!("../../migrations/postgres/0002_token_service.sql"),
    },
    Migration { version: 3, name: "ledger", sql: include_str!("../../migrations/postgres/0003_ledger.sql") },
    Migration { version: 4, name: "fleet", sql: include_str!("../../migrations/postgres/0004_fleet.sql") },
    Migration { version: 5, name: "audit", sql: include_str!("../../migrations/postgres/0005_audit.sql") },
    Migration { version: 6, name: "cache_use", sql: include_str!("../../migrations/postgres/0006_cache_use.sql") },
    Migration { version: 7, name: "usage", sql: include_str!("../../migrations/postgres/0007_usage.sql") },
    Migration { version: 8, name: "money", sql: include_str!("../../migrations/postgres/0008_money.sql") },
    Migration { version: 9, name: "instances", sql: include_str!("../../migrations/postgres/0009_instances.sql") },
    Migration { version: 10, name: "app_configs", sql: include_str!("../../migrations/postgres/0010_app_configs.sql") },
    Migration { version: 11, name: "risk", sql: include_str!("../../migrations/postgres/0011_risk.sql") },
    Migration {
        version: 12,
        name: "runtime secrets",
        sql: include_str!("../../migrations/postgres/0012_runtime_secrets.sql"),
    },
    Migration { version: 13, name: "rotation", sql: include_str!("../../migrations/postgres/0013_rotation.sql") },
    Migration { version: 14, name: "step_ups", sql: include_str!("../../migrations/postgres/0014_step_ups.sql") },
    Migration { version: 15, name: "devices", sql: include_str!("../../migrations/postgres/0015_devices.sql") },
    Migration { version: 16, name: "sightings", sql: include_str!("../../migrations/postgres/0016_sightings.sql") },
    Migration { version: 17, name: "receipts", sql: include_str!("../../migrations/postgres/0017_receipts.sql") },
];

/// All steps that are missing, in one transaction: killed midway, nothing has happened. Other nodes wait for it.
pub(super) async fn migrate(
    link: &mut Link,
    clock: &Arc<dyn Clock>,
    steps: &'static [Migration],
) -> Result<(), StoreError> {
    link.begin().await?;
    let done = within(link, clock, steps).await;
    match done {
        Ok(()) => link.commit(false).await,
        Err(error) => {
            let _ = link.rollback().await;
            Err(error)
        }
    }
}

async fn within(link: &mut Link, clock: &Arc<dyn Clock>, steps: &'static [Migration]) -> Result<(), StoreError> {
    // Another node's migration of a large database may take its time. The number is "vouchgate" in ASCII, cut to 8 bytes.
    link.raw(
        "SET LOCAL lock_timeout = '15min'; SET LOCAL statement_timeout = '15min';
              SELECT pg_advisory_xact_lock(8534168888704196980)",
    )
    .await?;
    let known = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN tablename = 'schema_version' THEN 1 ELSE 0 END), 0)
                 FROM pg_catalog.pg_tables WHERE schemaname = current_schema()";
    let mut row = first(link.fetch(sql(known)).await?).ok_or(StoreError::Corrupt)?;
    let (tables, ours): (u64, bool) = (row.take()?, row.take()?);
    let found = match (ours, tables) {
        (true, _) => {
            let newest = sql("SELECT COALESCE(MAX(version), 0) FROM schema_version");
            first(link.fetch(newest).await?).ok_or(StoreError::Corrupt)?.take()?
        }
        (false, 0) => {
            link.raw(
                "CREATE TABLE schema_version
                      (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)",
            )
            .await?;
            0
        }
        // Somebody else's tables.
        (false, _) => return Err(StoreError::Corrupt),
    };
    for step in pending(found, steps)? {
        link.raw(step.sql).await?;
        let note = sql("INSERT INTO schema_version (version, name, applied_at) VALUES ($1, $2, $3)")
            .bind(step.version)
            .bind(step.name)
            .bind(clock.now());
        link.execute(note).await?;
    }
    Ok(())
}

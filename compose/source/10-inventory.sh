#!/bin/bash
# Run once by the image, on the new and empty data folder: the demo's database, its owner, and walferry's role.
set -euo pipefail

psql -Xq -v ON_ERROR_STOP=1 -v password="$(</run/secrets/source_password)" -U postgres -d inventory <<'SQL'
-- Owns the tables; nobody logs in as it.
CREATE ROLE inventory;
ALTER DATABASE inventory OWNER TO inventory;
ALTER SCHEMA public OWNER TO inventory;
-- Reads the WAL and the tables. As a member of the owner it may also make the publication and, at a cutover, the fence.
CREATE ROLE walferry LOGIN REPLICATION PASSWORD :'password' IN ROLE inventory;
SQL

# PGOPTIONS: everything that the files make belongs to the owner.
PGOPTIONS='-c role=inventory' psql -Xq -v ON_ERROR_STOP=1 -v devices="$DEMO_DEVICES" -U postgres -d inventory \
    -f /demo/schema.sql -f /demo/data.sql -c 'ALTER TABLE audit_log REPLICA IDENTITY FULL'

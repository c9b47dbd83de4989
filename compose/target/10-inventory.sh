#!/bin/bash
# Run once by the image, on the new and empty data folder: walferry's role on the target, and the role that owns the tables on the source.
set -euo pipefail

psql -Xq -v ON_ERROR_STOP=1 -v password="$(</run/secrets/target_password)" -U postgres -d inventory <<'SQL'
-- The restored tables are its; nobody logs in as it.
CREATE ROLE inventory;
ALTER SCHEMA public OWNER TO inventory;
-- Makes schema walferry, and the tables as a member of their owner.
CREATE ROLE walferry LOGIN PASSWORD :'password' IN ROLE inventory;
ALTER DATABASE inventory OWNER TO walferry;
-- To apply as a replica: foreign keys and triggers have done their work on the source.
GRANT SET ON PARAMETER session_replication_role TO walferry;
SQL

#!/bin/bash
# Run once by the image: the order service's own database (examples/orders), its role, and walferry's rights in it.
set -euo pipefail

psql -Xq -v ON_ERROR_STOP=1 -v password="$(</run/secrets/services_password)" -U postgres -d postgres <<'SQL'
CREATE ROLE orders LOGIN PASSWORD :'password';
CREATE DATABASE orders OWNER orders;
-- Installs the outbox and publishes it; docs/outbox.md has the role that only runs it.
GRANT orders TO walferry;
\connect orders
ALTER SCHEMA public OWNER TO orders;
SQL
PGOPTIONS='-c role=orders' psql -Xq -v ON_ERROR_STOP=1 -U postgres -d orders -f /orders/orders.sql

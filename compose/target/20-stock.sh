#!/bin/bash
# Run once by the image: the inventory service's own database (examples/orders), and its role.
set -euo pipefail

psql -Xq -v ON_ERROR_STOP=1 -v password="$(</run/secrets/services_password)" -U postgres -d postgres <<'SQL'
CREATE ROLE stock LOGIN PASSWORD :'password';
CREATE DATABASE stock OWNER stock;
\connect stock
ALTER SCHEMA public OWNER TO stock;
SQL
PGOPTIONS='-c role=stock' psql -Xq -v ON_ERROR_STOP=1 -U postgres -d stock \
    -f /orders/inventory.sql -c "INSERT INTO stock VALUES ('chair', 1000000)"

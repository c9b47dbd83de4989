\set rows 1000
\ir ../wide.sql

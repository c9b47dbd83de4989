\set rows 1000
\ir ../narrow.sql

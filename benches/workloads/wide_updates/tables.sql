SELECT greatest(1, 200000 * :scale)::bigint AS rows \gset
\ir ../wide.sql

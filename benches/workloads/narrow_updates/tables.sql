SELECT greatest(1, 500000 * :scale)::bigint AS rows \gset
\ir ../narrow.sql

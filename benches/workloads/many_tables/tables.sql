-- 10,000 small tables.
SELECT format('CREATE TABLE t%s (id integer PRIMARY KEY, v text NOT NULL, n integer NOT NULL)', n)
FROM generate_series(1, greatest(10, (10000 * :scale)::int)) n \gexec

-- Players whose ranks are unique.
SELECT greatest(100, 20000 * :scale)::bigint AS rows \gset
CREATE TABLE players (id bigint PRIMARY KEY, rank bigint NOT NULL UNIQUE, name text NOT NULL);
INSERT INTO players SELECT n, n, md5(n::text) FROM generate_series(1, :rows) n;

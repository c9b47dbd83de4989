-- A wide table with four indexes, one of them GIN; `rows` rows of about 450 bytes.
CREATE TABLE wide (
    id bigint PRIMARY KEY,
    created timestamptz NOT NULL,
    owner integer NOT NULL,
    state text NOT NULL,
    amount numeric(12, 2) NOT NULL,
    tags text[] NOT NULL,
    details jsonb NOT NULL,
    note text
);
INSERT INTO wide
SELECT n, '2024-01-01'::timestamptz + n * interval '1 second', n % 10007, 'state ' || n % 7, n % 100000 / 7.0,
       ARRAY['tag' || n % 13, 'tag' || n % 101], jsonb_build_object('n', n, 'kind', n % 17, 'name', md5(n::text)),
       repeat(md5((n * 7)::text), 8)
FROM generate_series(1, :rows) n;
CREATE INDEX wide_created ON wide (created);
CREATE INDEX wide_owner ON wide (owner, state);
CREATE INDEX wide_details ON wide USING gin (details);

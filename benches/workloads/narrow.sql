-- A narrow table with nothing but its primary key; `rows` rows of about 94 bytes.
CREATE TABLE narrow (id bigint PRIMARY KEY, a integer NOT NULL, b text NOT NULL, c timestamptz NOT NULL);
INSERT INTO narrow SELECT n, n % 1000, md5(n::text), '2024-01-01'::timestamptz + n * interval '1 second' FROM generate_series(1, :rows) n;

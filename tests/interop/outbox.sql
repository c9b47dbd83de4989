CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE outbox (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL, aggregateid varchar(255) NOT NULL,
    type varchar(255) NOT NULL, payload jsonb, ts timestamp DEFAULT '2024-01-02 03:04:05.678901', trace text);
CREATE TABLE edges (id text PRIMARY KEY, aggregatetype text NOT NULL, aggregateid text, type text, payload jsonb, ts timestamp, trace text);
CREATE TABLE raw (id text PRIMARY KEY, aggregatetype text NOT NULL, aggregateid text, type text, payload json, ts timestamp, trace text);
CREATE TABLE typed (id bigint PRIMARY KEY, aggregatetype text NOT NULL, aggregateid uuid, type text, payload bytea, version int,
    flag bool NOT NULL DEFAULT true, i2 int2, i8 int8 DEFAULT 7, f8 float8, n numeric(7,2) NOT NULL DEFAULT 1.5, nv numeric, d date, t time, ts timestamp,
    tz timestamptz, m mood NOT NULL DEFAULT 'ok', j jsonb, ai int[], c char(3), s text DEFAULT 'a"b')

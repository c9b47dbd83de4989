CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE EXTENSION ltree;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN grade AS numeric(4,1);
CREATE TABLE v (id int PRIMARY KEY, flag bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n52 numeric(5,2), nv numeric, m money,
    d date, t3 time(3), t time, ttz timetz, ts3 timestamp(3), ts timestamp, tz3 timestamptz(3), tz timestamptz, iv interval, b bytea,
    b1 bit(1), b12 bit(12), vb varbit, j json, jb jsonb, x xml, u uuid, e mood, l ltree, tsv tsvector, ci citext, i inet, c cidr,
    mac macaddr, r int4range, nr numrange, tsr tstzrange, c10 char(10), vc varchar(20), tx text, hs hstore, p point, ai int[], at text[],
    an numeric(5,2)[], ats timestamp[], dom grade, o oid);

-- What real schemas are made of. A line "-- since N" starts a part that needs at least that major; "-- since 10" goes back.
CREATE ROLE "schema owner" NOLOGIN;
CREATE ROLE schema_reader NOLOGIN;
CREATE SCHEMA app AUTHORIZATION "schema owner";
CREATE SCHEMA "Odd ""Schema"".x";
COMMENT ON SCHEMA app IS 'the application''s own';
GRANT USAGE ON SCHEMA app TO schema_reader;
COMMENT ON SCHEMA public IS 'public, and commented';

CREATE EXTENSION hstore WITH SCHEMA public;
CREATE EXTENSION citext WITH SCHEMA app;
CREATE EXTENSION btree_gist;

CREATE TYPE app.state AS ENUM ('new', 'it''s', E'with\nnewline', '-- Name: x; Type: TABLE; Schema: app; Owner: o');
CREATE TYPE app.address AS (street text, number integer, "Post Code" varchar(10));
CREATE TYPE app.party AS (name text, home app.address);
CREATE DOMAIN app.positive AS integer DEFAULT 1 CONSTRAINT "is positive" CHECK (VALUE > 0);
CREATE DOMAIN app.email AS app.citext CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE TYPE app.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION app.swedish (provider = libc, locale = 'C');

-- Functions whose bodies look like a dump.
CREATE FUNCTION app.looks_like_a_dump(a text DEFAULT '--
-- Name: t; Type: TABLE; Schema: app; Owner: o
--
') RETURNS text LANGUAGE plpgsql AS $body$
--
-- Name: accounts; Type: TABLE; Schema: app; Owner: postgres
--
BEGIN
    -- '$body $$ "
    RETURN $q$
--
-- Name: u; Type: FK CONSTRAINT; Schema: app; Owner: postgres
--

ALTER TABLE ONLY app.u ADD CONSTRAINT x FOREIGN KEY (a) REFERENCES b(c);

--
-- PostgreSQL database dump complete
--

\unrestrict abc
SET default_tablespace = nowhere;
$q$ || a || E'\\\' $body' || 'it''s';
END
$body$;
CREATE FUNCTION app.old_body(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1 -- ''quoted''
;';
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.changed := now(); RETURN NEW; END $$;
CREATE FUNCTION app.quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION app.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE AGGREGATE app.total(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE FUNCTION app.near(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT abs($1 - $2) < 2';
CREATE OPERATOR app.<~> (LEFTARG = integer, RIGHTARG = integer, PROCEDURE = app.near);
CREATE CAST (app.address AS text) WITH INOUT;

CREATE SEQUENCE app.free_standing INCREMENT BY -3 MINVALUE -1000 MAXVALUE 500 START 100 CYCLE;
CREATE SEQUENCE app.never_called START 42;
CREATE SEQUENCE "Odd ""Schema"".x"."it's a sequence" AS smallint;

CREATE TABLE app.accounts (
    id bigint GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 5),
    "E-Mail" app.email NOT NULL,
    state app.state DEFAULT 'new' NOT NULL,
    home app.address,
    party app.party[],
    tags public.hstore,
    level app.positive,
    balance numeric(20,4) DEFAULT 0 CONSTRAINT "balance is sane" CHECK (balance > '-1e9'::numeric),
    name text COLLATE app.swedish,
    manager bigint,
    during tstzrange,
    room integer,
    changed timestamptz,
    PRIMARY KEY (id),
    UNIQUE ("E-Mail") DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT "no overlap" EXCLUDE USING gist (room WITH =, during WITH &&) WHERE (room IS NOT NULL)
) WITH (fillfactor = 80, autovacuum_enabled = true);
ALTER TABLE app.accounts OWNER TO "schema owner";
ALTER TABLE app.accounts ALTER COLUMN name SET STATISTICS 500, ALTER COLUMN name SET STORAGE EXTERNAL;
ALTER TABLE app.accounts ADD CONSTRAINT manager_fk FOREIGN KEY (manager) REFERENCES app.accounts ON DELETE SET NULL;
ALTER TABLE app.accounts ADD CONSTRAINT later CHECK (name <> 'nobody') NOT VALID;
COMMENT ON TABLE app.accounts IS $c$
--
-- Name: fake; Type: TABLE; Schema: app; Owner: x
--
$c$;
COMMENT ON COLUMN app.accounts."E-Mail" IS 'where to write';
COMMENT ON CONSTRAINT manager_fk ON app.accounts IS 'a comment on a foreign key';
COMMENT ON CONSTRAINT "balance is sane" ON app.accounts IS 'a check';
COMMENT ON CONSTRAINT later ON app.accounts IS 'not valid yet';
CREATE INDEX "by lower ON name" ON app.accounts (lower(name) DESC NULLS LAST) WHERE (name IS NOT NULL AND name <> 'a ON b');
CREATE INDEX accounts_tags ON app.accounts USING gin (tags);
CREATE UNIQUE INDEX accounts_state_id ON app.accounts (state, id) WITH (fillfactor = 70);
COMMENT ON INDEX app.accounts_tags IS 'a GIN index';
ALTER TABLE app.accounts CLUSTER ON accounts_state_id;
ALTER TABLE app.accounts REPLICA IDENTITY USING INDEX accounts_state_id;
CREATE STATISTICS app.accounts_ext (dependencies, ndistinct) ON state, room FROM app.accounts;
COMMENT ON STATISTICS app.accounts_ext IS 'correlated';

CREATE TABLE app.orders (
    id serial PRIMARY KEY,
    account bigint NOT NULL REFERENCES app.accounts DEFERRABLE INITIALLY DEFERRED,
    latest_item integer,
    note text DEFAULT '; "ON" -- not a comment',
    kind char(3) DEFAULT 'a',
    flags bit varying(5),
    extra jsonb DEFAULT '{"a": [1, 2]}'
);
CREATE TABLE app.items (
    order_id integer REFERENCES app.orders ON UPDATE CASCADE ON DELETE CASCADE,
    no integer,
    price money,
    PRIMARY KEY (order_id, no)
);
-- A cycle of foreign keys, and one that nobody has validated.
ALTER TABLE app.orders ADD CONSTRAINT latest_fk FOREIGN KEY (id, latest_item) REFERENCES app.items (order_id, no) MATCH SIMPLE;
ALTER TABLE app.items ADD CONSTRAINT "unproven fk" FOREIGN KEY (no) REFERENCES app.orders (id) NOT VALID;
ALTER DOMAIN app.positive ADD CONSTRAINT small CHECK (VALUE < 1000) NOT VALID;
COMMENT ON DOMAIN app.positive IS 'a domain';

CREATE UNLOGGED TABLE app.scratch (a integer);
CREATE TABLE app.nothing ();
CREATE TABLE app.keyless (a integer, b text);
ALTER TABLE app.keyless REPLICA IDENTITY FULL;
CREATE TABLE "Odd ""Schema"".x"."odd
table; Type: VIEW; Schema: app" (
    "a""b" integer PRIMARY KEY,
    "new
line" text,
    "ALWAYS AS IDENTITY" integer GENERATED BY DEFAULT AS IDENTITY,
    "$1" text DEFAULT '$1',
    "dol$$lar" text
);
CREATE INDEX "index
of 'odd'" ON "Odd ""Schema"".x"."odd
table; Type: VIEW; Schema: app" ("new
line");
COMMENT ON TABLE "Odd ""Schema"".x"."odd
table; Type: VIEW; Schema: app" IS E'back\\slash\nand newline';
CREATE TABLE app.sixty_three_bytes_long_name_for_a_table_that_is_at_the_limits_x (
    sixty_three_bytes_long_name_for_a_column_that_is_at_the_limit_x integer PRIMARY KEY
);

CREATE TABLE app.animal (id integer PRIMARY KEY, name text NOT NULL CHECK (name <> ''));
CREATE TABLE app.dog (breed text, PRIMARY KEY (id)) INHERITS (app.animal);
ALTER TABLE app.dog ALTER COLUMN name SET DEFAULT 'rex';

CREATE TABLE app.measures (at date NOT NULL, sensor integer NOT NULL, v double precision) PARTITION BY RANGE (at);
CREATE TABLE app.measures_2020 PARTITION OF app.measures FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE app.measures_2021 PARTITION OF app.measures FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')
    PARTITION BY LIST (sensor);
CREATE TABLE app.measures_2021_a PARTITION OF app.measures_2021 FOR VALUES IN (1, 2);
CREATE TABLE app.attached (v double precision, sensor integer NOT NULL, at date NOT NULL);
ALTER TABLE app.measures ATTACH PARTITION app.attached FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');
CREATE INDEX measures_2020_own ON app.measures_2020 (v);

CREATE VIEW app.rich AS SELECT id, name, balance FROM app.accounts WHERE balance > 1000;
CREATE VIEW app.rich_names AS SELECT name FROM app.rich WITH CASCADED CHECK OPTION;
CREATE VIEW app.grouped AS SELECT id, name, count(*) AS n FROM app.accounts GROUP BY id;
CREATE VIEW app.over_grouped AS SELECT sum(n) AS s FROM app.grouped;
CREATE MATERIALIZED VIEW app.totals AS SELECT account, count(*) AS n FROM app.orders GROUP BY account;
CREATE UNIQUE INDEX totals_key ON app.totals (account);
CREATE MATERIALIZED VIEW app.totals_of_totals AS SELECT sum(n) AS n FROM app.totals;
CREATE VIEW app.between AS SELECT n FROM app.totals_of_totals;
CREATE MATERIALIZED VIEW app.a_first_by_name AS SELECT n FROM app.between;
CREATE MATERIALIZED VIEW app.unpopulated AS SELECT 1 AS one WITH NO DATA;
CREATE MATERIALIZED VIEW app.grouped_mat AS SELECT id, name, count(*) AS n FROM app.accounts GROUP BY id;
CREATE INDEX grouped_mat_n ON app.grouped_mat (n);
CREATE RECURSIVE VIEW numbers (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM numbers WHERE n < 5;
COMMENT ON VIEW app.rich IS 'the rich';
GRANT SELECT ON app.rich TO schema_reader;
GRANT SELECT (id, state), UPDATE (name) ON app.accounts TO schema_reader;
GRANT USAGE ON SEQUENCE app.free_standing TO schema_reader;
REVOKE EXECUTE ON FUNCTION app.old_body(integer) FROM PUBLIC;

CREATE RULE keep AS ON DELETE TO app.keyless DO INSTEAD (UPDATE app.keyless SET b = 'gone; --' WHERE a = OLD.a; SELECT 1);
CREATE RULE note AS ON INSERT TO app.orders DO ALSO NOTIFY orders;
COMMENT ON RULE keep ON app.keyless IS 'a rule';
CREATE TRIGGER touch BEFORE INSERT OR UPDATE OF name, balance ON app.accounts FOR EACH ROW
    WHEN (NEW.name IS NOT NULL) EXECUTE PROCEDURE app.touch();
CREATE TRIGGER always AFTER INSERT ON app.accounts FOR EACH STATEMENT EXECUTE PROCEDURE app.quiet('an ''arg''');
CREATE TRIGGER replica AFTER UPDATE ON app.accounts FOR EACH STATEMENT EXECUTE PROCEDURE app.quiet();
CREATE TRIGGER off AFTER DELETE ON app.accounts FOR EACH STATEMENT EXECUTE PROCEDURE app.quiet();
CREATE TRIGGER trunc BEFORE TRUNCATE ON app.accounts FOR EACH STATEMENT EXECUTE PROCEDURE app.quiet();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON app.orders DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE PROCEDURE app.quiet();
CREATE TRIGGER instead INSTEAD OF INSERT ON app.grouped FOR EACH ROW EXECUTE PROCEDURE app.quiet();
ALTER TABLE app.accounts ENABLE ALWAYS TRIGGER always;
ALTER TABLE app.accounts ENABLE REPLICA TRIGGER replica;
ALTER TABLE app.accounts DISABLE TRIGGER off;
COMMENT ON TRIGGER touch ON app.accounts IS 'keeps the time';
ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.orders FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON app.orders AS RESTRICTIVE FOR SELECT TO schema_reader USING (account = 1);
CREATE POLICY all_of_it ON app.orders USING (true) WITH CHECK (note <> '; DROP');
COMMENT ON POLICY own ON app.orders IS 'one''s own';
CREATE EVENT TRIGGER watch_ddl ON ddl_command_end WHEN TAG IN ('DROP SEQUENCE') EXECUTE PROCEDURE app.watch();
COMMENT ON EVENT TRIGGER watch_ddl IS 'watches';
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO schema_reader;
CREATE TEXT SEARCH DICTIONARY app.plain (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION app.search (COPY = simple);
CREATE FOREIGN DATA WRAPPER nobody;
CREATE SERVER far FOREIGN DATA WRAPPER nobody OPTIONS (a 'b;c');
CREATE FOREIGN TABLE app.distant (a integer) SERVER far OPTIONS (t 'x');

-- since 11
ALTER INDEX app."by lower ON name" ALTER COLUMN 1 SET STATISTICS 200;
CREATE PROCEDURE app.work(INOUT a integer) LANGUAGE plpgsql AS $$ BEGIN a := 1; END $$;
CREATE TABLE app.measures_rest PARTITION OF app.measures DEFAULT;
CREATE TABLE app.measures_2021_rest PARTITION OF app.measures_2021 DEFAULT;
ALTER TABLE app.measures ADD CONSTRAINT measures_key PRIMARY KEY (at, sensor);
CREATE INDEX measures_v ON app.measures (v, (sensor + 1)) INCLUDE (at);
CREATE TABLE app.hashed (id integer PRIMARY KEY, account bigint REFERENCES app.accounts) PARTITION BY HASH (id);
CREATE TABLE app.hashed_0 PARTITION OF app.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.hashed_1 PARTITION OF app.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TRIGGER rows AFTER INSERT ON app.hashed FOR EACH ROW EXECUTE PROCEDURE app.quiet();
ALTER TABLE app.hashed_1 DISABLE TRIGGER rows;
COMMENT ON CONSTRAINT hashed_account_fkey ON app.hashed IS 'from a partitioned table';
ALTER TABLE app.orders ADD CONSTRAINT orders_cover UNIQUE (account) INCLUDE (note) WITH (fillfactor = 60);
COMMENT ON CONSTRAINT orders_cover ON app.orders IS 'covering';

-- since 12
CREATE TABLE app.computed (a integer, b integer GENERATED ALWAYS AS (a * 2) STORED);
CREATE INDEX computed_b ON app.computed (b);
CREATE TABLE app.to_hashed (h integer REFERENCES app.hashed, PRIMARY KEY (h));

-- since 14
CREATE FUNCTION app.atomic(a integer, OUT b integer) LANGUAGE sql BEGIN ATOMIC
    SELECT CASE WHEN atomic.a > 0 THEN CASE atomic.a WHEN 1 THEN 2 END ELSE 3 END;
    SELECT count(*)::integer AS "end" FROM app.orders WHERE note = '
--
-- Name: x; Type: TABLE; Schema: app; Owner: o
--
;';
END;
CREATE FUNCTION app.atomic_return(a integer) RETURNS integer LANGUAGE sql RETURN CASE WHEN a = 1 THEN 2 ELSE 3 END;
CREATE FUNCTION app.atomic_grouped() RETURNS bigint LANGUAGE sql BEGIN ATOMIC
    SELECT count(*) FROM (SELECT id, name FROM app.accounts GROUP BY id) AS begin;
END;
CREATE TABLE app.packed (a text COMPRESSION pglz, b int4multirange);
-- since 14
CREATE STATISTICS app.expression_ext ON (a || 'x'), a FROM app.packed;

-- since 15
CREATE TABLE app.nulls (a integer, b integer, UNIQUE NULLS NOT DISTINCT (a, b));
CREATE VIEW app.invoker WITH (security_invoker = true) AS SELECT a FROM app.nulls;

-- since 17
CREATE TABLE app.parted_identity (id bigint GENERATED ALWAYS AS IDENTITY, k integer) PARTITION BY LIST (k);
CREATE TABLE app.parted_identity_1 PARTITION OF app.parted_identity FOR VALUES IN (1);

-- since 18
CREATE TABLE app.virtual (a integer, b integer GENERATED ALWAYS AS (a * 2) VIRTUAL);
CREATE TABLE app.periods (id integer, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS));
CREATE TABLE app.within (id integer, during daterange,
    FOREIGN KEY (id, PERIOD during) REFERENCES app.periods (id, PERIOD during));
CREATE TABLE app.unenforced (a integer REFERENCES app.orders NOT ENFORCED, b integer CHECK (b > 0) NOT ENFORCED,
    c integer CONSTRAINT c_is_there NOT NULL, d integer);
ALTER TABLE app.unenforced ADD CONSTRAINT d_later NOT NULL d NOT VALID;
CREATE TABLE app.parted_fk (a integer REFERENCES app.orders) PARTITION BY LIST (a);
CREATE TABLE app.parted_fk_1 PARTITION OF app.parted_fk FOR VALUES IN (1);

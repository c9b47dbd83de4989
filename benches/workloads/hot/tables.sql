CREATE TABLE hot (id integer PRIMARY KEY, hits bigint NOT NULL, filler text NOT NULL) WITH (fillfactor = 10);
INSERT INTO hot SELECT n, 0, repeat('x', 60) FROM generate_series(1, 100) n;

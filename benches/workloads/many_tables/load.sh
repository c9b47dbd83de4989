# Three inserts and two updates in each of 10,000 tables, a transaction for ten tables.
tables=$(times 10000 "$scale")
[ "$tables" -ge 10 ] || tables=10
PGOPTIONS='-c synchronous_commit=off' sql source many_tables "
DO \$\$
BEGIN
    FOR n IN 1 .. $tables LOOP
        EXECUTE format('INSERT INTO t%s SELECT $round * 10 + i, md5(i::text), i FROM generate_series(1, 3) i', n);
        EXECUTE format('UPDATE t%s SET n = n + 1 WHERE id IN ($round * 10 + 1, $round * 10 + 2)', n);
        IF n % 10 = 0 THEN COMMIT; END IF;
    END LOOP;
END \$\$"

# One row updated 100,000 times, a transaction each.
PGOPTIONS='-c synchronous_commit=off' sql source hot "
DO \$\$
BEGIN
    FOR n IN 1 .. $(times 100000 "$scale") LOOP
        UPDATE hot SET hits = hits + 1 WHERE id = 42;
        COMMIT;
    END LOOP;
END \$\$"

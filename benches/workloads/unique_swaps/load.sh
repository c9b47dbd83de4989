# Two neighbours swap their unique ranks, 40,000 times: three updates a transaction, which no set can do.
rows=$(sql source unique_swaps 'SELECT count(*) FROM players')
PGOPTIONS='-c synchronous_commit=off' sql source unique_swaps "
DO \$\$
DECLARE a bigint; b bigint;
BEGIN
    FOR n IN 1 .. $(times 40000 "$scale") LOOP
        SELECT rank INTO a FROM players WHERE id = 1 + n * 7919::bigint % $rows;
        SELECT rank INTO b FROM players WHERE id = 1 + (n * 7919::bigint + 1) % $rows;
        UPDATE players SET rank = -1 WHERE rank = a;
        UPDATE players SET rank = a WHERE rank = b;
        UPDATE players SET rank = b WHERE rank = -1;
        COMMIT;
    END LOOP;
END \$\$"

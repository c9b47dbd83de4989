# Every one of 500,000 rows once, in transactions of 100, in no order.
rows=$(times 500000 "$scale")
sql source narrow_updates "
DO \$\$
BEGIN
    FOR part IN 0 .. ($rows - 1) / 100 LOOP
        UPDATE narrow SET a = a + 1
        WHERE id IN (SELECT (n::numeric * 7919 % $rows)::bigint + 1 FROM generate_series(part * 100, least(part * 100 + 99, $rows - 1)) n);
        COMMIT;
    END LOOP;
END \$\$"

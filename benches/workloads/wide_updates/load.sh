# Every one of 200,000 rows once, in transactions of 100, in no order; an indexed column changes.
rows=$(times 200000 "$scale")
sql source wide_updates "
DO \$\$
BEGIN
    FOR part IN 0 .. ($rows - 1) / 100 LOOP
        UPDATE wide SET owner = owner + 1, details = jsonb_set(details, '{kind}', to_jsonb(part)), note = md5(note)
        WHERE id IN (SELECT (n::numeric * 7919 % $rows)::bigint + 1 FROM generate_series(part * 100, least(part * 100 + 99, $rows - 1)) n);
        COMMIT;
    END LOOP;
END \$\$"

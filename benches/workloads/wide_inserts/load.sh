# 500,000 rows in transactions of 100.
rows=$(times 500000 "$scale")
sql source wide_inserts "
DO \$\$
DECLARE first bigint := (SELECT max(id) + 1 FROM wide); last bigint := (SELECT max(id) + $rows FROM wide);
BEGIN
    WHILE first <= last LOOP
        INSERT INTO wide SELECT n, '2024-01-01'::timestamptz + n * interval '1 second', n % 10007, 'state ' || n % 7, n % 100000 / 7.0,
               ARRAY['tag' || n % 13, 'tag' || n % 101], jsonb_build_object('n', n, 'kind', n % 17, 'name', md5(n::text)),
               repeat(md5((n * 7)::text), 8)
        FROM generate_series(first, least(first + 99, last)) n;
        COMMIT;
        first := first + 100;
    END LOOP;
END \$\$"

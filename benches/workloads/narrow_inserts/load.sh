# 500,000 rows in transactions of 100.
rows=$(times 500000 "$scale")
sql source narrow_inserts "
DO \$\$
DECLARE first bigint := (SELECT max(id) + 1 FROM narrow); last bigint := (SELECT max(id) + $rows FROM narrow);
BEGIN
    WHILE first <= last LOOP
        INSERT INTO narrow SELECT n, n % 1000, md5(n::text), '2024-01-01'::timestamptz + n * interval '1 second'
        FROM generate_series(first, least(first + 99, last)) n;
        COMMIT;
        first := first + 100;
    END LOOP;
END \$\$"

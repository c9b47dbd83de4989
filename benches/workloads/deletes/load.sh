# 300,000 rows that both sides have are deleted, in transactions of 100. Contenders apply their inserts before, untimed.
rows=$(times 300000 "$scale")
sql source deletes "INSERT INTO narrow SELECT n, n % 1000, md5(n::text), '2024-01-01'::timestamptz + n * interval '1 second'
    FROM generate_series(1001, 1000 + $rows) n"
catchup_round deletes "-$round" untimed
sql source deletes "
DO \$\$
BEGIN
    FOR part IN 0 .. ($rows - 1) / 100 LOOP
        DELETE FROM narrow WHERE id BETWEEN 1001 + part * 100 AND least(1100 + part * 100, 1000 + $rows);
        COMMIT;
    END LOOP;
END \$\$"

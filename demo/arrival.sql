-- Run on the new server: says "watching", then, as soon as the test device is there, the time in ms.
SET statement_timeout = '60s';
SET demo.tag = :'tag';
SELECT 'watching';
DO $$
BEGIN
    -- each statement of a loop sees what was committed meanwhile
    WHILE NOT EXISTS (SELECT FROM devices WHERE service_tag = current_setting('demo.tag')) LOOP
        PERFORM pg_sleep(0.001);
    END LOOP;
END $$;
SELECT round(extract(epoch FROM clock_timestamp()) * 1000);

-- Fills demo/schema.sql with about 8.4 rows a device: psql -v devices=1000 -f demo/data.sql
-- The same number gives the same rows (up to uuids made by the server).
\set ON_ERROR_STOP on
BEGIN;

INSERT INTO device_types (name, category)
SELECT category || ' ' || size, category
FROM unnest('{Server,Storage,Switch,Chassis}'::text[]) category, unnest('{small,medium,large}'::text[]) size;

INSERT INTO locations (site, position, latitude, longitude)
SELECT 'Site ' || chr(65 + n % 8), ROW('Room ' || n % 5, 'R' || lpad(n::text, 2, '0'), n % 42)::rack_position,
       47 + n * 0.031415, CASE WHEN n % 7 > 0 THEN 8 + n * 0.027182 END
FROM generate_series(1, 40) n;

INSERT INTO device_groups (parent_id, name) SELECT NULL, 'Region ' || n FROM generate_series(1, 5) n;
INSERT INTO device_groups (parent_id, name) SELECT 1 + n % 5, 'Group "' || n || '"' FROM generate_series(1, 25) n;

INSERT INTO devices (service_tag, device_name, device_type_id, model, ip_address, health_status, location_id,
                     tags, attributes, first_seen)
SELECT 'SN' || lpad(upper(to_hex(n)), 6, '0'), 'host-' || n || '.example.net', 1 + n % 12,
       (ARRAY['PowerEdge R750', 'PowerVault ME5', 'S5232F-ON', 'MX7000'])[1 + n % 4],
       '10.0.0.0'::inet + n, (enum_range(NULL::health))[1 + (n % 4) * (n % 4) % 4],
       CASE WHEN n % 10 > 0 THEN place.ids[1 + n % 40] END,
       CASE n % 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['rack', 'é, "quoted"'] ELSE ARRAY[NULL, 'NULL'] END,
       jsonb_build_object('cores', 8 * (1 + n % 8), 'bios', '2.' || n % 20, 'nics', jsonb_build_array('nic' || n, null)),
       timestamptz '2026-01-01 00:00:00+00' + n * interval '1 minute 0.123456 seconds'
FROM generate_series(1, :devices) n, (SELECT array_agg(id ORDER BY position) ids FROM locations) place;

INSERT INTO group_members (group_id, device_id) SELECT 6 + id % 25, id FROM devices;

INSERT INTO components (device_id, slot, part_number, capacity_gb)
SELECT id, slot, 'PN-' || left(md5(id || '.' || slot), 8), CASE slot WHEN 1 THEN 'NaN' ELSE id % 900 + 0.50 END
FROM devices, generate_series(1, 2) slot;

INSERT INTO firmware_images (version, released, image, release_notes)
SELECT '7.' || n || '.0', date '2020-02-29' + n * 30,
       (SELECT decode(string_agg(md5(n || '/' || part), '' ORDER BY part), 'hex') FROM generate_series(1, 1250) part),
       (SELECT string_agg(md5(n || ':' || part), ' ' ORDER BY part) FROM generate_series(1, 3100) part)
FROM generate_series(1, 24) n;

INSERT INTO firmware_installs SELECT id, 1001 + 7 * (id % 24), first_seen + interval '1 day' FROM devices;

INSERT INTO alerts (device_id, severity, message, raised_at, acknowledged)
SELECT id, health_status, E'fan\tspeed' || E'\n' || id, first_seen + interval '2 hours',
       CASE WHEN id % 2 = 0 THEN timestamptz 'infinity' END
FROM devices;

INSERT INTO metrics
SELECT id, first_seen - interval '300 days' + (id % 600) * interval '1 day', sqrt(id::float8)::real,
       CASE WHEN id % 9 > 0 THEN 20 + sin(id) END
FROM devices;

INSERT INTO jobs (name, state, period, options, targets)
SELECT 'inventory ' || n, (enum_range(NULL::job_state))[1 + n % 4],
       tstzrange(timestamptz '2026-05-01' + n * interval '1 hour', NULL), jsonb_build_object('retries', n % 3),
       CASE WHEN n % 5 > 0 THEN ARRAY[n, n + 1] ELSE '{}' END
FROM generate_series(1, 20 + :devices / 20) n;

INSERT INTO job_runs
SELECT id, attempt, CASE attempt WHEN 1 THEN 'failed' ELSE state END,
       attempt * interval '1 month 2 days 03:04:05.678901', repeat(name || ' ', 40)
FROM jobs, generate_series(1, 4) attempt;

COMMIT;
REFRESH MATERIALIZED VIEW health_by_site;
ANALYZE;

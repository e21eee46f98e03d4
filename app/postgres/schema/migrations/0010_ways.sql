-- users/u/devices/d and iot/u/d are two devices: each has rows of its own. way is 'iot' for those of iot/{node}/{sensor};
-- a worker gives the rows that they have already their way when it hears of them.
ALTER TABLE active_alerts ADD COLUMN IF NOT EXISTS way text NOT NULL DEFAULT '';
ALTER TABLE device_status ADD COLUMN IF NOT EXISTS way text NOT NULL DEFAULT '';
ALTER TABLE rolling_averages ADD COLUMN IF NOT EXISTS way text NOT NULL DEFAULT '';
DO $$
DECLARE
  line text[];
BEGIN
  FOREACH line SLICE 1 IN ARRAY ARRAY[
    ['active_alerts',    'user_id, device_id, rule_id, way'],
    ['device_status',    'device_key, way'],
    ['rolling_averages', 'user_id, device_id, key, window_seconds, way']] LOOP
    IF NOT EXISTS (SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
                   WHERE indrelid = line[1]::regclass AND indisprimary AND attname = 'way') THEN
      EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I, ADD PRIMARY KEY (%s)', line[1], line[1] || '_pkey', line[2]);
    END IF;
  END LOOP;
END $$;

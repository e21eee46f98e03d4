-- Change of value and rolling averages: their configuration, and where the averages land.
ALTER TABLE user_configs ADD COLUMN IF NOT EXISTS sampling jsonb NOT NULL DEFAULT '{}'::jsonb;
CREATE OR REPLACE FUNCTION iot_touch_user_configs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := clock_timestamp();
  IF TG_OP = 'UPDATE' THEN
    IF (NEW.user_id, NEW.rules, NEW.maintenance, NEW.sampling)
       IS NOT DISTINCT FROM (OLD.user_id, OLD.rules, OLD.maintenance, OLD.sampling) THEN
      NEW.updated_at := OLD.updated_at;
    ELSE
      NEW.updated_at := greatest(NEW.updated_at, OLD.updated_at + interval '1 microsecond');
      IF NEW.edited_at IS NOT DISTINCT FROM OLD.edited_at THEN
        NEW.edited_at := clock_timestamp();
      END IF;
    END IF;
  END IF;
  RETURN NEW;
END $$;

CREATE TABLE IF NOT EXISTS rolling_averages (
  user_id        text             NOT NULL,
  device_id      text             NOT NULL,
  key            text             NOT NULL,
  window_seconds integer          NOT NULL,
  time           timestamptz      NOT NULL,
  count          bigint           NOT NULL,
  mean           double precision NOT NULL,
  minimum        double precision NOT NULL,
  maximum        double precision NOT NULL,
  PRIMARY KEY (user_id, device_id, key, window_seconds)
);

DO $$
DECLARE
  line text[];
BEGIN
  FOREACH line SLICE 1 IN ARRAY ARRAY[
    ['iot_worker', 'SELECT, INSERT, UPDATE', 'rolling_averages'],
    ['iot_reader', 'SELECT',                 'rolling_averages'],
    ['iot_admin',  'SELECT',                 'rolling_averages']] LOOP
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = line[1]) THEN
      EXECUTE format('GRANT %s ON %I TO %I', line[2], line[3], line[1]);
    END IF;
  END LOOP;
END $$;

-- What is muted, who sees to an alert: mutes of a rule, a device or a user, and of a rule on a device.
ALTER TABLE user_configs ADD COLUMN IF NOT EXISTS mutes jsonb NOT NULL DEFAULT '[]'::jsonb;
ALTER TABLE active_alerts ADD COLUMN IF NOT EXISTS assignee text, ADD COLUMN IF NOT EXISTS comment text;

CREATE OR REPLACE FUNCTION iot_touch_user_configs() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  edited boolean;
BEGIN
  NEW.updated_at := clock_timestamp();
  IF TG_OP = 'UPDATE' THEN
    edited := (NEW.user_id, NEW.rules, NEW.maintenance, NEW.sampling)
       IS DISTINCT FROM (OLD.user_id, OLD.rules, OLD.maintenance, OLD.sampling);
    IF NOT edited AND NEW.mutes IS NOT DISTINCT FROM OLD.mutes THEN
      NEW.updated_at := OLD.updated_at;
    ELSE
      NEW.updated_at := greatest(NEW.updated_at, OLD.updated_at + interval '1 microsecond');
    END IF;
    IF edited AND NEW.edited_at IS NOT DISTINCT FROM OLD.edited_at THEN
      NEW.edited_at := clock_timestamp();
    END IF;
  END IF;
  RETURN NEW;
END $$;

CREATE TABLE IF NOT EXISTS muted_alerts (
  user_id       text        NOT NULL,
  device_id     text        NOT NULL,
  rule_id       text        NOT NULL,
  since         timestamptz NOT NULL,
  snoozed_until timestamptz,
  muted_by      text        NOT NULL DEFAULT '',
  comment       text        NOT NULL DEFAULT '',
  way           text        NOT NULL DEFAULT '',
  PRIMARY KEY (user_id, device_id, rule_id, way)
);

DO $$
DECLARE
  line text[];
BEGIN
  FOREACH line SLICE 1 IN ARRAY ARRAY[
    ['iot_worker',    'SELECT, INSERT, UPDATE, DELETE'],
    ['iot_reader',    'SELECT'],
    ['iot_dashboard', 'SELECT'],
    ['iot_admin',     'SELECT']] LOOP
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = line[1]) THEN
      EXECUTE format('GRANT %s ON muted_alerts TO %I', line[2], line[1]);
    END IF;
  END LOOP;
END $$;

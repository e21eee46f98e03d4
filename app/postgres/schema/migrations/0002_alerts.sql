-- Maintenance windows, edits that come twice, alerts that are told again, answers to what was refused.
-- Each step is one that init.sql has taken itself on some databases.
ALTER TABLE user_configs ADD COLUMN IF NOT EXISTS maintenance jsonb NOT NULL DEFAULT '[]'::jsonb,
  ADD COLUMN IF NOT EXISTS edited_at timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE OR REPLACE FUNCTION iot_touch_user_configs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := clock_timestamp();
  IF TG_OP = 'UPDATE' THEN
    IF (NEW.user_id, NEW.rules, NEW.maintenance) IS NOT DISTINCT FROM (OLD.user_id, OLD.rules, OLD.maintenance) THEN
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
ALTER TABLE alert_history ADD COLUMN IF NOT EXISTS repeat integer NOT NULL DEFAULT 0;
DO $$
BEGIN
  IF (SELECT count(*) FROM pg_index, unnest(indkey) WHERE indrelid = 'alert_history'::regclass AND indisprimary) = 2 THEN
    ALTER TABLE alert_history DROP CONSTRAINT alert_history_pkey, ADD PRIMARY KEY (alert_id, status, repeat);
  END IF;
END $$;
INSERT INTO mqtt_acl (username, permission, action, topic, priority)
SELECT * FROM (VALUES
  ('$all',         'allow', 'subscribe', 'users/${username}/alerts/errors', 100),
  ('$all',         'allow', 'subscribe', 'users/${username}/config/errors', 100),
  ('iot_notifier', 'allow', 'publish',   'users/+/alerts/errors',            10),
  ('iot_notifier', 'allow', 'publish',   'users/+/config/errors',            10)
) AS rule (username, permission, action, topic, priority)
WHERE obj_description('mqtt_acl'::regclass) IS NULL  -- once: an operator may delete them
ON CONFLICT DO NOTHING;
COMMENT ON TABLE mqtt_acl IS 'defaults of 0.2.0';

-- Gateways: accounts of one device alone, tokens, and a role that reads no more than who may speak.
ALTER TABLE mqtt_users ADD COLUMN IF NOT EXISTS device_id text;
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'mqtt_users'::regclass AND conname = 'mqtt_users_device') THEN
    ALTER TABLE mqtt_users ADD CONSTRAINT mqtt_users_device CHECK (device_id IS NULL OR
      (device_id !~ '[/+#$[:cntrl:]]' AND device_id <> '' AND user_id !~ '[/+#$[:cntrl:]]' AND user_id <> ''
       AND user_id <> username));
  END IF;
END $$;

INSERT INTO mqtt_acl (username, permission, action, topic, priority)
SELECT '$device', 'allow', rule.action, rule.topic, 100 FROM (VALUES
  ('publish',   'users/${username}/devices/${clientid}/telemetry'),
  ('publish',   'iot/${username}/${clientid}/telemetry'),
  ('subscribe', 'users/${username}/devices/${clientid}/commands')
) AS rule (action, topic)
WHERE NOT EXISTS (SELECT FROM mqtt_acl WHERE username = '$device')
ON CONFLICT DO NOTHING;
COMMENT ON TABLE mqtt_acl IS 'defaults of 0.3.0';

CREATE TABLE IF NOT EXISTS gateway_tokens (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  username   text        NOT NULL REFERENCES mqtt_users (username) ON UPDATE CASCADE ON DELETE CASCADE,
  device_id  text        CHECK (device_id !~ '[/+#$[:cntrl:]]' AND device_id <> ''),
  name       text        NOT NULL DEFAULT '',
  token_hash bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz
);
CREATE INDEX IF NOT EXISTS gateway_tokens_username_idx ON gateway_tokens (username);

DO $$
DECLARE
  line text[];
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_gateway') THEN
    BEGIN
      CREATE ROLE iot_gateway LOGIN;
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
      WHEN insufficient_privilege THEN
        RAISE WARNING 'role iot_gateway is missing and % may not create roles: its rights are not granted', current_user;
        RETURN;
    END;
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO iot_gateway', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO iot_gateway', current_schema());
  FOREACH line SLICE 1 IN ARRAY ARRAY[
    ['iot_gateway', 'SELECT',                         'mqtt_users'],
    ['iot_gateway', 'SELECT',                         'mqtt_acl'],
    ['iot_gateway', 'SELECT',                         'gateway_tokens'],
    ['iot_admin',   'SELECT, INSERT, UPDATE, DELETE', 'gateway_tokens']] LOOP
    IF to_regclass(line[3]) IS NOT NULL AND EXISTS (SELECT FROM pg_roles WHERE rolname = line[1]) THEN
      EXECUTE format('GRANT %s ON %I TO %I', line[2], line[3], line[1]);
    END IF;
  END LOOP;
END $$;

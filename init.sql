-- The whole schema: telemetry, rules, alerts, device status, and the MQTT accounts EMQX asks for.
-- For PostgreSQL 15 to 18; uses TimescaleDB when the server has it loaded. Run it as often as you like, on an empty
-- database or a full one: `iot-stream db init`, psql, or mounted into a container's /docker-entrypoint-initdb.d.
-- One transaction: all of it, or nothing. Two at once wait for each other.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(hashtextextended('iot-stream init.sql', 0)),
  set_config('iot_stream.empty', (to_regclass('raw_telemetry') IS NULL)::text, true);

-- What this file comes to, as numbered steps: app/postgres/schema/migrations. `iot-stream db migrate` takes those that a database
-- has not taken yet; an empty one, for which this file was made, has taken all of them.
CREATE TABLE IF NOT EXISTS iot_migrations (
  version    integer     PRIMARY KEY,
  name       text        NOT NULL,
  checksum   text        NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO iot_migrations (version, name, checksum)
SELECT * FROM (VALUES
  (1, 'first_release', '26368dec2bfcbf096945a261744c3ba6e639806c9999aeb21953007f3f1baa82'),
  (2, 'alerts', '31b664fd090b51f1eebbdf308c125dac0e64dfbbdf49aedb14f462cbf3a1a7c3'),
  (3, 'accounts', 'cc6334c77a5f7c8b393daa54735ee74db9c15e844f16dbc5083697fe80214e1e'),
  (4, 'digests', '2e7f63766a5b88da13e23a713b3afdd199bc1cb39443fbdcb7ab41256c46fda4'),
  (5, 'sampling', 'b4e9dcda9f258bbb28ef70b084370a754d39b359b62322472b73729c4de03683'),
  (6, 'in_force', '9c9f4c59f75a460509490e783c79041afd88810a84e164938526ef94f6a04a4f'),
  (7, 'client_ids', '5662166b7141d71f5ecc77a2f66e9ee4b0bf1e0ae9d403d4463564adff160b85'),
  (8, 'clocks', '6919925b1699d1739a7be12e6ea33dfd8f4a2ac1a4f6e5fe0d2d04d410fab597'),
  (9, 'left_out', '6598f55c6dc7085e81bfc94f4be9eb89e8b4b6693b64509d94416694a2baaf3a'),
  (10, 'ways', '2a74de8b1211a60392e3b9f5cb4bae48ed52c5f4189b050354514e0a360a6468'),
  (11, 'dashboards', '9121d5769de77f67ffb7575053e44367ab20d5241505976276fa807f28641d43'),
  (12, 'gateways', '10c8a885b41ba3f80e2f73c0725719a8314b5c7c93961a9d9aefc0f8c7d38383'),
  (13, 'mutes', '9f4ef042907b571fbf94bf23c90148a6e5602514f13fecc0c9417b5490689c95'),
  (14, 'channels', '5f4de0cae5fee2e80ebb834c856c2128088cb63dfddc287b2326d1e91e71ec3a')
) AS taken (version, name, checksum)
WHERE current_setting('iot_stream.empty') = 'true'
ON CONFLICT DO NOTHING;

CREATE TABLE IF NOT EXISTS raw_telemetry (
  time        timestamptz      NOT NULL,
  user_id     text             NOT NULL,
  device_id   text             NOT NULL,
  sequence_id bigint           NOT NULL,
  temperature double precision,
  battery     integer,
  extra_data  jsonb            NOT NULL DEFAULT '{}'::jsonb,
  PRIMARY KEY (time, user_id, device_id, sequence_id)
);

-- The rules in force. rules, maintenance: JSON arrays, see docs/alerts.md.
-- edited_at: of an edit over MQTT, when it was received. Of any other, when it was made: a message from before then
-- changes nothing.
CREATE TABLE IF NOT EXISTS user_configs (
  user_id     text        PRIMARY KEY,
  rules       jsonb       NOT NULL DEFAULT '[]'::jsonb,
  updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  maintenance jsonb       NOT NULL DEFAULT '[]'::jsonb,
  edited_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  sampling    jsonb       NOT NULL DEFAULT '{}'::jsonb,
  accepted    jsonb,  -- the last configuration that workers took; in force while they refuse the present one
  -- Of the newest configuration over MQTT: edited_at as it left it, which an edit by hand has moved since; when it came in
  -- (the latest of all); its place in the log.
  message_edited_at timestamptz,
  message_at        timestamptz,
  message_partition integer,
  message_offset    bigint,
  mutes jsonb NOT NULL DEFAULT '[]'::jsonb  -- JSON array, see docs/alerts.md; no part of the configuration
);
ALTER TABLE user_configs ADD COLUMN IF NOT EXISTS maintenance jsonb NOT NULL DEFAULT '[]'::jsonb,  -- not in 0.1.0
  ADD COLUMN IF NOT EXISTS edited_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ADD COLUMN IF NOT EXISTS sampling jsonb NOT NULL DEFAULT '{}'::jsonb,
  ADD COLUMN IF NOT EXISTS accepted jsonb,
  ADD COLUMN IF NOT EXISTS message_edited_at timestamptz,
  ADD COLUMN IF NOT EXISTS message_at timestamptz,
  ADD COLUMN IF NOT EXISTS message_partition integer,
  ADD COLUMN IF NOT EXISTS message_offset bigint,
  ADD COLUMN IF NOT EXISTS mutes jsonb NOT NULL DEFAULT '[]'::jsonb;
CREATE INDEX IF NOT EXISTS user_configs_updated_at_idx ON user_configs (updated_at);

-- Workers ask for what changed by updated_at, so nobody else may set it: it moves with every change, and never back.
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
CREATE OR REPLACE TRIGGER user_configs_touch BEFORE INSERT OR UPDATE ON user_configs
  FOR EACH ROW EXECUTE FUNCTION iot_touch_user_configs();

-- Where alerts of a user go beside MQTT: docs/alerts.md. The URLs have passwords in them: operators write, the notifier
-- reads, nobody else.
CREATE TABLE IF NOT EXISTS user_channels (
  user_id    text        PRIMARY KEY,
  channels   jsonb       NOT NULL DEFAULT '[]'::jsonb,
  created_at timestamptz NOT NULL DEFAULT now()  -- alerts from before then are not sent
);

-- What holds right now; one row per episode that is open.
CREATE TABLE IF NOT EXISTS active_alerts (
  user_id       text        NOT NULL,
  device_id     text        NOT NULL,
  rule_id       text        NOT NULL,
  alert_id      text        NOT NULL,
  severity      text        NOT NULL,
  message       text        NOT NULL,
  value         double precision,
  threshold     double precision,
  first_seen    timestamptz NOT NULL,
  last_seen     timestamptz NOT NULL,
  state         text        NOT NULL,
  snoozed_until timestamptz,
  way           text        NOT NULL DEFAULT '',
  assignee      text,  -- who has acknowledged it, and what was said of it
  comment       text,
  PRIMARY KEY (user_id, device_id, rule_id, way)
);
ALTER TABLE active_alerts ADD COLUMN IF NOT EXISTS assignee text, ADD COLUMN IF NOT EXISTS comment text;

-- Rules that are muted on a device, whether an alert is open or not: until then, or until somebody enables them. What is
-- muted of more than that is in user_configs.mutes.
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

-- Every transition of an alert. The worker writes it together with what caused it, the notifier notes when it was sent;
-- the key lets both drop a repeat. repeat: 0, or which of the times that an open alert was told again. held_at: it was kept
-- back for a digest; sent_at is then that of the digest.
CREATE TABLE IF NOT EXISTS alert_history (
  alert_id    text        NOT NULL,
  status      text        NOT NULL,
  repeat      integer     NOT NULL DEFAULT 0,
  user_id     text        NOT NULL,
  device_id   text        NOT NULL,
  rule_id     text        NOT NULL,
  severity    text,
  message     text,
  value       double precision,
  threshold   double precision,
  event_time  timestamptz,
  first_seen  timestamptz,
  event       jsonb,
  sent_at     timestamptz,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  held_at     timestamptz,
  left_out    text,
  PRIMARY KEY (alert_id, status, repeat)
);
-- A table of version 0.1.0 has no repeat yet, and a key without it.
ALTER TABLE alert_history ADD COLUMN IF NOT EXISTS repeat integer NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS held_at timestamptz, ADD COLUMN IF NOT EXISTS left_out text;
DO $$
BEGIN
  IF (SELECT count(*) FROM pg_index, unnest(indkey) WHERE indrelid = 'alert_history'::regclass AND indisprimary) = 2 THEN
    ALTER TABLE alert_history DROP CONSTRAINT alert_history_pkey, ADD PRIMARY KEY (alert_id, status, repeat);
  END IF;
END $$;
CREATE INDEX IF NOT EXISTS alert_history_user_idx ON alert_history (user_id, recorded_at);
-- A user's budget of messages (IOT_ALERTS_PER_MINUTE), and what is held back for the digest.
DROP INDEX IF EXISTS alert_history_sent_idx, alert_history_held_idx;  -- of 0.2.0, which read all of a storm
CREATE INDEX IF NOT EXISTS alert_history_told_idx ON alert_history (user_id, sent_at)
  WHERE sent_at IS NOT NULL AND held_at IS NULL;
CREATE INDEX IF NOT EXISTS alert_history_waiting_idx ON alert_history (user_id, held_at)
  WHERE held_at IS NOT NULL AND sent_at IS NULL AND left_out IS NULL;

CREATE TABLE IF NOT EXISTS device_status (
  device_key text        NOT NULL,
  user_id    text        NOT NULL,
  device_id  text        NOT NULL,
  status     text        NOT NULL,
  last_seen  timestamptz NOT NULL,
  detail     jsonb       NOT NULL DEFAULT '{}'::jsonb,
  clock_skew double precision,  -- seconds by which its clock was ahead when it was looked at last
  clock_set_back_at timestamptz,      -- when it showed that its clock had been set back,
  clock_set_back    double precision, -- and by how many seconds
  way        text        NOT NULL DEFAULT '',
  PRIMARY KEY (device_key, way)
);
ALTER TABLE device_status ADD COLUMN IF NOT EXISTS clock_skew double precision,  -- not in 0.1.0
  ADD COLUMN IF NOT EXISTS clock_set_back_at timestamptz,
  ADD COLUMN IF NOT EXISTS clock_set_back double precision;

-- What the rolling windows of each device say as of its newest reading, of which `time` is: docs/averages.md.
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
  way            text             NOT NULL DEFAULT '',
  PRIMARY KEY (user_id, device_id, key, window_seconds, way)
);

-- users/u/devices/d and iot/u/d are two devices, each with rows of its own: way is 'iot' for those of
-- iot/{node}/{sensor}. Older tables have no such column, and a key without it.
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

-- EMQX asks these two (emqx.conf); Mosquitto's files are made from them in the local stack.
-- No MQTT name may hold a wildcard: EMQX puts ${clientid} into a topic filter unchecked.
CREATE TABLE IF NOT EXISTS mqtt_users (
  id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  username      text        NOT NULL UNIQUE
                            CHECK (username !~ '[/+#[:cntrl:]]' AND username <> '' AND username !~ '^\$'),
  clientid      text        CHECK (clientid !~ '[/+#[:cntrl:]]'),  -- nobody else's; `name-*`: all ids that begin so;
                                                                   -- NULL: any that is not another's
  user_id       text        NOT NULL,
  password_hash text        NOT NULL,                              -- bcrypt
  salt          text        NOT NULL DEFAULT '',
  is_superuser  boolean     NOT NULL DEFAULT false,                -- skips every ACL: leave it false
  created_at    timestamptz NOT NULL DEFAULT now(),
  device_id     text                                               -- an account of this device of user_id alone: it
                                                                   -- publishes its telemetry, and nothing else
);
ALTER TABLE mqtt_users ADD COLUMN IF NOT EXISTS device_id text;  -- not in 0.1.0
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'mqtt_users'::regclass AND conname = 'mqtt_users_device') THEN
    ALTER TABLE mqtt_users ADD CONSTRAINT mqtt_users_device CHECK (device_id IS NULL OR
      (device_id !~ '[/+#$[:cntrl:]]' AND device_id <> '' AND user_id !~ '[/+#$[:cntrl:]]' AND user_id <> ''
       AND user_id <> username));
  END IF;
END $$;
CREATE INDEX IF NOT EXISTS mqtt_users_clientid_idx ON mqtt_users (clientid);
CREATE INDEX IF NOT EXISTS mqtt_users_clientids_idx ON mqtt_users (clientid) WHERE clientid LIKE '%*';
CREATE TABLE IF NOT EXISTS mqtt_acl (
  id         bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  username   text     NOT NULL,                                    -- '$all': every user; '$device': every account
                                                                   -- of one device, which '$all' is not for
  clientid   text,
  permission text     NOT NULL CHECK (permission IN ('allow', 'deny')),
  action     text     NOT NULL CHECK (action IN ('publish', 'subscribe', 'all')),
  topic      text     NOT NULL,
  qos        smallint,                                             -- NULL: any
  retain     smallint,                                             -- NULL: any
  priority   integer  NOT NULL DEFAULT 100,                        -- the first match wins, lowest first
  UNIQUE NULLS NOT DISTINCT (username, clientid, permission, action, topic)
);
CREATE INDEX IF NOT EXISTS mqtt_acl_username_idx ON mqtt_acl (username, priority, id);

-- The default rules are put in once: an operator may change or delete them, and they stay so.
INSERT INTO mqtt_acl (username, permission, action, topic, priority)
SELECT * FROM (VALUES
  ('$all',          'allow', 'publish',   'users/${username}/devices/${clientid}/telemetry', 100),
  ('$all',          'allow', 'publish',   'users/${username}/config',                        100),
  ('$all',          'allow', 'publish',   'users/${username}/alerts/manage',                 100),
  ('$all',          'allow', 'publish',   'iot/${username}/${clientid}/telemetry',           100),
  ('$all',          'allow', 'publish',   'iot/${username}/status',                          100),
  ('$all',          'allow', 'subscribe', 'users/${username}/devices/${clientid}/commands',  100),
  ('$all',          'allow', 'subscribe', 'users/${username}/alerts',                        100),
  ('$all',          'allow', 'subscribe', 'users/${username}/alerts/errors',                 100),
  ('$all',          'allow', 'subscribe', 'users/${username}/config/errors',                 100),
  ('$device',       'allow', 'publish',   'users/${username}/devices/${clientid}/telemetry', 100),
  ('$device',       'allow', 'publish',   'iot/${username}/${clientid}/telemetry',           100),
  ('$device',       'allow', 'subscribe', 'users/${username}/devices/${clientid}/commands',  100),
  ('vector_bridge', 'allow', 'subscribe', 'users/+/devices/+/telemetry',                      10),
  ('vector_bridge', 'allow', 'subscribe', 'users/+/config',                                   10),
  ('vector_bridge', 'allow', 'subscribe', 'users/+/alerts/manage',                            10),
  ('vector_bridge', 'allow', 'subscribe', 'iot/+/+/telemetry',                                10),
  ('vector_bridge', 'allow', 'subscribe', 'iot/+/status',                                     10),
  ('vector_bridge', 'deny',  'publish',   '#',                                                20),
  ('iot_notifier',  'allow', 'publish',   'users/+/alerts',                                   10),
  ('iot_notifier',  'allow', 'publish',   'users/+/alerts/errors',                            10),
  ('iot_notifier',  'allow', 'publish',   'users/+/config/errors',                            10)
) AS rule (username, permission, action, topic, priority)
WHERE NOT EXISTS (SELECT FROM mqtt_acl)
-- Those that came after version 0.1.0 are put in once as well; the table's comment says up to which it was done.
   OR (rule.topic LIKE '%/errors' AND obj_description('mqtt_acl'::regclass) IS NULL)
   OR (rule.username = '$device' AND obj_description('mqtt_acl'::regclass) IS DISTINCT FROM 'defaults of 0.3.0'
       AND NOT EXISTS (SELECT FROM mqtt_acl WHERE username = '$device'))
ON CONFLICT DO NOTHING;
COMMENT ON TABLE mqtt_acl IS 'defaults of 0.3.0';

-- Bearer tokens of the gateways: what a token is of, and its SHA-256; the token itself is shown once and kept nowhere.
CREATE TABLE IF NOT EXISTS gateway_tokens (
  id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  username   text        NOT NULL REFERENCES mqtt_users (username) ON UPDATE CASCADE ON DELETE CASCADE,
  device_id  text        CHECK (device_id !~ '[/+#$[:cntrl:]]' AND device_id <> ''),  -- bound to it, NULL: to none
  name       text        NOT NULL DEFAULT '',                                         -- what it is for
  token_hash bytea       NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz                                                              -- NULL: never
);
CREATE INDEX IF NOT EXISTS gateway_tokens_username_idx ON gateway_tokens (username);

-- TimescaleDB, when the server has loaded it. Its functions and options are only named in strings, so that a plain
-- server never looks at them. Columnstore, retention and continuous aggregates need its community licence.
DO $$
DECLARE
  installed boolean := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');
BEGIN
  -- The loader announces itself by its settings; without it CREATE EXTENSION would end the whole session.
  IF NOT installed AND current_setting('timescaledb.max_background_workers', true) IS NOT NULL
     AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') THEN
    BEGIN
      EXECUTE 'CREATE EXTENSION timescaledb';
      installed := true;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE WARNING 'TimescaleDB is available, but % may not create the extension: plain tables are used', current_user;
    END;
  END IF;
  IF NOT installed THEN
    RETURN;
  END IF;

  EXECUTE $sql$SELECT create_hypertable('raw_telemetry', by_range('time', INTERVAL '1 day'),
    create_default_indexes => false, if_not_exists => true, migrate_data => true)$sql$;
  IF current_setting('timescaledb.license', true) IS DISTINCT FROM 'timescale' THEN
    RAISE WARNING 'TimescaleDB runs with its Apache licence: no columnstore, no retention, no aggregates';
    RETURN;
  END IF;

  EXECUTE $sql$ALTER TABLE raw_telemetry SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'user_id, device_id', timescaledb.orderby = 'time DESC, sequence_id DESC')$sql$;
  EXECUTE $sql$CALL add_columnstore_policy('raw_telemetry', after => INTERVAL '2 days', if_not_exists => true)$sql$;
  -- IOT_TIME_PAST_MAX must not exceed this, or late readings go where they are dropped at once.
  EXECUTE $sql$SELECT add_retention_policy('raw_telemetry', drop_after => INTERVAL '90 days', if_not_exists => true)$sql$;

  EXECUTE $sql$CREATE MATERIALIZED VIEW IF NOT EXISTS telemetry_1m
    WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
    SELECT time_bucket(INTERVAL '1 minute', time) AS bucket, user_id, device_id, count(*) AS n,
      count(temperature) AS n_temp, sum(temperature) AS sum_temp, min(temperature) AS min_temp,
      max(temperature) AS max_temp, min(battery) AS min_battery, last(temperature, time) AS last_temp,
      last(battery, time) AS last_battery
    FROM raw_telemetry GROUP BY 1, 2, 3 WITH NO DATA$sql$;
  -- Sums and counts, never an average of averages.
  EXECUTE $sql$CREATE MATERIALIZED VIEW IF NOT EXISTS telemetry_1h
    WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
    SELECT time_bucket(INTERVAL '1 hour', bucket) AS bucket, user_id, device_id, sum(n) AS n, sum(n_temp) AS n_temp,
      sum(sum_temp) AS sum_temp, min(min_temp) AS min_temp, max(max_temp) AS max_temp, min(min_battery) AS min_battery,
      last(last_temp, bucket) AS last_temp, last(last_battery, bucket) AS last_battery
    FROM telemetry_1m GROUP BY 1, 2, 3 WITH NO DATA$sql$;
  -- start_offset stays far below the retention: a refresh of dropped time would erase its history.
  EXECUTE $sql$SELECT add_continuous_aggregate_policy('telemetry_1m', start_offset => INTERVAL '3 days',
    end_offset => INTERVAL '1 minute', schedule_interval => INTERVAL '1 minute', if_not_exists => true)$sql$;
  EXECUTE $sql$SELECT add_continuous_aggregate_policy('telemetry_1h', start_offset => INTERVAL '7 days',
    end_offset => INTERVAL '1 hour', schedule_interval => INTERVAL '15 minutes', if_not_exists => true)$sql$;
END $$;

-- Accounts with no more rights than their work needs. None has a password yet:
-- ALTER ROLE iot_worker PASSWORD '...'. iot_reader is a group: GRANT iot_reader TO somebody.
DO $$
DECLARE
  account record;
  grants constant text[][] := ARRAY[
    ['iot_worker',   'SELECT, INSERT',                 'raw_telemetry'],
    ['iot_worker',   'SELECT, INSERT, UPDATE',         'user_configs'],
    ['iot_worker',   'SELECT, INSERT, UPDATE, DELETE', 'active_alerts'],
    ['iot_worker',   'SELECT, INSERT, UPDATE, DELETE', 'muted_alerts'],
    ['iot_worker',   'SELECT, INSERT, UPDATE',         'device_status'],
    ['iot_worker',   'SELECT, INSERT, UPDATE',         'rolling_averages'],
    ['iot_worker',   'SELECT, INSERT',                 'alert_history'],
    ['iot_notifier', 'SELECT, INSERT, UPDATE',         'alert_history'],
    ['iot_notifier', 'SELECT',                         'active_alerts'],
    ['iot_notifier', 'SELECT',                         'user_channels'],
    ['iot_reader',   'SELECT',                         'raw_telemetry'],
    ['iot_reader',   'SELECT',                         'user_configs'],
    ['iot_reader',   'SELECT',                         'active_alerts'],
    ['iot_reader',   'SELECT',                         'muted_alerts'],
    ['iot_reader',   'SELECT',                         'alert_history'],
    ['iot_reader',   'SELECT',                         'device_status'],
    ['iot_reader',   'SELECT',                         'rolling_averages'],
    ['iot_reader',   'SELECT',                         'telemetry_1m'],
    ['iot_reader',   'SELECT',                         'telemetry_1h'],
    ['iot_dashboard', 'SELECT',                        'raw_telemetry'],
    ['iot_dashboard', 'SELECT',                        'active_alerts'],
    ['iot_dashboard', 'SELECT',                        'muted_alerts'],
    ['iot_dashboard', 'SELECT',                        'alert_history'],
    ['iot_dashboard', 'SELECT',                        'device_status'],
    ['iot_dashboard', 'SELECT',                        'rolling_averages'],
    ['iot_admin',    'SELECT, INSERT, UPDATE, DELETE', 'mqtt_users'],
    ['iot_admin',    'SELECT, INSERT, UPDATE, DELETE', 'mqtt_acl'],
    ['iot_admin',    'SELECT, INSERT, UPDATE, DELETE', 'gateway_tokens'],
    ['iot_admin',    'SELECT, INSERT, UPDATE, DELETE', 'user_configs'],
    ['iot_admin',    'SELECT, INSERT, UPDATE, DELETE', 'user_channels'],
    ['iot_admin',    'SELECT',                         'active_alerts'],
    ['iot_admin',    'SELECT',                         'muted_alerts'],
    ['iot_admin',    'SELECT',                         'alert_history'],
    ['iot_admin',    'SELECT',                         'device_status'],
    ['iot_admin',    'SELECT',                         'rolling_averages'],
    ['iot_admin',    'SELECT',                         'raw_telemetry'],
    ['iot_admin',    'SELECT',                         'iot_migrations'],
    ['iot_worker',   'SELECT',                         'iot_migrations'],
    ['iot_reader',   'SELECT',                         'iot_migrations'],
    ['iot_gateway',  'SELECT',                         'mqtt_users'],
    ['iot_gateway',  'SELECT',                         'mqtt_acl'],
    ['iot_gateway',  'SELECT',                         'gateway_tokens'],
    ['emqx_ro',      'SELECT',                         'mqtt_users'],
    ['emqx_ro',      'SELECT',                         'mqtt_acl']];
  line text[];
BEGIN
  FOR account IN SELECT * FROM (VALUES ('iot_worker', 'LOGIN'), ('iot_notifier', 'LOGIN'), ('iot_reader', 'NOLOGIN'),
                                       ('emqx_ro', 'LOGIN'), ('iot_admin', 'LOGIN'), ('iot_dashboard', 'LOGIN'),
                                       ('iot_gateway', 'LOGIN')) AS a (name, login) LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = account.name) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I %s', account.name, account.login);
      EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;  -- made for another database of this server just now
        WHEN insufficient_privilege THEN
          RAISE WARNING 'role % is missing and % may not create roles: its rights are not granted',
            account.name, current_user;
          CONTINUE;
      END;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), account.name);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), account.name);
  END LOOP;
  FOREACH line SLICE 1 IN ARRAY grants LOOP
    IF to_regclass(line[3]) IS NOT NULL AND EXISTS (SELECT FROM pg_roles WHERE rolname = line[1]) THEN
      EXECUTE format('GRANT %s ON %I TO %I', line[2], line[3], line[1]);
    END IF;
  END LOOP;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_worker') THEN  -- COPY goes by way of a temp table
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO iot_worker', current_database());
  END IF;
END $$;
COMMIT;

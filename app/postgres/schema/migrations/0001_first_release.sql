-- The schema of version 0.1.0.
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

-- The rules in force. rules: JSON array, see the README.
CREATE TABLE IF NOT EXISTS user_configs (
  user_id    text        PRIMARY KEY,
  rules      jsonb       NOT NULL DEFAULT '[]'::jsonb,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS user_configs_updated_at_idx ON user_configs (updated_at);

-- Workers ask for what changed by updated_at, so nobody else may set it: it moves with every change, and never back.
CREATE OR REPLACE FUNCTION iot_touch_user_configs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.updated_at := clock_timestamp();
  IF TG_OP = 'UPDATE' THEN
    IF (NEW.user_id, NEW.rules) IS NOT DISTINCT FROM (OLD.user_id, OLD.rules) THEN
      NEW.updated_at := OLD.updated_at;
    ELSE
      NEW.updated_at := greatest(NEW.updated_at, OLD.updated_at + interval '1 microsecond');
    END IF;
  END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER user_configs_touch BEFORE INSERT OR UPDATE ON user_configs
  FOR EACH ROW EXECUTE FUNCTION iot_touch_user_configs();

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
  PRIMARY KEY (user_id, device_id, rule_id)
);

-- Every transition that was told to a user; the key lets the notifier drop a repeat.
CREATE TABLE IF NOT EXISTS alert_history (
  alert_id    text        NOT NULL,
  status      text        NOT NULL,
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
  PRIMARY KEY (alert_id, status)
);
CREATE INDEX IF NOT EXISTS alert_history_user_idx ON alert_history (user_id, recorded_at);

CREATE TABLE IF NOT EXISTS device_status (
  device_key text        PRIMARY KEY,
  user_id    text        NOT NULL,
  device_id  text        NOT NULL,
  status     text        NOT NULL,
  last_seen  timestamptz NOT NULL,
  detail     jsonb       NOT NULL DEFAULT '{}'::jsonb
);

-- EMQX asks these two (emqx.conf); Mosquitto's files are made from them in the local stack.
-- No MQTT name may hold a wildcard: EMQX puts ${clientid} into a topic filter unchecked.
CREATE TABLE IF NOT EXISTS mqtt_users (
  id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  username      text        NOT NULL UNIQUE
                            CHECK (username !~ '[/+#[:cntrl:]]' AND username <> '' AND username !~ '^\$'),
  clientid      text        CHECK (clientid !~ '[/+#[:cntrl:]]'),  -- NULL: any safe one
  user_id       text        NOT NULL,
  password_hash text        NOT NULL,                              -- bcrypt
  salt          text        NOT NULL DEFAULT '',
  is_superuser  boolean     NOT NULL DEFAULT false,                -- skips every ACL: leave it false
  created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS mqtt_acl (
  id         bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  username   text     NOT NULL,                                    -- '$all': every user
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
  ('$all',          'allow', 'publish',   'iot/${clientid}/status',                          100),
  ('$all',          'allow', 'subscribe', 'users/${username}/devices/${clientid}/commands',  100),
  ('$all',          'allow', 'subscribe', 'users/${username}/alerts',                        100),
  ('vector_bridge', 'allow', 'subscribe', 'users/+/devices/+/telemetry',                      10),
  ('vector_bridge', 'allow', 'subscribe', 'users/+/config',                                   10),
  ('vector_bridge', 'allow', 'subscribe', 'users/+/alerts/manage',                            10),
  ('vector_bridge', 'allow', 'subscribe', 'iot/+/+/telemetry',                                10),
  ('vector_bridge', 'allow', 'subscribe', 'iot/+/status',                                     10),
  ('vector_bridge', 'deny',  'publish',   '#',                                                20),
  ('iot_notifier',  'allow', 'publish',   'users/+/alerts',                                   10)
) AS rule (username, permission, action, topic, priority)
WHERE NOT EXISTS (SELECT FROM mqtt_acl);

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
    ['iot_worker',   'SELECT, INSERT, UPDATE',         'device_status'],
    ['iot_worker',   'SELECT, INSERT',                 'alert_history'],
    ['iot_notifier', 'SELECT, INSERT, UPDATE',         'alert_history'],
    ['iot_notifier', 'SELECT',                         'active_alerts'],
    ['iot_reader',   'SELECT',                         'raw_telemetry'],
    ['iot_reader',   'SELECT',                         'user_configs'],
    ['iot_reader',   'SELECT',                         'active_alerts'],
    ['iot_reader',   'SELECT',                         'alert_history'],
    ['iot_reader',   'SELECT',                         'device_status'],
    ['iot_reader',   'SELECT',                         'telemetry_1m'],
    ['iot_reader',   'SELECT',                         'telemetry_1h'],
    ['emqx_ro',      'SELECT',                         'mqtt_users'],
    ['emqx_ro',      'SELECT',                         'mqtt_acl']];
  line text[];
BEGIN
  FOR account IN SELECT * FROM (VALUES ('iot_worker', 'LOGIN'), ('iot_notifier', 'LOGIN'), ('iot_reader', 'NOLOGIN'),
                                       ('emqx_ro', 'LOGIN')) AS a (name, login) LOOP
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

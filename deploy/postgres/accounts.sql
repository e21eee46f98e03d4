-- The accounts of the stack: passwords for the roles init.sql makes, and the MQTT accounts EMQX asks for.
--   psql -v secrets=/run/secrets -f accounts.sql        after init.sql, as a superuser, as often as you like
-- With -v vector=0, where iot-stream bridge is the way in, retained messages are allowed: it knows them for what they are.
-- Each password is a file of the directory `secrets`; a changed file is a changed password.
\set ON_ERROR_STOP on
\if :{?vector}
\else
  \set vector 1
\endif
\set worker_db `cat :secrets/worker_db_password`
\set notifier_db `cat :secrets/notifier_db_password`
\set gateway_db `cat :secrets/gateway_db_password`
\set emqx_db `cat :secrets/emqx_db_password`
\set grafana_db `cat :secrets/grafana_db_password`
\set vector_mqtt `cat :secrets/vector_mqtt_password`
\set bridge_mqtt `cat :secrets/bridge_mqtt_password`
\set notifier_mqtt `cat :secrets/notifier_mqtt_password`

BEGIN;
SET LOCAL client_min_messages = warning;
ALTER ROLE iot_worker PASSWORD :'worker_db';
ALTER ROLE iot_notifier PASSWORD :'notifier_db';
ALTER ROLE iot_gateway PASSWORD :'gateway_db';
ALTER ROLE emqx_ro PASSWORD :'emqx_db';
ALTER ROLE iot_dashboard PASSWORD :'grafana_db' CONNECTION LIMIT 20;
-- PgBouncer passes no session settings on, so the roles carry what a worker else sets itself (postgres/connect.py).
ALTER ROLE iot_worker SET statement_timeout = '60s';
ALTER ROLE iot_worker SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE iot_worker SET jit = off;
ALTER ROLE iot_notifier SET statement_timeout = '60s';
ALTER ROLE iot_notifier SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE iot_gateway SET default_transaction_read_only = on;
ALTER ROLE iot_gateway SET statement_timeout = '10s';
-- A dashboard that asks for too much ends, and the workers' connections are not taken by many of them.
ALTER ROLE iot_dashboard SET default_transaction_read_only = on;
ALTER ROLE iot_dashboard SET statement_timeout = '30s';
ALTER ROLE iot_dashboard SET temp_file_limit = '1GB';

CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE TEMP TABLE account (username text, clientid text, password text) ON COMMIT DROP;
INSERT INTO account VALUES
  ('vector_bridge', 'vector-bridge-1', :'vector_mqtt'),
  ('iot_bridge',    'iot-bridge-*',    :'bridge_mqtt'),
  ('iot_notifier',  'iot-notifier-*',  :'notifier_mqtt');
DO $$ BEGIN
  IF EXISTS (SELECT FROM account WHERE length(password) < 12) THEN
    RAISE EXCEPTION 'a password is shorter than 12 characters, or its file is missing';
  END IF;
END $$;
INSERT INTO mqtt_users (username, clientid, user_id, password_hash)
SELECT username, clientid, '-', crypt(password, gen_salt('bf', 10)) FROM account
ON CONFLICT (username) DO UPDATE SET clientid = EXCLUDED.clientid, password_hash = EXCLUDED.password_hash
WHERE mqtt_users.clientid IS DISTINCT FROM EXCLUDED.clientid OR mqtt_users.password_hash <>
  crypt((SELECT password FROM account WHERE account.username = mqtt_users.username), mqtt_users.password_hash);

-- Ids that begin so are theirs alone (emqx.conf): who connects with another's client id takes over what waits for it.
-- Vector needs the broker's heartbeat to distinguish a lost session from an idle fleet; the bridge the topics it brings.
INSERT INTO mqtt_acl (username, permission, action, topic, priority) VALUES
  ('vector_bridge', 'allow', 'subscribe', '$SYS/brokers/+/uptime',       10),
  ('iot_bridge',    'allow', 'subscribe', 'users/+/devices/+/telemetry', 10),
  ('iot_bridge',    'allow', 'subscribe', 'users/+/config',              10),
  ('iot_bridge',    'allow', 'subscribe', 'users/+/alerts/manage',       10),
  ('iot_bridge',    'allow', 'subscribe', 'iot/+/+/telemetry',           10),
  ('iot_bridge',    'allow', 'subscribe', 'iot/+/status',                10),
  ('iot_bridge',    'deny',  'publish',   '#',                           20)
ON CONFLICT DO NOTHING;

-- Vector takes what the broker had retained for news, at each new subscription: old orders are carried out again.
CREATE TEMP TABLE retained ON COMMIT DROP AS
SELECT username, 'deny' AS permission, 'publish' AS action, topic, 1::smallint AS retain, 50 AS priority
FROM unnest(ARRAY['users/+/devices/+/telemetry', 'users/+/config', 'users/+/alerts/manage', 'iot/+/+/telemetry',
                  'iot/+/status']) AS topic, unnest(ARRAY['$all', '$device']) AS username
WHERE username = '$all' OR EXISTS (SELECT FROM mqtt_acl WHERE username = '$device');  -- else the schema is an older one
\if :vector
  INSERT INTO mqtt_acl (username, permission, action, topic, retain, priority) SELECT * FROM retained
  ON CONFLICT DO NOTHING;
\else
  DELETE FROM mqtt_acl USING retained AS r
  WHERE (mqtt_acl.username, mqtt_acl.permission, mqtt_acl.action, mqtt_acl.topic, mqtt_acl.retain)
      = (r.username, r.permission, r.action, r.topic, r.retain);
\endif
COMMIT;

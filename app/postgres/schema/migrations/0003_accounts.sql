-- A client speaks for the status of its own node alone; a role for whoever manages accounts and rules.
UPDATE mqtt_acl SET topic = 'iot/${username}/status'
WHERE username = '$all' AND permission = 'allow' AND action = 'publish' AND topic = 'iot/${clientid}/status'
  AND NOT EXISTS (SELECT FROM mqtt_acl WHERE username = '$all' AND topic = 'iot/${username}/status');
DELETE FROM mqtt_acl
WHERE username = '$all' AND permission = 'allow' AND action = 'publish' AND topic = 'iot/${clientid}/status';

DO $$
DECLARE
  line text[];
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_admin') THEN
    BEGIN
      CREATE ROLE iot_admin LOGIN;
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
      WHEN insufficient_privilege THEN
        RAISE WARNING 'role iot_admin is missing and % may not create roles: its rights are not granted', current_user;
        RETURN;
    END;
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO iot_admin', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO iot_admin', current_schema());
  FOREACH line SLICE 1 IN ARRAY ARRAY[
    ['iot_admin',  'SELECT, INSERT, UPDATE, DELETE', 'mqtt_users'],
    ['iot_admin',  'SELECT, INSERT, UPDATE, DELETE', 'mqtt_acl'],
    ['iot_admin',  'SELECT, INSERT, UPDATE, DELETE', 'user_configs'],
    ['iot_admin',  'SELECT',                         'active_alerts'],
    ['iot_admin',  'SELECT',                         'alert_history'],
    ['iot_admin',  'SELECT',                         'device_status'],
    ['iot_admin',  'SELECT',                         'raw_telemetry'],
    ['iot_admin',  'SELECT',                         'iot_migrations'],
    ['iot_worker', 'SELECT',                         'iot_migrations'],
    ['iot_reader', 'SELECT',                         'iot_migrations']] LOOP
    IF to_regclass(line[3]) IS NOT NULL AND EXISTS (SELECT FROM pg_roles WHERE rolname = line[1]) THEN
      EXECUTE format('GRANT %s ON %I TO %I', line[2], line[3], line[1]);
    END IF;
  END LOOP;
END $$;

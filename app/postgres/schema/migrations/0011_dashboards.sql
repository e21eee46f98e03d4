-- The account of dashboards (Grafana): reads readings, alerts and presence; no rules, no accounts, and it writes nothing.
DO $$
DECLARE
  line text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_dashboard') THEN
    BEGIN
      CREATE ROLE iot_dashboard LOGIN;
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
      WHEN insufficient_privilege THEN
        RAISE WARNING 'role iot_dashboard is missing and % may not create roles: its rights are not granted', current_user;
        RETURN;
    END;
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO iot_dashboard', current_database());
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO iot_dashboard', current_schema());
  FOREACH line IN ARRAY ARRAY['raw_telemetry', 'active_alerts', 'alert_history', 'device_status', 'rolling_averages'] LOOP
    IF to_regclass(line) IS NOT NULL THEN
      EXECUTE format('GRANT SELECT ON %I TO iot_dashboard', line);
    END IF;
  END LOOP;
END $$;

-- Where alerts of a user go beside MQTT. The URLs have passwords in them: operators write, the notifier reads, nobody else.
CREATE TABLE IF NOT EXISTS user_channels (
  user_id    text        PRIMARY KEY,
  channels   jsonb       NOT NULL DEFAULT '[]'::jsonb,
  created_at timestamptz NOT NULL DEFAULT now()  -- alerts from before then are not sent
);

DO $$
DECLARE
  line text[];
BEGIN
  FOREACH line SLICE 1 IN ARRAY ARRAY[
    ['iot_notifier', 'SELECT'],
    ['iot_admin',    'SELECT, INSERT, UPDATE, DELETE']] LOOP
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = line[1]) THEN
      EXECUTE format('GRANT %s ON user_channels TO %I', line[2], line[1]);
    END IF;
  END LOOP;
END $$;

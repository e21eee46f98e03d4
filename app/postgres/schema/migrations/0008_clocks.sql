-- Of a device whose clock was set back: when that showed, and by how many seconds.
ALTER TABLE device_status ADD COLUMN IF NOT EXISTS clock_set_back_at timestamptz,
  ADD COLUMN IF NOT EXISTS clock_set_back double precision;
-- Of the newest configuration over MQTT: its place in the log, when it came in (the latest of all), and edited_at as it
-- left it, which an edit by hand has moved since.
ALTER TABLE user_configs ADD COLUMN IF NOT EXISTS message_edited_at timestamptz,
  ADD COLUMN IF NOT EXISTS message_at timestamptz,
  ADD COLUMN IF NOT EXISTS message_partition integer,
  ADD COLUMN IF NOT EXISTS message_offset bigint;

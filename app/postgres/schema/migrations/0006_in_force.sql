-- The configuration that is in force while the present one is refused, and by how much a device's clock is off.
ALTER TABLE user_configs ADD COLUMN IF NOT EXISTS accepted jsonb;
ALTER TABLE device_status ADD COLUMN IF NOT EXISTS clock_skew double precision;

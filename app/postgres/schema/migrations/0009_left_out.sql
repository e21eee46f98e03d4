-- Alerts that the MQTT broker cannot take; the budget of a user without reading all of a storm.
ALTER TABLE alert_history ADD COLUMN IF NOT EXISTS left_out text;
DROP INDEX IF EXISTS alert_history_sent_idx, alert_history_held_idx;
CREATE INDEX IF NOT EXISTS alert_history_told_idx ON alert_history (user_id, sent_at)
  WHERE sent_at IS NOT NULL AND held_at IS NULL;
CREATE INDEX IF NOT EXISTS alert_history_waiting_idx ON alert_history (user_id, held_at)
  WHERE held_at IS NOT NULL AND sent_at IS NULL AND left_out IS NULL;

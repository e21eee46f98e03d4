-- What is kept back for a user's digest.
ALTER TABLE alert_history ADD COLUMN IF NOT EXISTS held_at timestamptz;
CREATE INDEX IF NOT EXISTS alert_history_sent_idx ON alert_history (user_id, sent_at) WHERE sent_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS alert_history_held_idx ON alert_history (user_id) WHERE held_at IS NOT NULL AND sent_at IS NULL;

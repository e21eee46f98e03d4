-- Client ids that begin so belong to the product's own accounts alone: who connects with another's id takes its session.
UPDATE mqtt_users SET clientid = 'iot-bridge-*' WHERE username = 'iot_bridge' AND clientid IS NULL;
UPDATE mqtt_users SET clientid = 'iot-notifier-*' WHERE username = 'iot_notifier' AND clientid IS NULL;

-- EMQX asks at each login whether the id is another account's.
CREATE INDEX IF NOT EXISTS mqtt_users_clientid_idx ON mqtt_users (clientid);
CREATE INDEX IF NOT EXISTS mqtt_users_clientids_idx ON mqtt_users (clientid) WHERE clientid LIKE '%*';

"""Further channels of alerts: e-mail, chats and pagers of each user, by way of apprise."""

"""Looking at single messages: decoded as a worker decodes, found wherever they are. Nothing is changed or committed."""

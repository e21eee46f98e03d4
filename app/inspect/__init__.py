"""Looking at single messages: decoded as a worker does it, found wherever they are. Nothing is changed or committed."""

"""Who is served next, and how much each user still gets."""

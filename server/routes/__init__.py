"""The routes, by resource; each module declares its own in ``ROUTES``."""

"""Secrets that tests can tell apart, and a callback to sign with them."""

import base64
import time

from server.callbacks.signing import webhook_id

ID = webhook_id("job-0b1c2d3e-0000-4000-8000-000000000001", 5)
BODY = '{"job_id":"job-1","status":"completed","completed_at":null,"metadata":{"city":"Zürich"}}'.encode()


def text(prefix, material):
    return prefix + base64.b64encode(material).decode()


def secret(byte, size=32):
    return text("whsec_", bytes([byte]) * size)


def now_us():
    """The real time: receivers refuse what is more than five minutes away from theirs."""
    return time.time_ns() // 1_000

"""What is counted of callbacks, for ``/metrics``."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from ledger.events import AbandonReason
from server.callbacks.sender import ERRORS, Outcome

# A second series for each, of when it was made, would be twice the text, and nothing asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

DELAYS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600, 21600, 86400, 259200)
"""Bounds of the delivery delay's histogram, seconds: from a good receiver at once to the last of the schedule."""


class CallbackMetrics:
    """Counters of one process: Prometheus expects them to begin anew with it. What is owed is read from the views."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "jobledger_callback_attempts",
            "Attempts to deliver a callback, by how they ended.",
            ["outcome"],
            registry=registry,
        )
        self._abandoned = Counter(
            "jobledger_callbacks_abandoned", "Callbacks that were given up, by why.", ["reason"], registry=registry
        )
        self.recovered = Counter(
            "jobledger_callbacks_recovered",
            "Callbacks delivered after a failed attempt, or after they had been given up.",
            registry=registry,
        )
        self._delay = Histogram(
            "jobledger_callback_delivery_delay_seconds",
            "Seconds from when a callback was owed to its delivery.",
            buckets=DELAYS_S,
            registry=registry,
        )
        for outcome in ("delivered", *ERRORS):
            self._attempts.labels(outcome)
        for reason in get_args(AbandonReason):
            self._abandoned.labels(reason)

    def attempted(self, outcome: Outcome) -> None:
        """Count an attempt."""
        self._attempts.labels(outcome.error or "delivered").inc()

    def abandoned(self, reason: str) -> None:
        """Count a callback that was given up."""
        self._abandoned.labels(reason).inc()

    def delivered(self, delay_s: float) -> None:
        """Count a delivery, so many seconds after it was owed."""
        self._delay.observe(max(delay_s, 0.0))

"""The workers of one server, as far as metrics go: each says how it is in a file, whoever is scraped tells of all.

Without that a scrape would see now one worker and now another. Each sample of a worker has its number as a label.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from server import beats

INTERVAL_S: Final = 1.0
"""How often a worker says how it is: a scrape comes each 15 s, and the text takes a millisecond."""
_ENDING: Final = ".prom"

log = structlog.get_logger("workers")


class Snapshot(Collector):
    """What was measured, in the form that ``prometheus_client`` writes."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = tuple(metrics)

    def collect(self) -> Iterable[Metric]:
        """Return what was measured."""
        return self._metrics


class Fellows:
    """One worker among others. ``measure`` returns how it is, as text for Prometheus; ``folder`` is theirs alone."""

    def __init__(self, folder: Path, number: int, measure: Callable[[], bytes]) -> None:
        self._folder = folder
        self._number = number
        self._measure = measure

    def beat(self) -> float:
        """Say how this worker is; return how many seconds to wait for the next beat."""
        target = self._folder / f"{self._number}{_ENDING}"
        partial = target.with_suffix(".partial")
        try:
            partial.write_bytes(self._measure())
            os.replace(partial, target)
        except OSError as error:  # a full disk: the others show what was said before
            log.warning("metrics.not_shared", error=str(error))
        return INTERVAL_S

    async def run(self) -> None:
        """Beat for ever."""
        await beats.forever("metrics", self.beat)

    def told(self) -> bytes:
        """Return how all workers are: this one now, the others a second ago or when they ended."""
        self.beat()
        families: dict[str, Metric] = {}
        for file in sorted(self._folder.glob(f"*{_ENDING}")):
            for family in text_string_to_metric_families(file.read_text("utf-8")):
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    labels = {**sample.labels, "worker": file.stem}
                    known.samples.append(sample._replace(labels=labels))
        return generate_latest(Snapshot(families.values()))

"""The batches view: a batch is shown in the shape of a job, with ``job_type`` batch."""

from __future__ import annotations

from projections.jobs import render
from projections.resources import ResourceProjection

BATCHES = ResourceProjection("batches", "batch", 5, render)

"""Where the real histories are (``../shared/data``, described by its README), and what skips a test without them."""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SDSC = DATA / "swf" / "SDSC-BLUE-2000-4.2-cln.swf.gz"
KTH = DATA / "swf" / "KTH-SP2-1996-2.1-cln.swf.gz"
GOOGLE = sorted((DATA / "google-2011" / "job_events").glob("part-*.csv.gz"))

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data is not at {DATA}")

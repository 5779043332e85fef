"""Where the tests find the project's files, and real data where there is any."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
POLICIES = CONFIGS / "policies"
SAMPLES = ROOT / "datasets" / "samples"
CMU = SAMPLES / "CMU-1-Small-Region.svs"  # a real slide, scanned by Aperio
DATA = Path(os.environ.get("YUHENG_DATA", ROOT / "no-data"))  # docs/guides/data-scientist.md says what lies there
FIELD_CASES = DATA.parent / "field-cases" / "files"
# Simulated containers around real pixels: they are no proof of reading the files of real scanners.
VENDOR_SLIDES = DATA / "pathology" / "slides_simulated_vendor"

"""Where the tests find the project's files."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
POLICIES = CONFIGS / "policies"
SAMPLES = ROOT / "datasets" / "samples"
CMU = SAMPLES / "CMU-1-Small-Region.svs"  # a real slide, scanned by Aperio

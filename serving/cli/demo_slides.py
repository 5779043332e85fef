"""Paint the demo's SIMULATED slides: python -m serving.cli.demo_slides var/slides_demo

Three slides of nobody: one with many abnormal cells, one in a stain that the model never learned from, one without
abnormal cells.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

COLUMNS, ROWS = 8, 6  # stored tiles of 256 px


class Example(NamedTuple):
    file: str
    seed: int
    label: str
    fault: str  # of datasets.slides.simulate.slides.DEFECTS
    en: str
    zh: str


POSITIVE = Example(
    "positive.tiff", 2029, "HSIL", "", "a clearly positive slide, with its cells", "明显阳性的切片及其细胞"
)
ABSTAINED = Example(
    "other_stain.tiff",
    2026,
    "NILM",
    "wrong_stain",
    "a slide in an unknown stain, left to a person",
    "未知染色的切片，机器弃权",
)
NEGATIVE = Example("negative.tiff", 2026, "NILM", "", "a slide without abnormal cells", "无异常细胞的切片")
EXAMPLES = (POSITIVE, ABSTAINED, NEGATIVE)


def paint(folder: Path) -> None:
    """Those that are not there yet; each file appears whole."""
    from datasets.slides.simulate.pyramid import write_tiff
    from datasets.slides.simulate.slides import simulate_slide

    for example in EXAMPLES:
        if not (folder / example.file).exists():
            write_tiff(
                folder / example.file, simulate_slide(example.seed, example.label, COLUMNS, ROWS, defect=example.fault)
            )


if __name__ == "__main__":
    paint(Path(sys.argv[1]))

"""A report's PDF with its pictures, which come from the slide's own folder: the stripped copy and heat.npz.

<slide>/slide/<name>   the copy without label and names, the only one that is ever shown
<slide>/heat.npz       probability and attention, each (rows, columns) float32, NaN where no tile was read
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.slides.errors import SlideRefused
from serving.core.http.problems import Problem
from serving.pathology.viewer.deepzoom import DeepZoom

OVERVIEW = 1_100  # pixels of the longer side


def copy_of(folder: Path, name: str = "") -> Path | None:
    """The file to open of a slide's folder, the one called `name` where there are several; None before it was made."""
    found = sorted(path for path in (folder / "slide").glob("*") if path.is_file())
    named = [path for path in found if path.name == name]
    return next(iter(named or found), None)


def heat_of(folder: Path) -> Path | None:
    heat = folder / "heat.npz"
    return heat if heat.is_file() else None


class Drawing:
    """Blocking: its callers are threads."""

    def __init__(self, slides: Path, deepzoom: DeepZoom):
        self.slides, self.deepzoom = slides, deepzoom

    def render(self, body: dict[str, Any]) -> bytes:
        """The PDF of a reading or of a signed body. Raises Problem, so that nothing is signed without its pictures."""
        try:
            from serving.pathology.report import pdf
        except ImportError as error:
            raise Problem("report_unavailable", found="No PDF can be made here", found_zh="此处无法生成 PDF") from error
        folder = self.slides / body["slide_id"]
        path, heat = copy_of(folder), heat_of(folder)
        if path is None:
            found = "The slide's file is not there", "切片文件不存在"
            raise Problem("report_unavailable", found=found[0], found_zh=found[1])
        try:
            overview = self.deepzoom.look(path, None, None, (OVERVIEW, OVERVIEW))
            boxes = [(spot["x"], spot["y"], spot["width"], spot["height"]) for spot in body["evidence"]]
            pictures = [self.deepzoom.look(path, None, box, None) for box in boxes]
            values = None if heat is None else self.deepzoom.heats.get(heat)[0]
        except SlideRefused as error:
            found = f"The slide cannot be shown: {error}", "切片无法显示"
            raise Problem("report_unavailable", found=found[0], found_zh=found[1]) from error
        captions = [pdf.caption(spot, number) for number, spot in enumerate(body["evidence"], 1)]
        return pdf.render(body, overview, values, list(zip(captions, pictures, strict=True)))

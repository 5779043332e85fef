"""Render a report's PDF with images from the slide's folder.

<slide>/slide/         the de-identified copy, the only one that is ever displayed
<slide>/heat.npz       probability and attention, each (rows, columns) float32, NaN where no tile was read
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.slides.errors import SlideError
from serving.core.http.problems import ProblemError
from serving.pathology.slides.storage import deidentified_path
from serving.pathology.viewer.deepzoom import DeepZoom

OVERVIEW_SIDE = 1_100  # pixels of the longer side


def heatmap_file(slide_dir: Path) -> Path | None:
    """The slide's heat.npz; None before the slide has been read."""
    path = slide_dir / "heat.npz"
    return path if path.is_file() else None


class ReportRenderer:
    """Its methods block; call them from a thread."""

    def __init__(self, slides_dir: Path, deepzoom: DeepZoom):
        self.slides_dir, self.deepzoom = slides_dir, deepzoom

    def render(self, body: dict[str, Any]) -> bytes:
        """The PDF of a reading or a signed report.

        Raises ProblemError if an image cannot be made, so that no report is signed without its images.
        """
        try:
            from serving.pathology.report import pdf
        except ImportError as error:
            raise ProblemError(
                "report_unavailable", actual="PDF reports are not installed here", actual_zh="此处未安装 PDF 报告组件"
            ) from error
        slide_dir = self.slides_dir / body["slide_id"]
        path, heatmap = deidentified_path(slide_dir), heatmap_file(slide_dir)
        if path is None:
            reason = "The slide's file is missing", "切片文件缺失"
            raise ProblemError("report_unavailable", actual=reason[0], actual_zh=reason[1])
        try:
            plane = body["slide"].get("plane")
            index = None if plane is None else plane - 1
            overview = self.deepzoom.render_region(path, None, None, (OVERVIEW_SIDE, OVERVIEW_SIDE), index)
            boxes = [(tile["x"], tile["y"], tile["width"], tile["height"]) for tile in body["evidence"]]
            tile_images = [self.deepzoom.render_region(path, None, box, None, index) for box in boxes]
            probabilities = None if heatmap is None else self.deepzoom.heatmap_cache.get(heatmap)[0]
        except SlideError as error:
            reason = f"The slide cannot be displayed: {error}", "切片无法显示"
            raise ProblemError("report_unavailable", actual=reason[0], actual_zh=reason[1]) from error
        captions = [pdf.caption(tile, number) for number, tile in enumerate(body["evidence"], 1)]
        return pdf.render(body, overview, probabilities, list(zip(captions, tile_images, strict=True)))

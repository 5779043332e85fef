"""What a reader says of a slide beside its pixels."""

from __future__ import annotations

from dataclasses import dataclass

from datasets.slides.byte_source import Size
from datasets.slides.scale import ScaleStatement

WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Level:
    width: int
    height: int
    downsample: float  # level-0 pixels per pixel of this level


@dataclass(frozen=True, slots=True)
class SlideMetadata:
    """The metadata of a slide.

    mpp:      microns per pixel of level 0 (x, y), or None.
    mpp_from: "file", "operator" if a person gave it, or "" if it is not known.
    stated:   mpp as the file states it; None also if its statements differ.
    scales:   all statements of the file.
    icc:      whether the file has a colour profile, which is not applied.
    planes:   focal planes of the finest level, counted from the slide upwards.
    plane_spacing: microns between them, or None.
    """

    format: str
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None = None
    mpp_from: str = ""
    stated: tuple[float, float] | None = None
    scales: tuple[ScaleStatement, ...] = ()
    background: tuple[int, int, int] = WHITE
    icc: bool = False
    notes: tuple[str, ...] = ()
    planes: int = 1
    plane_spacing: float | None = None

    @property
    def size(self) -> Size:
        return self.levels[0].width, self.levels[0].height

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is not coarser than `downsample`, with half a percent of tolerance for rounding."""
        fine_enough = [index for index, level in enumerate(self.levels) if level.downsample <= downsample * 1.005]
        return fine_enough[-1] if fine_enough else 0

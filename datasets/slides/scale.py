"""Compare everything that a slide's file states about its scale, in microns per pixel.

resolve_scale([ScaleStatement("Aperio MPP", 0.25, 0.25), ScaleStatement("XResolution", 0.5, 0.5)])   # None: they differ
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from datasets.slides.errors import SlideIssue, slide_issue
from datasets.slides.limits import SlideLimits

TOLERANCE = 1.02  # statements of one scale differ by rounding, and by the calibration of a scanner
MAGNIFICATION_TOLERANCE = 1.5  # scanners of one magnification differ by a third; a lens taken for another is twice off
MICRONS_PER_PIXEL_AT_1X = 10.0
MICRONS_PER_INCH, MICRONS_PER_CENTIMETRE = 25_400.0, 10_000.0
# Written by programs and office scanners, whatever the picture shows. Rounded per centimetre, some are 0.4 % off.
DEFAULT_DPI = (72, 96, 150, 300, 600, 1_200, 2_400)
DPI_TOLERANCE = 0.005


@dataclass(frozen=True, slots=True)
class ScaleStatement:
    """What one field of the file states, in microns per pixel of the finest level.

    is_magnification: computed from a nominal magnification, which may contradict a scale and is never one.
    """

    source: str
    x: float
    y: float
    is_magnification: bool = False

    def __str__(self) -> str:
        value = f"{self.x:.4g}" if self.y == self.x else f"{self.x:.4g} x {self.y:.4g}"
        return f"{value} ({self.source})"


def plausible_scale(x: float, y: float, limits: SlideLimits) -> tuple[float, float] | None:
    """A stated scale rounded to a millionth of a micron; None if no scanner has such a scale."""
    is_plausible = all(math.isfinite(value) and limits.finest_mpp <= value <= limits.coarsest_mpp for value in (x, y))
    return (round(float(x), 6), round(float(y), 6)) if is_plausible else None


def state_scale(source: str, x: float | None, y: float | None, limits: SlideLimits) -> list[ScaleStatement]:
    """The statement of a field, if it has a plausible value; y: None if the field is for both axes."""
    scale = None if x is None else plausible_scale(x, x if y is None else y, limits)
    return [] if scale is None else [ScaleStatement(source, *scale)]


def state_magnification(source: str, magnification: float | None) -> list[ScaleStatement]:
    if magnification is None or not 1 <= magnification <= 200:
        return []
    mpp = MICRONS_PER_PIXEL_AT_1X / magnification
    return [ScaleStatement(source, mpp, mpp, is_magnification=True)]


def state_resolution(source: str, x: float, y: float, unit_microns: float, limits: SlideLimits) -> list[ScaleStatement]:
    """The statement of pixels per unit; none if it is a resolution that programs write by default."""
    if not (x > 0 and y > 0) or is_default_resolution(x, unit_microns) or is_default_resolution(y, unit_microns):
        return []
    return state_scale(source, unit_microns / x, unit_microns / y, limits)


def is_default_resolution(pixels_per_unit: float, unit_microns: float) -> bool:
    dpi = pixels_per_unit * MICRONS_PER_INCH / unit_microns
    return any(abs(dpi - default) <= DPI_TOLERANCE * default for default in DEFAULT_DPI)


def parse_decimal(text: str) -> float | None:
    """A number with a decimal point or, as programs write it under some locales, a decimal comma."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def resolve_scale(statements: Sequence[ScaleStatement]) -> tuple[float, float] | None:
    """The scale of the first statement; None if there is none, or if two differ."""
    scales = [statement for statement in statements if not statement.is_magnification]
    return None if not scales or conflicting_statements(statements) else (scales[0].x, scales[0].y)


def conflicting_statements(statements: Iterable[ScaleStatement]) -> tuple[ScaleStatement, ...]:
    """The statements that contradict another one, in their order."""
    statements = tuple(statements)
    return tuple(each for each in statements if any(_differ(each, other) for other in statements))


def _differ(first: ScaleStatement, second: ScaleStatement) -> bool:
    if first.is_magnification and second.is_magnification:
        return False
    tolerance = MAGNIFICATION_TOLERANCE if first.is_magnification or second.is_magnification else TOLERANCE
    ratios = first.x / second.x, first.y / second.y
    return any(max(ratio, 1 / ratio) > tolerance + 1e-9 for ratio in ratios)


def confirmation_conflict(
    statements: Sequence[ScaleStatement], operator: ScaleStatement | None
) -> tuple[ScaleStatement, ...]:
    """The statements between which a person is to decide. operator: the scale that came with the slide, which decides
    between the file's statements if it is one of them, and is doubtful if it is none.
    """
    if operator is None:
        return conflicting_statements(statements)
    if any(not each.is_magnification and not _differ(each, operator) for each in statements):
        return ()
    contradicting = [each for each in statements if _differ(each, operator)]
    return (operator, *contradicting) if contradicting else ()


def scale_issue(statements: Sequence[ScaleStatement]) -> SlideIssue:
    """Why a slide has no scale: nothing states it, or the statements differ."""
    conflict = conflicting_statements(statements)
    if not conflict:
        return slide_issue("no_scale")
    actual = "; ".join(dict.fromkeys(str(statement) for statement in conflict))
    return slide_issue("scale_conflict", actual=actual, expected=f"{TOLERANCE - 1:.0%}")

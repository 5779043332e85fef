"""Write the descriptions of Aperio, Trestle, generic and flat TIFF anew: numbers of known keys, and nothing else."""

from __future__ import annotations

import re

from datasets.slides.deidentification.tiff.plan import (
    SIMULATED,
    Original,
    PlannedImage,
    bounded_number,
    text_value,
)
from datasets.slides.deidentification.tiff.tags import Tags
from datasets.slides.deidentification.tiff.vendor_xml import ome_description
from datasets.slides.formats import tiff
from datasets.slides.formats.tiff_directories import DESCRIPTION, SOFTWARE, TILE_HEIGHT, TILE_WIDTH, TiffDirectory

APERIO_HEAD = re.compile(r"Aperio (Image Library|Leica Biosystems GT450(?: ?DX)?)(?: v\d{1,3}(?:\.\d{1,3}){0,3})?")
MAX_POWER = 200
TRESTLE = "MedScan"
OVERLAPS = re.compile(r"OverlapsXY=\s*((?:\d{1,4} ?){2,64})")
BACKGROUND = re.compile(r"Background Color=([0-9A-Fa-f]{6})")


def plan_pyramid(original: Original) -> list[PlannedImage]:
    """Generic tiled and flat TIFF, whose description no reader needs, and OME-TIFF."""
    stack = tiff.focal_stack("generic-tiff", list(original.directories))
    if len(stack.planes) > 1:
        return _plan_stack(original, stack)
    images = stack.planes[0]
    description = ome_description(original, images[0]) or (SIMULATED if original.is_simulated() else "")
    words: Tags = {DESCRIPTION: text_value(description)} if description else {}
    return [
        PlannedImage(image, original.image_tags(image, is_reduced=index > 0) | (words if not index else {}))
        for index, image in enumerate(images)
    ]


def _plan_stack(original: Original, stack: tiff.FocalStack) -> list[PlannedImage]:
    """The levels of each plane after one another, each marked with its height, or with its number where it has none."""
    simulated = f"{SIMULATED}|" if original.is_simulated() else ""
    planned = []
    for plane, levels in enumerate(stack.planes):
        height = f"{plane}" if stack.spacing is None else f"{plane * stack.spacing:.6g} um"
        words: Tags = {DESCRIPTION: text_value(f"{simulated}z={height}")}
        planned += [
            PlannedImage(level, original.image_tags(level, is_reduced=index > 0) | words)
            for index, level in enumerate(levels)
        ]
    return planned


def plan_aperio(original: Original) -> list[PlannedImage]:
    simulated = f"|Mode = {SIMULATED}" if original.is_simulated() else ""
    images = tiff.slide_images("aperio", list(original.directories))
    return [
        PlannedImage(
            image,
            original.image_tags(image)
            | {DESCRIPTION: text_value(_aperio_description(original, image, not index) + simulated)},
        )
        for index, image in enumerate(images)
    ]


def _aperio_description(original: Original, image: TiffDirectory, is_first: bool) -> str:
    text = original.text(image, DESCRIPTION)
    match = APERIO_HEAD.match(text)
    width, height = image.size
    tile = f"({image.get_int(TILE_WIDTH, 0)}x{image.get_int(TILE_HEIGHT, 0)})"
    head = f"{match[0] if match else 'Aperio Image Library'}\r\n{width}x{height} {tile}"
    bounds = {"AppMag": (0.1, MAX_POWER), "MPP": (original.limits.finest_mpp, original.limits.coarsest_mpp)}
    facts: list[str] = []
    for key, _, value in (pair.partition("=") for pair in text.split("|")[1:] if is_first):
        number = bounded_number(value, *bounds[key.strip()]) if key.strip() in bounds else None
        facts += [] if number is None else [f"{key.strip()} = {number}"]  # of two that differ, both
    return "|".join([head, *dict.fromkeys(facts)])


def plan_trestle(original: Original) -> list[PlannedImage]:
    first = original.directories[0]
    facts = []
    for pair in original.text(first, DESCRIPTION).split(";"):
        key, _, value = pair.partition("=")
        power = bounded_number(value, 0.1, MAX_POWER) if key.strip() == "Objective Power" else None
        if power is not None:
            facts.append(f"Objective Power={power}")
        elif match := BACKGROUND.fullmatch(pair.strip()):
            facts.append(f"Background Color={match[1]}")
        elif match := OVERLAPS.fullmatch(pair.strip()):
            facts.append("OverlapsXY= " + " ".join(match[1].split()))
    simulated = [f"Mode={SIMULATED}"] if original.is_simulated() else []
    words: Tags = {DESCRIPTION: text_value(";".join([*facts, *simulated])), SOFTWARE: text_value(TRESTLE)}
    return [
        PlannedImage(
            image,
            original.image_tags(image, is_reduced=index > 0, is_micron_scale=True) | (words if not index else {}),
        )
        for index, image in enumerate(tiff.slide_images("trestle", list(original.directories)))
    ]

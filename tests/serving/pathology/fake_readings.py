"""A reading as the worker stores it, the reports signed on it, and images to go with them."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
from PIL import Image

from tests.paths import ROOT

CMU = ROOT / "datasets" / "samples" / "CMU-1-Small-Region.svs"
SLIDE_ID = "019a1b2c3d4e5f60718293a4b5c6d7e8"


def _share(code: str, en: str, zh: str, probability: float) -> dict[str, Any]:
    return {"code": code, "tbs": code, "en": en, "zh": zh, "probability": probability}


READING: dict[str, Any] = {
    "slide_id": SLIDE_ID,
    "accession": "C2026-004217",
    "specimen": "cervical_cytology",
    "triage": "positive",
    "abstained": [],
    "probability": 0.934,
    "threshold": 0.082,
    "classes": [
        _share("NILM", "Negative for intraepithelial lesion or malignancy", "未见上皮内病变或恶性病变", 0.066),
        _share("LSIL", "Low-grade squamous intraepithelial lesion", "低级别鳞状上皮内病变", 0.158),
        _share("HSIL", "High-grade squamous intraepithelial lesion", "高级别鳞状上皮内病变", 0.731),
        _share("SCC", "Squamous cell carcinoma", "鳞状细胞癌", 0.045),
    ],
    "claim": {
        "en": "Sensitivity is at least 0.951 with 95 % confidence (0 of 60 positive patients missed).",
        "zh": "灵敏度不低于0.951（95%置信；60例阳性患者中漏检0例）。",
    },
    "adequacy": {
        "adequate": True,
        "tiles": 274,
        "needed": 30,
        "en": "Satisfactory for evaluation.",
        "zh": "标本满意。",
    },
    "tiles": {"grid": 311, "read": 311, "unfit": {"blank": 21, "focus": 16}, "unknown": 9},
    "grid": {"columns": 18, "rows": 24, "extent": [128.256, 128.256], "tile": 128, "mpp": 0.5},
    "evidence": [
        {
            "x": round(column * 128.256),
            "y": round(row * 128.256),
            "width": 128,
            "height": 128,
            "code": code,
            "probability": probability,
            "attention": attention,
        }
        for column, row, code, probability, attention in (
            (8, 6, "HSIL", 0.987, 0.081),
            (7, 10, "HSIL", 0.974, 0.066),
            (9, 14, "SCC", 0.961, 0.058),
            (5, 12, "HSIL", 0.923, 0.047),
            (9, 18, "LSIL", 0.871, 0.033),
            (7, 19, "LSIL", 0.802, 0.021),
        )
    ],
    "patient": {
        "points": 75,
        "level": "urgent",
        "reasons": [
            {"code": "hpv_16", "points": 35, "en": "HPV 16 was found", "zh": "HPV 16 阳性"},
            {
                "code": "previous_high",
                "points": 40,
                "en": "The previous result was ASC-H, HSIL, AGC or carcinoma",
                "zh": "既往结果为 ASC-H、HSIL、AGC 或癌",
            },
        ],
        "unknown": ["menopause", "context"],
    },
    "priority": 100,
    "slide": {
        "sha256": "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7",
        "format": "aperio",
        "width": 2220,
        "height": 2967,
        "mpp": [0.499, 0.499],
        "mpp_from": "file",
        "notes": [],
    },
    "model": {"name": "pathology", "version": "2026.11.25-1", "bundle": "5f" * 32},
    "policy_version": "pathology-2026-11",
    "config_sha256": "c0" * 32,
    "simulated": True,
    "created": "2026-11-25T08:30:12Z",
}

SIGNED: dict[str, Any] = {
    **copy.deepcopy(READING),
    "findings": "Clusters of small squamous cells with high nuclear-to-cytoplasmic ratio and coarse chromatin.\n"
    "成团小型鳞状细胞，核质比增高，染色质粗。",
    "diagnosis": "HSIL",
    "signed_by": {"name": "王 敏", "licence": "110330200012345"},
    "signed_at": "2026-11-25T09:02:41Z",
    "version": 1,
    "amends": None,
}
AMENDED: dict[str, Any] = {
    **copy.deepcopy(SIGNED),
    "diagnosis": "ASC-H",
    "version": 2,
    "amends": 1,
    "reason": "Second look at conference: too few cells for HSIL. 会诊复核：细胞数不足以诊断 HSIL。",
    "signed_at": "2026-11-26T01:12:00Z",
}
ABSTAINED: dict[str, Any] = {
    **copy.deepcopy(READING),
    "triage": "abstained",
    "abstained": [
        {
            "code": "out_of_distribution",
            "en": "62% of the tiles are unlike anything the model learned from; at most 30% are taken. Another organ, "
            "stain or preparation looks so.",
            "zh": "62%的图块与训练数据不符，上限30%；可能是其他器官、染色或制片方式。",
        }
    ],
    "probability": None,
    "classes": [],
    "evidence": [],
    "adequacy": {
        **READING["adequacy"],
        "adequate": None,
        "en": "Adequacy is not assessed.",
        "zh": "未评估标本满意度。",
    },
    "patient": None,
    "simulated": False,
}


def heatmap() -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) probability and attention of the example; NaN where no tile was read."""
    grid = READING["grid"]
    rows, columns = np.mgrid[: grid["rows"], : grid["columns"]]
    probability = np.full((grid["rows"], grid["columns"]), 0.02, np.float32)
    attention = np.full_like(probability, 0.001)
    for tile in READING["evidence"]:
        column, row = (round(tile[axis] / 128.256) for axis in "xy")
        near = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 3)
        probability = np.maximum(probability, tile["probability"] * near).astype(np.float32)
        attention[row, column] = tile["attention"]
    unread = (rows < 2) | (columns > 15) | (rows > 21)
    probability[unread] = attention[unread] = np.nan
    return probability, attention


def overview(side: int = 900) -> bytes:
    """PNG of a real slide whose longer side has `side` pixels."""
    from datasets.slides.reader import open_slide, read_scaled

    with open_slide(CMU) as slide:
        width, height = slide.metadata.size
        size = round(width * side / height), side
        return png(read_scaled(slide, 0, 0, (width, height), size))


def tiles(evidence: list[dict[str, Any]]) -> list[bytes]:
    from datasets.slides.reader import open_slide

    with open_slide(CMU) as slide:
        return [png(slide.read(tile["x"], tile["y"], (tile["width"], tile["height"]))) for tile in evidence]


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()

"""Formats that are known by their first bytes and not read: each is refused by its name, with what to do instead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from datasets.slides.errors import SlideIssue, slide_issue

TO_DICOM = "Export the slide from {} as DICOM or OME-TIFF.", "请在 {} 中将切片导出为 DICOM 或 OME-TIFF。"
TO_SVS = (
    "Export the slide from {} as SVS, DICOM or pyramidal TIFF.",
    "请在 {} 中将切片导出为 SVS、DICOM 或金字塔 TIFF。",
)
TO_PICTURE = (
    "Save the picture as PNG or TIFF; send a slide as its scanner wrote it.",
    "请将图像另存为 PNG 或 TIFF；切片请按扫描仪生成的文件上传。",
)
HEIF_BRANDS = (b"heic", b"heix", b"mif1", b"avif")
PACK_AS_ZIP = "Pack the slide's files as a plain ZIP.", "请将切片文件打包为普通 ZIP。"


class UnreadFormat(NamedTuple):
    """signatures: (offset, bytes) of which one is in the file. advice: what to do, in English and in Chinese."""

    name: str
    signatures: tuple[tuple[int, bytes], ...]
    advice: tuple[str, str]
    chinese_name: str = ""  # where it differs


def _advice(texts: tuple[str, str], program: str, program_zh: str = "") -> tuple[str, str]:
    return texts[0].format(program), texts[1].format(program_zh or program)


OLYMPUS = _advice(TO_DICOM, "OlyVIA or cellSens", "OlyVIA 或 cellSens")
UNREAD_FORMATS = (
    UnreadFormat("Zeiss CZI", ((0, b"ZISRAWFILE"),), _advice(TO_DICOM, "ZEN")),
    UnreadFormat(
        "a compound document, as Zeiss ZVI and Motic MDS are",
        ((0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),),
        _advice(TO_SVS, "the scanner's program", "扫描仪软件"),
        "复合文档（如蔡司 ZVI、麦克奥迪 MDS）",
    ),
    UnreadFormat("Philips iSyntax", ((0, b"<DataObject"),), _advice(TO_DICOM, "IntelliSite", "飞利浦 IntelliSite")),
    UnreadFormat(
        "Hamamatsu VMS or VMU, whose pictures are in other files",
        ((0, b"[Virtual Microscope Specimen]"), (0, b"[Uncompressed Virtual Microscope Specimen]")),
        ("Export the slide from NDP.scan as NDPI.", "请在 NDP.scan 中将切片导出为 NDPI。"),
        "滨松 VMS 或 VMU（图像在其他文件中）",
    ),
    UnreadFormat("Sakura SVSLIDE", ((0, b"SQLite format 3\0"),), _advice(TO_SVS, "VisionTek")),
    UnreadFormat("Olympus ETS", ((0, b"SIS\0"),), OLYMPUS),
    UnreadFormat("Sqray SDPC", ((0, b"SQ"),), _advice(TO_SVS, "the scanner's program", "扫描仪软件")),
    UnreadFormat("UNIC TMAP", ((0, b"TMAP"),), _advice(TO_SVS, "the scanner's program", "扫描仪软件")),
    UnreadFormat("Leica LIF", ((0, b"\x70\0\0\0"),), _advice(TO_DICOM, "LAS X")),
    UnreadFormat("Nikon ND2", ((0, b"\xda\xce\xbe\x0a"),), _advice(TO_DICOM, "NIS-Elements")),
    UnreadFormat(
        "HDF5, as Imaris IMS is",
        ((0, b"\x89HDF\r\n\x1a\n"),),
        _advice(TO_DICOM, "its program", "其软件"),
        "HDF5（如 Imaris IMS）",
    ),
    UnreadFormat(
        "a DICOM data set without its file header",
        tuple((0, group + b"\0\0\0UL") for group in (b"\x02\0", b"\x08\0")),
        (
            "Save the series as DICOM files (PS3.10), with a preamble and group 0002.",
            "请将序列保存为 DICOM 文件（PS3.10），含前导与 0002 组。",
        ),
        "缺少文件头的 DICOM 数据集",
    ),
    UnreadFormat("JPEG 2000", ((4, b"jP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51")), TO_PICTURE),
    UnreadFormat("JPEG XL", ((4, b"JXL \r\n\x87\n"), (0, b"\xff\x0a")), TO_PICTURE),
    UnreadFormat("JPEG XR", ((0, b"II\xbc"),), TO_PICTURE),
    UnreadFormat("WebP", ((8, b"WEBP"),), TO_PICTURE),
    UnreadFormat("HEIF or AVIF", tuple((4, b"ftyp" + brand) for brand in HEIF_BRANDS), TO_PICTURE, "HEIF 或 AVIF"),
    UnreadFormat("GIF", ((0, b"GIF8"),), TO_PICTURE),
    UnreadFormat("BMP", ((0, b"BM"),), TO_PICTURE),
    UnreadFormat("PDF", ((0, b"%PDF-"),), TO_PICTURE),
    UnreadFormat(
        "an archive that is no ZIP",
        ((0, b"Rar!"), (0, b"7z\xbc\xaf\x27\x1c"), (0, b"\x1f\x8b"), (257, b"ustar"), (0, b"\x28\xb5\x2f\xfd")),
        PACK_AS_ZIP,
        "ZIP 以外的压缩包",
    ),
)
VSI_SUFFIX = ".vsi"  # a TIFF of label and overview; the slide is in ETS files of another folder
VSI = UnreadFormat("Olympus VSI, which holds the label and an overview", (), OLYMPUS, "奥林巴斯 VSI（只含标签与概览）")
HEAD_BYTES = max(offset + len(mark) for each in UNREAD_FORMATS for offset, mark in each.signatures)


def find_unread(head: bytes) -> UnreadFormat | None:
    """The format whose files begin like this, if it is one of these."""
    text_head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text_head.startswith(b"<?xml"):
        text_head = text_head.partition(b"?>")[2].lstrip()
    for each in UNREAD_FORMATS:
        if _matches(head, each.signatures) or _matches(text_head, each.signatures):
            return each
    return None


def unread_issue(unread: UnreadFormat) -> SlideIssue:
    names = {"actual": unread.name, "actual_zh": unread.chinese_name or unread.name}
    return slide_issue("other_format", **names, advice=unread.advice[0], advice_zh=unread.advice[1])


def _matches(head: bytes, signatures: Iterable[tuple[int, bytes]]) -> bool:
    return any(head[offset : offset + len(mark)] == mark for offset, mark in signatures)

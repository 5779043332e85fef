"""docs/reference/slide-formats.md and its Chinese: which slides are read, how their copies are proved, what is refused.

What the code states (readers, codecs, limits, reasons) is taken from it. NOTES and EVIDENCE are written here; tests run
every file of EVIDENCE.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from datasets.slides.deidentification.deidentify import CONTAINERS
from datasets.slides.deidentification.proof.prove import OWN_READER
from datasets.slides.deidentification.proof.readers import READERS, TIFF_READERS
from datasets.slides.errors import ISSUE_TEMPLATES
from datasets.slides.formats import unread
from datasets.slides.formats.dicom import tags
from datasets.slides.formats.dicom.instance import name_syntax
from datasets.slides.formats.tiff_check import COMPRESSION_NAMES, PLAIN_FORMATS, READ_CODECS, READ_CODECS_ZH
from datasets.slides.limits import SLIDE_LIMITS
from datasets.slides.static_check import SUFFIXES
from docs.generate.markdown import code, page, table

REAL, SIMULATED = "real", "simulated"
DECODERS = {
    **dict.fromkeys(PLAIN_FORMATS, "tifffile, imagecodecs"),
    **{"dicom": "imagecodecs", "kfb": "kfbslide", "png": "Pillow", "jpeg": "Pillow"},
}
DECODER_OF_OTHERS = "OpenSlide"


class FormatNote(NamedTuple):
    """key: the format as the static check states it. suffixes: where they are fewer than the check accepts."""

    key: str
    note: str
    chinese_note: str
    suffixes: tuple[str, ...] = ()


NOTES = {
    "Aperio SVS": FormatNote(
        "aperio",
        "Tiles of JPEG or JPEG 2000; label, macro and thumbnail are left out.",
        "图块为 JPEG 或 JPEG 2000；不含标签图、宏观图与缩略图。",
    ),
    "Hamamatsu NDPI": FormatNote(
        "ndpi",
        "JPEG; files of more than 4 GiB too; focal planes. The macro image and the map of the scan are left out.",
        "JPEG；支持超过 4 GiB 的文件；可有多个焦平面。不含宏观图与扫描地图。",
    ),
    "3DHISTECH MRXS": FormatNote(
        "mirax",
        "The `.mrxs` and its folder, as a ZIP or a group. Bright field of JPEG, PNG or BMP tiles.",
        "`.mrxs` 文件与其文件夹，以 ZIP 或成组上传。明场，图块为 JPEG、PNG 或 BMP。",
    ),
    "Leica SCN": FormatNote(
        "leica",
        "Bright field; several regions keep their places. Lengths that do not fit glass and pixels are refused.",
        "明场；多个区域保持其位置。与载玻片或像素不符的长度予以拒绝。",
    ),
    "Ventana BIF": FormatNote(
        "ventana",
        "Areas of interest with the overlaps of their tiles.",
        "扫描区域及其图块的重叠量。",
    ),
    "Philips TIFF": FormatNote(
        "philips",
        "TIFF as IntelliSite exports it. The XML needs as many levels as the file has; iSyntax is refused.",
        "IntelliSite 导出的 TIFF。XML 中的层级数须与文件一致；iSyntax 予以拒绝。",
    ),
    "OME-TIFF": FormatNote(
        "generic-tiff",
        "Levels in SubIFDs or in line; focal planes (`SizeZ`); one time point. Size, channels, planes and scale of the "
        "OME-XML are kept.",
        "层级在 SubIFD 中或依次排列；支持多焦平面（`SizeZ`）；单一时间点。保留 OME-XML 的尺寸、通道、焦平面与比例。",
        (".ome.tif", ".ome.tiff"),
    ),
    "Trestle TIFF": FormatNote(
        "trestle",
        "Overlaps and background colour are kept.",
        "保留重叠量与背景色。",
    ),
    "DICOM": FormatNote(
        "dicom",
        "VOLUME instances of one series: levels, concatenations, focal planes in one or in separate instances, "
        "TILED_FULL or TILED_SPARSE. Of several optical paths the only one in bright field. Frames off the grid and "
        "several fragments a frame are refused.",
        "同一序列的 VOLUME 实例：各级、拼接图像、同一或不同实例中的焦平面，TILED_FULL 或 TILED_SPARSE。"
        "有多条光路时取唯一的明场光路。不在网格上的帧与每帧多个片段予以拒绝。",
        (".dcm",),
    ),
    "Tiled TIFF": FormatNote(
        "generic-tiff",
        "Grey, palette, RGB, YCbCr or CMYK of 8 or 16 bits. Levels with or without marks, in SubIFDs too; focal planes "
        "that ImageJ lists or descriptions mark.",
        "8 或 16 位灰度、调色板、RGB、YCbCr 或 CMYK。层级可有或无标记，亦可在 SubIFD 中；"
        "支持 ImageJ 列出或描述中标明的焦平面。",
    ),
    "Flat TIFF": FormatNote(
        "tiff",
        f"In strips, up to {SLIDE_LIMITS.flat_pixels // 10**6} million pixels; the largest picture of the file.",
        f"按条带存储，至多 {SLIDE_LIMITS.flat_pixels:,} 像素；取文件中最大的图像。",
    ),
    "KFB": FormatNote(
        "kfb",
        "The format has no specification: fields that kfbslide knows are copied, all others are zero.",
        "该格式无公开规范：只复制 kfbslide 已知的字段，其余置零。",
    ),
    "PNG": FormatNote(
        "png",
        f"Up to {SLIDE_LIMITS.flat_pixels // 10**6} million pixels; the scale by pHYs, EXIF or the form.",
        f"至多 {SLIDE_LIMITS.flat_pixels:,} 像素；比例取自 pHYs 或 EXIF，或随申请单填写。",
    ),
    "JPEG": FormatNote(
        "jpeg",
        f"Up to {SLIDE_LIMITS.flat_pixels // 10**6} million pixels of 8 bits; the scale by JFIF, EXIF or the form.",
        f"至多 {SLIDE_LIMITS.flat_pixels:,} 像素，8 位；比例取自 JFIF 或 EXIF，或随申请单填写。",
    ),
}

# format -> files below YUHENG_DATA/pathology, or slides that the tests write: (real or simulated, name)
EVIDENCE: dict[str, tuple[tuple[str, str], ...]] = {
    "Aperio SVS": ((REAL, "slides/CMU-1-Small-Region.svs"), (REAL, "slides/TCGA-CR-7395-01A-01-TS1.svs")),
    "Hamamatsu NDPI": ((SIMULATED, "slides_simulated_vendor/simulated_hamamatsu.ndpi"),),
    "3DHISTECH MRXS": ((SIMULATED, "slides_simulated_vendor/simulated_mirax.mrxs"),),
    "Leica SCN": ((SIMULATED, "slides_simulated_vendor/simulated_leica.scn"),),
    "Ventana BIF": ((SIMULATED, "slides_simulated_vendor/simulated_ventana.bif"),),
    "Philips TIFF": ((SIMULATED, "slides_simulated_vendor/simulated_philips.tiff"),),
    "OME-TIFF": ((SIMULATED, "ome-tiff"),),
    "Trestle TIFF": ((SIMULATED, "trestle"),),
    "DICOM": ((REAL, "slides/ez-wsi-multiframe_camelyon_challenge_image.dcm"), (SIMULATED, "dicom")),
    "Tiled TIFF": ((SIMULATED, "slides/openslide-boxes.tiff"), (SIMULATED, "generic-tiff")),
    "Flat TIFF": ((REAL, "slides/kidney-48-5.tif"),),
    "KFB": ((SIMULATED, "kfb"),),
    "PNG": ((REAL, "cric_cells/images/LSIL/3896.png"),),
    "JPEG": ((REAL, "cric_cells/fields/9b77f6a1b82859bc68b26fae965564fa.jpg"),),
}

LIMITS = {  # field of SlideLimits: English, Chinese
    "file_bytes": ("bytes of a file", "单个文件字节数"),
    "side": ("pixels of a side", "单边像素数"),
    "pixels": ("pixels of a level", "单级像素数"),
    "flat_pixels": ("pixels of an image without tiles", "无图块图像的像素数"),
    "tile_pixels": ("pixels of a tile", "单个图块像素数"),
    "tile_bytes": ("bytes of a stored tile", "单个已存储图块字节数"),
    "tiles": ("tiles of a level", "单级图块数"),
    "ratio": ("decoded over stored bytes", "解码与存储字节数之比"),
    "directories": ("images of a TIFF", "TIFF 图像数"),
    "files": ("files of a slide", "单张切片文件数"),
    "finest_mpp": ("finest scale, microns a pixel", "最细比例（微米每像素）"),
    "coarsest_mpp": ("coarsest scale, microns a pixel", "最粗比例（微米每像素）"),
}

Words = dict[str, Any]  # of one language: headings and columns
ENGLISH: Words = {
    "title": "Slide formats",
    "introduction": "A format is recognised by its content, not by its name. Each slide is copied before it is read. "
    "The copy is written anew from a closed list, and proved by readers that did not write it and by our own parser "
    f"({OWN_READER}); [Clinic and pathologist](../guides/pathology.md#formats) describes the proof. *Simulated* files "
    "were written by hand or by a program around real or painted pixels, and not by a scanner: they show that the "
    "layout is read, not that the files of every scanner are.",
    "formats": "Formats that are read",
    "columns": ("format", "file names", "decoded by", "stripped", "proved by", "tested on", "what is read, and limits"),
    "yes": "yes",
    "own": "own parser",
    "written": "written by the tests",
    "read_codecs": READ_CODECS,
    "codecs": "Compressions",
    "codec_columns": ("container", "read", "refused by name"),
    "others": "every other transfer syntax",
    "limits": "Limits",
    "limit_columns": ("what", "limit"),
    "limit_note": "A file beyond them is refused; `datasets/slides/limits.py` has the reasons.",
    "refused": "Formats that are refused by name",
    "refused_columns": ("format", "what to do"),
    "reasons": "Reasons for a refusal",
    "reason_columns": ("code", "reason", "what to do"),
}
CHINESE: Words = {
    "title": "切片格式",
    "introduction": "格式由文件内容识别，与文件名无关。每张切片在判读前先复制：副本按封闭清单重新写出，"
    f"并由未参与写出的读取程序和自有解析程序（{OWN_READER}）予以证明，"
    "证明方式见[医疗机构与病理医师](../guides/pathology.md)。*模拟*文件由手工或程序写成，内含真实或绘制的像素，并非扫描仪生成："
    "只说明该布局可读，不说明所有扫描仪的文件均可读。",
    "formats": "可读格式",
    "columns": ("格式", "文件名", "解码程序", "去标识", "证明所用读取程序", "测试依据", "读取内容与限制"),
    "yes": "是",
    "own": "自有解析程序",
    "written": "由测试写出",
    "read_codecs": READ_CODECS_ZH,
    "codecs": "压缩方式",
    "codec_columns": ("容器", "可读", "按名称拒绝"),
    "others": "其他传输语法",
    "limits": "限制",
    "limit_columns": ("项目", "上限或范围"),
    "limit_note": "超出限制的文件予以拒绝；理由见 `datasets/slides/limits.py`。",
    "refused": "按名称拒绝的格式",
    "refused_columns": ("格式", "处理办法"),
    "reasons": "拒绝原因",
    "reason_columns": ("代码", "原因", "处理办法"),
}
CHINESE_NAMES = {"Philips TIFF": "飞利浦 TIFF", "Tiled TIFF": "分块 TIFF", "Flat TIFF": "普通 TIFF"}
KINDS = {"en": {REAL: "real", SIMULATED: "*simulated*"}, "zh": {REAL: "真实", SIMULATED: "*模拟*"}}


def build_page(language: str = "en") -> str:
    words = CHINESE if language == "zh" else ENGLISH
    sections = (
        ("formats", _formats_table(language, words)),
        ("codecs", _codecs_table(words)),
        ("limits", f"{words['limit_note']}\n\n{_limits_table(language, words)}"),
        ("refused", _refused_table(language, words)),
        ("reasons", _reasons_table(language, words)),
    )
    return page(
        words["title"],
        words["introduction"],
        *(f"## {words[name]}\n\n{section}" for name, section in sections),
    )


def proving_readers(key: str) -> list[str]:
    """The names of the readers that prove a copy of this format, without our own."""
    return list(READERS.get(key, TIFF_READERS))


def _formats_table(language: str, words: Words) -> str:
    rows = []
    for name, note in NOTES.items():
        suffixes = note.suffixes or sorted(SUFFIXES.get(note.key, {".tif", ".tiff"}))
        evidence = (
            f"{KINDS[language][kind]}: {code(file) if '/' in file else words['written']}"
            for kind, file in EVIDENCE[name]
        )
        rows.append(
            (
                CHINESE_NAMES.get(name, name) if language == "zh" else name,
                ", ".join(code(suffix) for suffix in suffixes if suffix),
                DECODERS.get(note.key, DECODER_OF_OTHERS),
                words["yes"] if note.key in CONTAINERS else "",
                ", ".join([*proving_readers(note.key), words["own"]]),
                "; ".join(evidence),
                note.chinese_note if language == "zh" else note.note,
            )
        )
    return table(words["columns"], rows)


def _codecs_table(words: Words) -> str:
    syntaxes = [name_syntax(syntax) for syntax in sorted(tags.READ_SYNTAXES)]
    rows = [
        ("TIFF", words["read_codecs"], ", ".join(sorted({*COMPRESSION_NAMES.values(), "JP2"}))),
        ("DICOM", "; ".join(syntaxes), words["others"]),
    ]
    return table(words["codec_columns"], rows)


def _limits_table(language: str, words: Words) -> str:
    rows = [(names[language == "zh"], f"{getattr(SLIDE_LIMITS, field):,}") for field, names in LIMITS.items()]
    return table(words["limit_columns"], rows)


def _refused_table(language: str, words: Words) -> str:
    rows = [
        (each.chinese_name or each.name, each.advice[1]) if language == "zh" else (each.name, each.advice[0])
        for each in (*unread.UNREAD_FORMATS, unread.VSI)
    ]
    return table(words["refused_columns"], rows)


def _reasons_table(language: str, words: Words) -> str:
    rows = []
    for name, (english, chinese, actions) in ISSUE_TEMPLATES.items():
        reason, action = (chinese, actions[1]) if language == "zh" else (english, actions[0])
        rows.append((code(name), _with_gaps(reason), _with_gaps(action)))
    return table(words["reason_columns"], rows)


def _with_gaps(template: str) -> str:
    """A sentence whose values are left open."""
    return re.sub(r"\{[^{}]*\}", "…", template).strip()

"""Why a slide is refused: a code for programs, a sentence for people, all reasons together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import DataError

_REEXPORT = "Export it from the scanner again and send it anew.", "请从扫描仪重新导出后再上传。"
_RESEND = "Send the file anew and compare its SHA-256.", "请重新上传，并核对 SHA-256。"
_INVESTIGATE = "Have its origin looked into; do not open it elsewhere.", "请核查文件来源，勿在其他程序中打开。"

_CONVERT = (
    "Convert it to a tiled pyramid, such as by: vips tiffsave IN OUT --tile --pyramid --compression jpeg.",
    "请转换为分块金字塔，例如：vips tiffsave 输入 输出 --tile --pyramid --compression jpeg。",
)
_FORMATS = "SVS, NDPI, MRXS, SCN, BIF, Philips or tiled TIFF, DICOM, KFB, or a flat TIFF, PNG or JPEG"
_FORMATS_ZH = " SVS、NDPI、MRXS、SCN、BIF、飞利浦或分块 TIFF、DICOM、KFB，或普通 TIFF、PNG、JPEG"

# code: what is wrong, with the actual and the expected value, in English and in Chinese, and what to do
ISSUE_TEMPLATES: dict[str, tuple[str, str, tuple[str, str]]] = {
    "no_file": ("there is no such file", "文件不存在", _RESEND),
    "empty": ("it is empty; expected a slide", "文件为空；应为切片文件", _RESEND),
    "too_large": (
        "it has {actual:,} bytes; the limit is {limit:,}",
        "文件 {actual:,} 字节；上限 {limit:,} 字节",
        _REEXPORT,
    ),
    "unknown_format": (
        f"its content begins with {{actual}}, which is no known format; expected {_FORMATS}",
        f"内容以 {{actual}} 开头，不是可读的格式；应为{_FORMATS_ZH}",
        _REEXPORT,
    ),
    "other_format": (
        f"it is {{actual}}, which is not read here; expected {_FORMATS}",
        f"文件为 {{actual_zh}}，此格式无法读取；应为{_FORMATS_ZH}",
        ("{advice}", "{advice_zh}"),
    ),
    "codec": (
        "{what} is stored as {actual}, which is not read here; expected {expected}",
        "{what} 以 {actual} 方式压缩，无法读取；应为{expected_zh}",
        _CONVERT,
    ),
    "truncated": (
        "{what} should reach to byte {actual:,}, and the file ends at {end:,}; expected the complete file",
        "{what} 应到第 {actual:,} 字节，而文件止于第 {end:,} 字节；需要完整文件",
        _RESEND,
    ),
    "no_end": ("its end marker is missing; expected the complete file", "缺少结束标记；需要完整文件", _RESEND),
    "malformed": ("{what} is {actual}; expected {expected}", "{what} 为 {actual}；应为 {expected}", _REEXPORT),
    "ifd_loop": (
        "image directory {actual} leads back to one already read, at byte {offset:,}; expected a list with an end",
        "第 {actual} 个图像目录指回已读目录（第 {offset:,} 字节）；目录链应有终点",
        _INVESTIGATE,
    ),
    "too_many": (
        "it has {actual:,} {what}; the limit is {limit:,}",
        "{what} 共 {actual:,}；上限 {limit:,}",
        _INVESTIGATE,
    ),
    "duplicate": ("{what} occurs twice; expected once", "{what} 重复出现；应只有一次", _REEXPORT),
    "no_size": (
        "{what} is {width} x {height} pixels; expected at least 1 x 1",
        "{what} 为 {width} x {height} 像素；至少应为 1 x 1",
        _REEXPORT,
    ),
    "pixel_bomb": (
        "{what} claims {width:,} x {height:,} pixels; the limit is {limit:,} pixels",
        "{what} 声称 {width:,} x {height:,} 像素；上限 {limit:,} 像素",
        _INVESTIGATE,
    ),
    "tile_bomb": (
        "{what} has tiles of {width:,} x {height:,} pixels; the limit is {limit:,} pixels a tile",
        "{what} 的图块为 {width:,} x {height:,} 像素；每块上限 {limit:,} 像素",
        _INVESTIGATE,
    ),
    "tile_bytes": (
        "a tile of {what} is {actual:,} bytes; the limit is {limit:,}",
        "{what} 有图块 {actual:,} 字节；上限 {limit:,} 字节",
        _INVESTIGATE,
    ),
    "ratio": (
        "{what} would unpack to {actual:,.0f} times its bytes; the limit is {limit:,.0f} times",
        "{what} 解压后为存储字节的 {actual:,.0f} 倍；上限 {limit:,.0f} 倍",
        _INVESTIGATE,
    ),
    "size_lies": (
        "{what} holds {actual:,} bytes of pixels; its declared size needs {expected:,}",
        "{what} 的像素数据为 {actual:,} 字节；按声明的尺寸应有 {expected:,} 字节",
        _REEXPORT,
    ),
    "tile_table": (
        "{what} lists {actual:,} tiles; its declared size needs {expected:,}",
        "{what} 列出 {actual:,} 个图块；按声明的尺寸应有 {expected:,} 个",
        _REEXPORT,
    ),
    "no_pixels": (
        "{what} stores no tile at all; expected at least one",
        "{what} 未存储任何图块；至少应有一个",
        _REEXPORT,
    ),
    "outside": (
        "{what} names {actual}, which lies outside the slide's own folder; expected a file inside it",
        "{what} 指向 {actual}，在切片文件夹之外；应指向文件夹之内的文件",
        _INVESTIGATE,
    ),
    "missing_part": (
        "{what} names {actual}, which is not there; expected every part of the slide",
        "{what} 指向 {actual}，但文件不存在；需要切片的全部文件",
        _RESEND,
    ),
    "archive": (
        "{what} is {actual}; expected {expected}",
        "{what} 为 {actual}；应为 {expected}",
        ("Pack the slide's files again as a plain ZIP.", "请将切片文件重新打包为普通 ZIP。"),
    ),
    "no_such_plane": (
        "focal plane {actual} was requested, and the slide has {planes}",
        "申请判读第 {actual} 个焦平面，而切片共有 {planes} 个",
        ("Send it with one of these planes, or without a plane.", "请改选已有的焦平面，或不指定焦平面后重新上传。"),
    ),
    "several_slides": (
        "it holds {count:,} slides ({formats}); expected one",
        "其中有 {count:,} 张切片（{formats}）；应为一张",
        ("Send each slide by itself.", "请将各切片分别上传。"),
    ),
    "no_slide": (
        "none of its {count:,} files is a slide; expected the files of one slide",
        "其中 {count:,} 个文件均不是切片；应为一张切片的全部文件",
        ("Send the slide's files as the scanner wrote them.", "请上传扫描仪生成的切片文件。"),
    ),
    "mrxs_alone": (
        "the folder with its name and Slidedat.ini is not beside it, and the file alone shows a label; expected both",
        "旁边没有含 Slidedat.ini 的同名文件夹，而该文件本身只含标签图；两者都需要",
        ("Send the .mrxs and its folder together.", "请将 .mrxs 文件与其文件夹一并上传。"),
    ),
    "associated_alone": (
        "it is a {actual} image, which may show the patient's name; expected the slide's VOLUME image",
        "这是 {actual} 图像，可能显示患者姓名；应为切片的 VOLUME 图像",
        ("Send the VOLUME instances of the series.", "请上传该序列的 VOLUME 实例。"),
    ),
    "concatenation": (
        "of the {total} parts of a concatenation only {actual} is there; expected all parts",
        "该拼接图像（concatenation）共 {total} 部分，只收到第 {actual} 部分；应为全部",
        ("Send all instances of the series together.", "请将该序列的全部实例一并上传。"),
    ),
    "optical_paths": (
        "it has {count} optical paths ({actual}); expected one, or exactly one in bright field",
        "含 {count} 条光路（{actual}）；应只有一条，或其中恰有一条为明场",
        ("Export the bright-field path alone.", "请只导出明场光路。"),
    ),
    "illumination": (
        "its optical path has {actual}; expected bright field",
        "光路照明方式为 {actual}；应为明场",
        ("Send a bright-field scan of the slide.", "请上传该切片的明场扫描。"),
    ),
    "two_images": (
        "it holds two images that are no levels of one pyramid, {actual} pixels; expected one image and its levels",
        "含两幅不属于同一金字塔的图像（{actual} 像素）；应为一幅图像及其各级",
        ("Send each image as a slide of its own.", "请将每幅图像作为单独的切片上传。"),
    ),
    "separate_planes": (
        "{count} of its instances have the same {width:,} x {height:,} pixels, as repeated scans do, and focal planes "
        "that do not state their heights; expected one instance of each size, a concatenation, or planes with heights",
        "有 {count} 个实例的尺寸同为 {width:,} x {height:,} 像素，如多次扫描，或未写明高度的焦平面；"
        "每种尺寸应只有一个实例，或为拼接图像（concatenation），或为写明高度的焦平面",
        (
            "Export all focal planes in one instance (TILED_FULL), or send each scan as a slide of its own.",
            "请将全部焦平面导出为一个实例（TILED_FULL），或将每次扫描作为单独的切片上传。",
        ),
    ),
    "fragments": (
        "its {frames:,} frames are stored in {count:,} fragments; expected one fragment for each frame",
        "{frames:,} 帧存储为 {count:,} 个片段；每帧应为一个片段",
        (
            "Export it with one fragment a frame, such as by gdcmconv or highdicom.",
            "请以每帧一个片段的方式导出，例如使用 gdcmconv 或 highdicom。",
        ),
    ),
    "burned_in": (
        "{actual} says that its pixels show text or the label, which cannot be removed; expected tissue alone",
        "{actual} 表明像素中含文字或标签，无法去除；应只含组织",
        ("Export the image without label or text.", "请导出不含标签与文字的图像。"),
    ),
    "label_inside": (
        "the label and macro pictures of {actual} cannot be taken out here; expected {expected}",
        "此处无法去除 {actual} 文件中的标签与宏观图；应为 {expected}",
        (
            "Have the scanner leave them out, or convert the slide to DICOM.",
            "请让扫描仪不写入此类图像，或将切片转换为 DICOM。",
        ),
    ),
    "not_proved": (
        "its copy without label and names could not be proved: {actual}; a copy with proof was needed",
        "无法证明其去标识副本合格：{actual_zh}；应为经过证明的副本",
        (
            "The file stays in quarantine. Export it from the scanner again, or tell the operator.",
            "文件保留在隔离区。请从扫描仪重新导出，或联系运行人员。",
        ),
    ),
    "not_a_slide": (
        "it is a DICOM object of class {actual}; expected whole slide microscopy",
        "DICOM 对象类别为 {actual}；应为全切片显微图像",
        ("Send the slide's own series.", "请上传切片所属的序列。"),
    ),
    "packing": (
        "its pixels are packed as {actual}, which is not read here; expected {expected}",
        "像素以 {actual} 方式存储，无法读取；应为 {expected}",
        _REEXPORT,
    ),
    "undecodable": (
        "it could not be decoded: {actual}; expected a complete file",
        "无法解码：{actual}；需要完整的文件",
        _REEXPORT,
    ),
    "sandbox_crash": (
        "decoding it broke the process it ran in ({actual}); expected a sound file",
        "解码进程异常终止（{actual}）；需要完好的文件",
        _INVESTIGATE,
    ),
    "sandbox_time": (
        "decoding took more than {limit:g} s; expected an answer within that time",
        "解码超过 {limit:g} 秒；应在此时间内完成",
        _INVESTIGATE,
    ),
    "sandbox_memory": (
        "decoding needed more than {limit:,} bytes of memory; expected less",
        "解码所需内存超过 {limit:,} 字节；应在此之内",
        _INVESTIGATE,
    ),
    "sandbox_unconfined": (
        "it is not decoded, as {actual}; expected Landlock and seccomp, which keep a decoder from every other file",
        "未解码：{actual}；需要 Landlock 与 seccomp，使解码进程接触不到其他文件",
        (
            "Run it on Linux 5.13 or later with Landlock switched on, or accept less: [confinement] required = false.",
            "请在启用 Landlock 的 Linux 5.13 或更高版本上运行，或设置 [confinement] required = false 接受较弱的隔离。",
        ),
    ),
    "no_scale": (
        "it does not say how many microns a pixel is; the scale is required",
        "文件未说明每像素多少微米；此项必需",
        (
            "Look the scale up at the scanner and give it with the slide, or confirm it.",
            "请在扫描仪上查明比例，随切片填写或予以确认。",
        ),
    ),
    "scale_conflict": (
        "its statements of microns per pixel differ: {actual}; expected statements within {expected} of each other",
        "文件中关于每像素微米数的记载不一致：{actual}；各项相差应在 {expected} 以内",
        ("Look the scale up at the scanner and confirm it.", "请在扫描仪上查明比例后予以确认。"),
    ),
    "no_pyramid": (
        "{what} has {width:,} x {height:,} pixels in strips and no smaller levels; the limit of such images is "
        "{limit:,} pixels",
        "{what} 为 {width:,} x {height:,} 像素，按条带存储且无低倍层级；此类图像上限 {limit:,} 像素",
        _CONVERT,
    ),
    "too_coarse": (
        "a pixel is {actual:g} microns; expected {expected:g} or finer",
        "每像素 {actual:g} 微米；应为 {expected:g} 微米或更细",
        ("Scan the slide again at a higher magnification.", "请以更高倍率重新扫描。"),
    ),
    "all_background": (
        "{actual:.2%} of it is tissue; expected {expected:.2%} or more",
        "组织占 {actual:.2%}；至少应为 {expected:.2%}",
        (
            "See whether the slide is empty or was scanned beside the specimen.",
            "请确认切片是否为空，或扫描区域是否偏离标本。",
        ),
    ),
    "out_of_focus": (
        "{actual:.0%} of its tiles are out of focus; the limit is {expected:.0%}",
        "{actual:.0%} 的图块失焦；上限 {expected:.0%}",
        ("Clean the slide and scan it again.", "请清洁切片后重新扫描。"),
    ),
    "pen_marks": (
        "{actual:.0%} of its tiles are under pen marks; the limit is {expected:.0%}",
        "{actual:.0%} 的图块被笔迹覆盖；上限 {expected:.0%}",
        ("Wipe the marks off and scan the slide again.", "请擦除笔迹后重新扫描。"),
    ),
    "not_authorised": (
        "the authorisation {actual} under which it was sent is not live, or not for the reading of slides",
        "送检所依据的授权 {actual} 无效、已撤回，或用途不符",
        ("Send it anew under a live authorisation.", "请在有效授权下重新送检。"),
    ),
    "bad_mpp": (
        "the scale given is {actual} microns per pixel; expected {low:g} to {high:g}",
        "给定比例为每像素 {actual} 微米；应为 {low:g} 至 {high:g}",
        ("Look the scale up at the scanner and give it again.", "请在扫描仪上查明比例后重新填写。"),
    ),
}


@dataclass(frozen=True, slots=True)
class SlideIssue:
    """One reason. code: a key of ISSUE_TEMPLATES. en, zh: what is wrong, what was expected and what to do."""

    code: str
    en: str
    zh: str


def slide_issue(code: str, **values: object) -> SlideIssue:
    en, zh, (action, action_zh) = ISSUE_TEMPLATES[code]
    actions = action.format(**values), action_zh.format(**values)
    return SlideIssue(code, f"{en.format(**values)}. {actions[0]}", f"{zh.format(**values)}。{actions[1]}")


def describe_error(error: BaseException, files: Iterable[Path]) -> str:
    """The message of a decoder's error on one line, without the folders and names of the slide's files."""
    text = str(error)
    for path in files:
        text = text.replace(f"{path.parent}/", "")
        text = re.sub(rf"(?<!\w){re.escape(path.name)}(?!\w)", "the file", text)
    return " ".join(text.split())[:200] or type(error).__name__


class SlideError(DataError):
    """The slide is not read; every reason is in `issues`, and `str()` gives them in English, `zh()` in Chinese."""

    def __init__(self, name: str, issues: Iterable[SlideIssue]):
        self.name = name
        self.issues = tuple(issues)
        super().__init__("\n".join(f"{name}: {issue.en}" for issue in self.issues))

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(issue.code for issue in self.issues)

    def zh(self) -> str:
        return "\n".join(f"{self.name}：{issue.zh}" for issue in self.issues)

"""Why a slide is refused: a code for programs, a sentence for people, all reasons together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from datasets.errors import DataError

_REEXPORT = "Export it from the scanner again and send it anew.", "请从扫描仪重新导出后再上传。"
_RESEND = "Send the file anew and compare its SHA-256.", "请重新上传，并核对 SHA-256。"
_INVESTIGATE = "Have its origin looked into; do not open it elsewhere.", "请核查文件来源，勿在其他程序中打开。"

# code: what was found and what was needed, in English and in Chinese, and what to do
ISSUE_TEMPLATES: dict[str, tuple[str, str, tuple[str, str]]] = {
    "no_file": ("there is no file {name}", "文件 {name} 不存在", _RESEND),
    "empty": ("it holds no bytes; a slide was needed", "文件为空；应为切片文件", _RESEND),
    "too_large": (
        "it holds {found:,} bytes; at most {most:,} are taken",
        "文件 {found:,} 字节；上限 {most:,} 字节",
        _REEXPORT,
    ),
    "unknown_format": (
        "its content begins with {found}, which is no format read here; SVS, NDPI, MRXS, SCN, BIF, Philips or "
        "tiled TIFF, DICOM, KFB, or a flat TIFF, PNG or JPEG was needed",
        "内容以 {found} 开头，不是可读的格式；应为 SVS、NDPI、MRXS、SCN、BIF、飞利浦或分块 TIFF、DICOM、KFB，"
        "或普通 TIFF、PNG、JPEG",
        _REEXPORT,
    ),
    "truncated": (
        "{what} should reach to byte {found:,}, and the file ends at {end:,}; all of it was needed",
        "{what} 应到第 {found:,} 字节，而文件止于第 {end:,} 字节；需要完整文件",
        _RESEND,
    ),
    "no_end": ("the mark of its end is missing; all of it was needed", "缺少结束标记；需要完整文件", _RESEND),
    "malformed": ("{what} is {found}; {needed} was needed", "{what} 为 {found}；应为 {needed}", _REEXPORT),
    "ifd_loop": (
        "image directory {found} leads back to one already read, at byte {offset:,}; a list with an end was needed",
        "第 {found} 个图像目录指回已读目录（第 {offset:,} 字节）；目录链应有终点",
        _INVESTIGATE,
    ),
    "too_many": (
        "it has {found:,} {what}; at most {most:,} are taken",
        "{what} 共 {found:,}；上限 {most:,}",
        _INVESTIGATE,
    ),
    "duplicate": ("{what} is given twice; once was needed", "{what} 重复出现；应只有一次", _REEXPORT),
    "no_size": (
        "{what} is {width} x {height} pixels; at least 1 x 1 was needed",
        "{what} 为 {width} x {height} 像素；至少应为 1 x 1",
        _REEXPORT,
    ),
    "pixel_bomb": (
        "{what} claims {width:,} x {height:,} pixels; at most {most:,} pixels are taken",
        "{what} 声称 {width:,} x {height:,} 像素；上限 {most:,} 像素",
        _INVESTIGATE,
    ),
    "tile_bomb": (
        "{what} has tiles of {width:,} x {height:,} pixels; at most {most:,} pixels a tile are taken",
        "{what} 的图块为 {width:,} x {height:,} 像素；每块上限 {most:,} 像素",
        _INVESTIGATE,
    ),
    "tile_bytes": (
        "a tile of {what} is {found:,} bytes; at most {most:,} are taken",
        "{what} 有图块 {found:,} 字节；上限 {most:,} 字节",
        _INVESTIGATE,
    ),
    "ratio": (
        "{what} would unpack to {found:,.0f} times its bytes; at most {most:,.0f} times is taken",
        "{what} 解压后为存储字节的 {found:,.0f} 倍；上限 {most:,.0f} 倍",
        _INVESTIGATE,
    ),
    "size_lies": (
        "{what} holds {found:,} bytes of pixels; its declared size needs {needed:,}",
        "{what} 的像素数据为 {found:,} 字节；按声明的尺寸应有 {needed:,} 字节",
        _REEXPORT,
    ),
    "tile_table": (
        "{what} lists {found:,} tiles; its declared size needs {needed:,}",
        "{what} 列出 {found:,} 个图块；按声明的尺寸应有 {needed:,} 个",
        _REEXPORT,
    ),
    "no_pixels": (
        "{what} stores no tile at all; at least one was needed",
        "{what} 未存储任何图块；至少应有一个",
        _REEXPORT,
    ),
    "outside": (
        "{what} names {found}, which lies outside the slide's own folder; a file inside it was needed",
        "{what} 指向 {found}，在切片文件夹之外；应指向文件夹之内的文件",
        _INVESTIGATE,
    ),
    "missing_part": (
        "{what} names {found}, which is not there; every part of the slide was needed",
        "{what} 指向 {found}，但文件不存在；需要切片的全部文件",
        _RESEND,
    ),
    "mrxs_alone": (
        "the folder {found} with Slidedat.ini is not beside it, and the file alone shows a label; both were needed",
        "旁边没有含 Slidedat.ini 的文件夹 {found}，而该文件本身只含标签图；两者都需要",
        ("Send the .mrxs and its folder together.", "请将 .mrxs 文件与其文件夹一并上传。"),
    ),
    "associated_alone": (
        "it is a {found} image, which may show the patient's name; the slide's VOLUME image was needed",
        "这是 {found} 图像，可能显示患者姓名；应为切片的 VOLUME 图像",
        ("Send the VOLUME instances of the series.", "请上传该序列的 VOLUME 实例。"),
    ),
    "label_inside": (
        "the label and macro pictures of {found} cannot be taken out here; {needed} was needed",
        "此处无法去除 {found} 文件中的标签与宏观图；应为 {needed}",
        (
            "Have the scanner leave them out, or convert the slide to DICOM.",
            "请让扫描仪不写入此类图像，或将切片转换为 DICOM。",
        ),
    ),
    "not_a_slide": (
        "it is a DICOM object of class {found}; whole slide microscopy was needed",
        "DICOM 对象类别为 {found}；应为全切片显微图像",
        ("Send the slide's own series.", "请上传切片所属的序列。"),
    ),
    "packing": (
        "its pixels are packed as {found}, which is not read here; {needed} was needed",
        "像素以 {found} 方式存储，无法读取；应为 {needed}",
        _REEXPORT,
    ),
    "undecodable": (
        "it could not be decoded: {found}; a whole file was needed",
        "无法解码：{found}；需要完整的文件",
        _REEXPORT,
    ),
    "sandbox_crash": (
        "decoding it broke the process it ran in ({found}); a sound file was needed",
        "解码进程异常终止（{found}）；需要完好的文件",
        _INVESTIGATE,
    ),
    "sandbox_time": (
        "decoding took more than {most:g} s; an answer within that was needed",
        "解码超过 {most:g} 秒；应在此时间内完成",
        _INVESTIGATE,
    ),
    "sandbox_memory": (
        "decoding needed more than {most:,} bytes of memory; less was needed",
        "解码所需内存超过 {most:,} 字节；应在此之内",
        _INVESTIGATE,
    ),
    "no_scale": (
        "it does not say how many microns a pixel is; that was needed",
        "文件未说明每像素多少微米；此项必需",
        ("Look the scale up at the scanner and give it with the slide.", "请在扫描仪上查明比例，随切片一并填写。"),
    ),
    "too_coarse": (
        "a pixel is {found:g} microns; {needed:g} or finer was needed",
        "每像素 {found:g} 微米；应为 {needed:g} 微米或更细",
        ("Scan the slide again at a higher magnification.", "请以更高倍率重新扫描。"),
    ),
    "all_background": (
        "{found:.2%} of it is tissue; {needed:.2%} was needed",
        "组织占 {found:.2%}；至少应为 {needed:.2%}",
        (
            "See whether the slide is empty or was scanned beside the specimen.",
            "请确认切片是否为空，或扫描区域是否偏离标本。",
        ),
    ),
    "out_of_focus": (
        "{found:.0%} of its tiles are out of focus; at most {needed:.0%} are taken",
        "{found:.0%} 的图块失焦；上限 {needed:.0%}",
        ("Clean the slide and scan it again.", "请清洁切片后重新扫描。"),
    ),
    "pen_marks": (
        "{found:.0%} of its tiles are under pen marks; at most {needed:.0%} are taken",
        "{found:.0%} 的图块被笔迹覆盖；上限 {needed:.0%}",
        ("Wipe the marks off and scan the slide again.", "请擦除笔迹后重新扫描。"),
    ),
    "not_authorised": (
        "the authorisation {found} under which it was sent is not live, or not for the reading of slides",
        "送检所依据的授权 {found} 无效、已撤回，或用途不符",
        ("Send it anew under a live authorisation.", "请在有效授权下重新送检。"),
    ),
    "bad_mpp": (
        "the scale given is {found} microns per pixel; {low:g} to {high:g} was needed",
        "给定比例为每像素 {found} 微米；应为 {low:g} 至 {high:g}",
        ("Look the scale up at the scanner and give it again.", "请在扫描仪上查明比例后重新填写。"),
    ),
}


@dataclass(frozen=True, slots=True)
class SlideIssue:
    """One reason: `code` is a key of CODES, `en` and `zh` say found, needed and what to do."""

    code: str
    en: str
    zh: str


def slide_issue(code: str, **values: object) -> SlideIssue:
    en, zh, (action, action_zh) = ISSUE_TEMPLATES[code]
    return SlideIssue(code, f"{en.format(**values)}. {action}", f"{zh.format(**values)}。{action_zh}")


class SlideError(DataError):
    """The slide is not read; every reason is in `faults`, and `str()` gives them in English, `zh()` in Chinese."""

    def __init__(self, name: str, issues: Iterable[SlideIssue]):
        self.name = name
        self.issues = tuple(issues)
        super().__init__("\n".join(f"{name}: {issue.en}" for issue in self.issues))

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(issue.code for issue in self.issues)

    def zh(self) -> str:
        return "\n".join(f"{self.name}：{issue.zh}" for issue in self.issues)

"""What the outputs call things, in English and Chinese. Bethesda's categories are those of TBS 2014."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Body = Mapping[str, Any]  # a reading, or a signed report: the reading and what the pathologist added
Status = Literal["draft", "signed", "amended"]


class Words(NamedTuple):
    en: str
    zh: str


TBS = {
    "NILM": Words("Negative for intraepithelial lesion or malignancy", "未见上皮内病变或恶性病变"),
    "ASC-US": Words("Atypical squamous cells of undetermined significance", "意义不明确的非典型鳞状细胞"),
    "LSIL": Words("Low-grade squamous intraepithelial lesion", "低级别鳞状上皮内病变"),
    "ASC-H": Words("Atypical squamous cells, cannot exclude HSIL", "非典型鳞状细胞，不除外高级别病变"),
    "HSIL": Words("High-grade squamous intraepithelial lesion", "高级别鳞状上皮内病变"),
    "SCC": Words("Squamous cell carcinoma", "鳞状细胞癌"),
    "AGC": Words("Atypical glandular cells", "非典型腺细胞"),
    "UNSATISFACTORY": Words("Unsatisfactory for evaluation", "标本不满意"),
}

COLOURS = {  # told apart by the colour-blind (Okabe & Ito 2008); red, green, blue
    "NILM": (0, 158, 115),
    "ASC-US": (86, 180, 233),
    "LSIL": (230, 159, 0),
    "ASC-H": (204, 121, 167),
    "HSIL": (213, 94, 0),
    "SCC": (136, 34, 85),
    "AGC": (0, 114, 178),
}
OTHER = (90, 90, 90)

TRIAGE = {
    "negative": Words("Negative", "阴性"),
    "review": Words("Review", "需复核"),
    "positive": Words("Positive", "阳性"),
    "abstained": Words("No answer", "不作判断"),
}
MEANS = {
    "negative": Words("Below the operating point: nothing suspicious was found.", "低于工作点：未见可疑改变。"),
    "review": Words("At or above the operating point: a pathologist looks.", "达到或高于工作点：须由病理医师复核。"),
    "positive": Words(
        "More likely than not abnormal: a pathologist looks first.", "异常可能性较大：优先由病理医师判读。"
    ),
    "abstained": Words(
        "The AI gives no answer for this slide, for the reasons below.", "AI 对本切片不作判断，原因如下。"
    ),
}
SPECIMENS = {
    "cervical_cytology": Words("Cervical cytology", "宫颈细胞学"),
    "breast_histology": Words("Breast histology", "乳腺组织学"),
    "lymph_node": Words("Lymph node", "淋巴结"),
}
LEVELS = {
    "routine": Words("Routine", "常规"),
    "raised": Words("Raised", "升高"),
    "urgent": Words("Urgent", "紧急"),
}
UNFIT = {
    "blank": Words("blank", "空白"),
    "pen": Words("pen", "笔迹"),
    "focus": Words("out of focus", "失焦"),
}
MPP_FROM = {
    "file": Words("from the file", "取自文件"),
    "operator": Words("given by who sent it", "由送检方填写"),
}
STATUS = {
    "draft": Words("DRAFT - not signed", "草稿 - 未签发"),
    "signed": Words("SIGNED", "已签发"),
    "amended": Words("AMENDED", "已更正"),
}
APART = Words(
    "A separate statement from the request form and the health record. It may raise this slide's priority; it never "
    "lowers the image result and took no part in it.",
    "依据申请单与健康档案的独立提示；可提高优先级，绝不降低图像结果，也未参与图像判读。",
)
NOT_FOR = Words(
    "The AI assists and never signs. It is not for diagnosis without a pathologist, not for specimens, stains or "
    "preparations other than those of its model card, and a negative triage does not rule disease out.",
    "AI 仅作辅助，不签发报告。不得脱离病理医师单独用于诊断；不适用于模型卡以外的标本、染色或制片；"
    "阴性分流不能排除疾病。",
)
SIMULATED = Words(
    "SIMULATED: made with a model or a slide that was invented. Not for any patient.",
    "模拟数据：由虚构的模型或切片产生，不得用于任何患者。",
)


def status(body: Body) -> Status:
    if not body.get("signed_by"):
        return "draft"
    return "amended" if body.get("amends") else "signed"


def diagnosis(body: Body) -> Words | None:
    """What the pathologist wrote: a category of TBS with its code, or free text as it stands."""
    told = body.get("diagnosis")
    if not told or status(body) == "draft":
        return None
    known = TBS.get(str(told))
    return Words(f"{told} · {known.en}", f"{told} · {known.zh}") if known else Words(str(told), str(told))


def named(table: Mapping[str, Words], code: object) -> Words:
    """A word that this version does not know stands as it came."""
    return table.get(str(code), Words(str(code), str(code)))

"""Names and texts of the reports in English and Chinese. Bethesda categories follow TBS 2014."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

ReportBody = Mapping[str, Any]  # a reading, or a signed report: a reading with the pathologist's additions
ReportStatus = Literal["draft", "signed", "amended"]


class BilingualLabel(NamedTuple):
    """A text in English and Chinese."""

    en: str
    zh: str


BETHESDA_CATEGORIES = {
    "NILM": BilingualLabel("Negative for intraepithelial lesion or malignancy", "未见上皮内病变或恶性病变"),
    "ASC-US": BilingualLabel("Atypical squamous cells of undetermined significance", "意义不明确的非典型鳞状细胞"),
    "LSIL": BilingualLabel("Low-grade squamous intraepithelial lesion", "低级别鳞状上皮内病变"),
    "ASC-H": BilingualLabel("Atypical squamous cells, cannot exclude HSIL", "非典型鳞状细胞，不除外高级别病变"),
    "HSIL": BilingualLabel("High-grade squamous intraepithelial lesion", "高级别鳞状上皮内病变"),
    "SCC": BilingualLabel("Squamous cell carcinoma", "鳞状细胞癌"),
    "AGC": BilingualLabel("Atypical glandular cells", "非典型腺细胞"),
    "UNSATISFACTORY": BilingualLabel("Unsatisfactory for evaluation", "标本不满意"),
}

CLASS_COLOURS = {  # red, green, blue; distinguishable with colour blindness (Okabe & Ito 2008)
    "NILM": (0, 158, 115),
    "ASC-US": (86, 180, 233),
    "LSIL": (230, 159, 0),
    "ASC-H": (204, 121, 167),
    "HSIL": (213, 94, 0),
    "SCC": (136, 34, 85),
    "AGC": (0, 114, 178),
}
OTHER_COLOUR = (90, 90, 90)

TRIAGE_LABELS = {
    "negative": BilingualLabel("Negative", "阴性"),
    "review": BilingualLabel("Review", "需复核"),
    "positive": BilingualLabel("Positive", "阳性"),
    "abstained": BilingualLabel("No answer", "不作判断"),
}
TRIAGE_MEANINGS = {
    "negative": BilingualLabel(
        "Below the operating point: nothing suspicious was found.", "低于工作点：未见可疑改变。"
    ),
    "review": BilingualLabel(
        "At or above the operating point: a pathologist must review it.", "达到或高于工作点：须由病理医师复核。"
    ),
    "positive": BilingualLabel(
        "More likely than not abnormal: a pathologist should review it first.", "异常可能性较大：优先由病理医师判读。"
    ),
    "abstained": BilingualLabel(
        "The AI gives no answer for this slide, for the reasons below.", "AI 对本切片不作判断，原因如下。"
    ),
}
SPECIMEN_LABELS = {
    "cervical_cytology": BilingualLabel("Cervical cytology", "宫颈细胞学"),
    "breast_histology": BilingualLabel("Breast histology", "乳腺组织学"),
    "lymph_node": BilingualLabel("Lymph node", "淋巴结"),
}
RISK_LEVEL_LABELS = {
    "routine": BilingualLabel("Routine", "常规"),
    "raised": BilingualLabel("Raised", "升高"),
    "urgent": BilingualLabel("Urgent", "紧急"),
}
REJECTION_REASONS = {
    "blank": BilingualLabel("blank", "空白"),
    "pen": BilingualLabel("pen", "笔迹"),
    "focus": BilingualLabel("out of focus", "失焦"),
}
MPP_SOURCE_LABELS = {
    "file": BilingualLabel("from the file", "取自文件"),
    "operator": BilingualLabel("given by the sender", "由送检方填写"),
}
STATUS_LABELS = {
    "draft": BilingualLabel("DRAFT - not signed", "草稿 - 未签发"),
    "signed": BilingualLabel("SIGNED", "已签发"),
    "amended": BilingualLabel("AMENDED", "已更正"),
}
PATIENT_RISK_NOTE = BilingualLabel(
    "A separate statement, based on the request form and the health record. It may raise this slide's priority; it "
    "never lowers the image result and had no part in it.",
    "依据申请单与健康档案的独立提示；可提高优先级，绝不降低图像结果，也未参与图像判读。",
)
INTENDED_USE_LIMITS = BilingualLabel(
    "The AI assists and never signs. It must not be used for diagnosis without a pathologist, nor for specimens, "
    "stains or preparations other than those on its model card. A negative triage does not rule out disease.",
    "AI 仅作辅助，不签发报告。不得脱离病理医师单独用于诊断；不适用于模型卡以外的标本、染色或制片；"
    "阴性分流不能排除疾病。",
)
SIMULATED_NOTICE = BilingualLabel(
    "SIMULATED: made with an invented model or slide. Not for use with any patient.",
    "模拟数据：由虚构的模型或切片产生，不得用于任何患者。",
)


def report_status(body: ReportBody) -> ReportStatus:
    """Whether the body is a draft, signed, or signed as an amendment."""
    if not body.get("signed_by"):
        return "draft"
    return "amended" if body.get("amends") else "signed"


def diagnosis_label(body: ReportBody) -> BilingualLabel | None:
    """The signed diagnosis: a TBS category with its code, or free text unchanged; None if there is none."""
    diagnosis = body.get("diagnosis")
    if not diagnosis or report_status(body) == "draft":
        return None
    category = BETHESDA_CATEGORIES.get(str(diagnosis))
    return (
        BilingualLabel(f"{diagnosis} · {category.en}", f"{diagnosis} · {category.zh}")
        if category
        else BilingualLabel(str(diagnosis), str(diagnosis))
    )


def label_for(labels: Mapping[str, BilingualLabel], code: object) -> BilingualLabel:
    """The label of a code; a code that is not in the table is its own label."""
    return labels.get(str(code), BilingualLabel(str(code), str(code)))

"""The table of stop facts as the guides for banks show it, made of the shipped policies."""

from datasets.schema import format_number
from models.credit_limit.policy import Policy as CreditPolicy
from models.scitech_risk.policy import Policy as CompanyPolicy
from tests.paths import ROOT

HEADERS = {"en": ("of", "fact", "code"), "zh": ("对象", "事实", "代码")}
SUBJECTS = {"en": ("household", "company"), "zh": ("农户", "企业")}
AGE = {
    "en": "The applicant is under {min_age}, or over {max_age} at the end of the term.",
    "zh": "申请人未满 {min_age} 岁，或贷款到期时超过 {max_age} 岁。",
}
VETOES = {"en": "A statutory code was reported: {vetoes}.", "zh": "存在法定否决情形：{vetoes}。"}
WARNINGS = {
    "en": "An early warning of the policy requires action: {indicators}.",
    "zh": "存在须处置的预警信号：{indicators}。",
}


def stop_table(language):
    """Markdown, one row for each fact."""
    household = CreditPolicy.load(ROOT / "configs/policies/credit_limit.toml")
    company = CompanyPolicy.load(ROOT / "configs/policies/scitech_risk.toml")
    separator = "、" if language == "zh" else ", "
    vetoes = separator.join(getattr(text, language) for text in household.vetoes.values())
    warnings = separator.join(f"`{signal.code}`" for signal in company.act_signals)
    age = AGE[language].format(min_age=household.min_age, max_age=household.max_age_at_end)
    rows = [
        *((0, _sentence(stop, language), f"`{stop.code}`") for stop in household.stops),
        (0, VETOES[language].format(vetoes=vetoes), "`statutory_veto`"),
        (0, age, "`under_age`, `over_age`"),
        *((1, _sentence(stop, language), f"`{stop.code}`") for stop in company.stops),
        (1, WARNINGS[language].format(indicators=warnings), "`warning_act`"),
    ]
    lines = [HEADERS[language], ("---",) * 3, *((SUBJECTS[language][who], fact, code) for who, fact, code in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sentence(stop, language):
    return getattr(stop, language).format(bound=format_number(stop.bound))

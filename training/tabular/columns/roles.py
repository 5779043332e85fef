"""Recognise by heading and values what a column is about: a protected attribute, a person, or a time after the outcome.

find_protected("性别", ["男", "女"]) -> Protected("sex", "性别")
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

MIN_VALUE_SHARE = 0.8  # of the levels by which an attribute is recognised without its heading


@dataclass(frozen=True)
class Protected:
    """An attribute that a decision must not depend on without a stated reason. levels: values that give it away."""

    name: str
    zh: str
    heading: str  # a pattern of its words, in lower case
    levels: str = r"(?!)"


PROTECTED = (
    Protected("sex", "性别", r"\b(sex|gender)\b|性别|^男女$", r"男|女|男性|女性|male|female|man|woman|m|f|先生|女士"),
    Protected("ethnicity", "民族",
              r"\b(ethnic\w*|race|nationality|skin colou?r|caste)\b|民族|族别|族裔|种族|国籍", r"\w{1,4}族"),
    Protected("religion", "宗教", r"\b(religio\w*|faith|church)\b|宗教|信仰|教派",
              r"佛教|道教|基督教|天主教|伊斯兰教|无宗教|无宗教信仰|buddhis[tm]|christian(ity)?|muslim|islam|hindu(ism)?"),
    Protected("marriage", "婚姻", r"\b(marital|marriage|married|single parent|divorced)\b|婚[姻否况]|[已未]婚|离[婚异]",
              r"已婚|未婚|离婚|离异|丧偶|再婚|单身|married|single|divorced|widow(ed|er)?|separated"),
    Protected("birthplace", "籍贯",
              r"\b(birth ?place|place of birth|native place|home ?town|hukou)\b|籍贯|出生地|户籍|户口|祖籍"),
    Protected("date of birth", "出生日期", r"\b(birth ?(date|day|year|month)?|date of birth|dob|born)\b|出生|生日"),
    Protected("age", "年龄",
              r"^((applicant|borrower|customer|client|person|head|owner)s? )?age( (in )?years| group| band)?$"
              r"|^(申请人|借款人|客户|户主|本人)?(年龄|岁数|年纪)(段|组|层)?([(（].*)?$|^周岁$"),
    Protected("health", "健康",
              r"\b(health|disab\w*|ill|illness|disease|pregnan\w*|handicap\w*)\b(?! (insurance|care))"
              r"|健康(?!险|保险)|残疾|疾病|病史|患病|怀孕|孕产|生育"),
    Protected("political affiliation", "政治面貌", r"\bpolitical( \w+)?\b|政治面貌|党派",
              r"党员|中共党员|共青团员|团员|群众|民主党派"),
    Protected("village", "所在村",
              r"\b(village|hamlet)( (id|name|code))?\b|行政村|自然村|所[在属]村|村(名|庄|组|委会)?$"),
)  # fmt: skip
PERSON_NAME = re.compile(
    r"\b(full name|first name|last name|surname|applicant name|customer name|address|street|e ?mail)\b"
    r"|姓名|^(户主|申请人|借款人|客户|联系人)(名称?)?$|地址|住址|邮箱|微信"
)
KNOWN_AFTERWARDS = re.compile(
    r"\b(charge(d)? ?off|chg ?off|write ?off|written off|recover(y|ies|ed)|collections?|settle(d|ment)|loss given|lgd"
    r"|default (date|amount)|days to default|foreclos\w*|repossess\w*|balance gross|(loan|final|current) status"
    r"|mis status|paid (off|in full)|last payment)\b"
    r"|核销|催收|追偿|清收|诉讼|处置|结清|不良|五级分类|违约(日期|金额|天数)|代偿|垫款|坏账"
)


def words(heading: str) -> str:
    """A heading in lower case, with one blank between its words: "Chg-Off_Date", "ChgOffDate" -> "chg off date"."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFKC", heading))
    return re.sub(r"[^\w()]+|_+", " ", text).lower().strip()


def find_protected(heading: str, levels: Collection[str] = ()) -> Protected | None:
    """The protected attribute that a column describes, by its heading or else by all but a few of its levels."""
    name = words(heading)
    for attribute in PROTECTED:
        if re.search(attribute.heading, name):
            return attribute
    known = [level.strip().lower() for level in levels]
    for attribute in PROTECTED:
        matches = sum(re.fullmatch(attribute.levels, level) is not None for level in known)
        if matches >= 2 and matches >= MIN_VALUE_SHARE * len(known):
            return attribute
    return None


def names_a_person(heading: str) -> bool:
    """Whether a heading is one of names or addresses of people."""
    return PERSON_NAME.search(words(heading)) is not None


def is_known_afterwards(heading: str) -> bool:
    """Whether a heading is one of facts that follow the outcome, such as an amount that was written off."""
    return KNOWN_AFTERWARDS.search(words(heading)) is not None

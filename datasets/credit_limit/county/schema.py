"""The contract of a morality bank's county (道德银行): every indicator group of the credit limit.

The only source of such a table here is the simulator (simulator.py), as `origin` says. A bank's own table of the same
shape needs a contract of its own, with its own origin.

The appraisal items add up to the 110-point account: 36 for law-abiding conduct, 20 for public spirit, 30 for honesty
and diligence, 24 for family and neighbourhood.
"""

from __future__ import annotations

from datasets.schema import ColumnSchema, Source, TableSchema

MORAL_GROUPS = ("self_assessment", "village_appraisal")
ITEM_POINTS = {"law_abiding": 36, "public_spirit": 20, "honesty_diligence": 30, "family_neighbourhood": 24}

_SELF, _VILLAGE, _SOCIAL, _TAX = "self_assessment", "village_appraisal", "social_security", "tax"
_MARKET, _POLICE, _ASSETS, _CREDIT = "market_regulation", "public_security", "household_assets", "credit_behaviour"

TABLE = TableSchema(
    name="county",
    origin=Source(source="datasets/credit_limit/county/simulator.py", licence="none needed: simulated", simulated=True),
    columns=(
        ColumnSchema(name="household_id", kind="text", role="id", en="household", zh="户编号"),
        ColumnSchema(name="as_of", kind="text", role="time", unit="ISO date", en="true as of", zh="数据时点"),
        # self-assessment 道德自评
        ColumnSchema(name="self_score", low=0, high=110, unit="points", direction=-1, group=_SELF,
               en="self-assessment score", zh="道德自评得分"),
        ColumnSchema(name="self_evidence_items", low=0, high=15, integer=True, unit="items", direction=-1, group=_SELF,
               en="evidence items filed", zh="自评佐证材料数"),
        ColumnSchema(name="self_filing_age", low=0, high=3650, integer=True, unit="days", group=_SELF,
               en="age of the self-assessment", zh="自评填报距今天数"),
        # village appraisal 村社评议
        ColumnSchema(name="law_abiding", low=0, high=36, unit="points", direction=-1, group=_VILLAGE,
               en="law-abiding and civil conduct", zh="遵纪守法"),
        ColumnSchema(name="public_spirit", low=0, high=20, unit="points", direction=-1, group=_VILLAGE,
               en="public spirit", zh="热心公益"),
        ColumnSchema(name="honesty_diligence", low=0, high=30, unit="points", direction=-1, group=_VILLAGE,
               en="honesty and diligence", zh="诚实守信勤劳致富"),
        ColumnSchema(name="family_neighbourhood", low=0, high=24, unit="points", direction=-1, group=_VILLAGE,
               en="family and neighbourhood", zh="家庭和睦邻里团结"),
        ColumnSchema(name="raters", low=5, high=50, integer=True, unit="persons", group=_VILLAGE,
               en="number of raters", zh="评议人数"),
        ColumnSchema(name="raters_sd", low=0, high=55, unit="points", group=_VILLAGE,
               en="standard deviation between raters", zh="评议人评分标准差"),
        ColumnSchema(name="related_rater", low=0, high=1, integer=True, unit="0/1", group=_VILLAGE,
               en="a rater is a relative", zh="评议人含亲属"),
        ColumnSchema(name="village_leniency", low=-55, high=55, unit="points", group=_VILLAGE,
               en="estimated leniency of the village", zh="村级评议宽松度估计"),
        # social security 社保
        ColumnSchema(name="insured_months", low=0, high=600, integer=True, unit="months", direction=-1, group=_SOCIAL,
               en="months insured", zh="社保累计缴费月数"),
        ColumnSchema(name="contribution_base", low=0, high=100_000, unit="RMB/month", direction=-1, group=_SOCIAL,
               en="contribution base", zh="社保缴费基数"),
        ColumnSchema(name="gap_months", low=0, high=24, integer=True, unit="months", direction=1, group=_SOCIAL,
               en="months without contribution in the last 24", zh="近24个月断缴月数"),
        # tax 税务
        ColumnSchema(name="declared_income", low=0, high=100_000_000, unit="RMB/year", direction=-1, group=_TAX,
               en="declared income", zh="申报年收入"),
        ColumnSchema(name="tax_arrears", low=0, high=100_000_000, unit="RMB", direction=1, group=_TAX,
               en="tax arrears", zh="欠税金额"),
        ColumnSchema(name="tax_grade", kind="category", levels=("A", "B", "M", "none", "C", "D"), ordered=True,
               direction=1, group=_TAX, en="tax-credit grade", zh="纳税信用等级"),  # none: no business
        # market regulation 市场监管
        # A household without a business: 0 months, 0 penalties, not listed.
        ColumnSchema(name="licence_age", low=0, high=1_200, integer=True, unit="months", direction=-1, group=_MARKET,
               en="age of the business licence", zh="营业执照存续月数"),
        ColumnSchema(name="abnormal_list", low=0, high=1, integer=True, unit="0/1", direction=1, group=_MARKET,
               en="on the list of abnormal operations", zh="列入经营异常名录"),
        ColumnSchema(name="penalties_36m", low=0, high=100, integer=True, unit="count", direction=1, group=_MARKET,
               en="penalties in 36 months", zh="近36个月行政处罚次数"),
        # public security 公安
        ColumnSchema(name="identity_match", low=0, high=1, integer=True, unit="0/1", direction=-1, group=_POLICE,
               en="identity matches", zh="身份核验一致"),
        # Read by the decision and by no model. Text: 'none' if no code was reported, missing if nobody asked.
        ColumnSchema(name="veto_codes", kind="text", unit="codes, ';' between", group=_POLICE,
               en="statutory veto codes", zh="法定否决代码"),
        ColumnSchema(name="enforcement_cases", low=0, high=100, integer=True, unit="count", direction=1, group=_POLICE,
               en="enforcement cases not settled", zh="未结被执行案件数"),
        # household assets 家庭资产
        ColumnSchema(name="housing", low=0, high=100_000_000, unit="RMB", direction=-1, group=_ASSETS,
               en="housing", zh="住房估值"),
        ColumnSchema(name="land_use_rights", low=0, high=100_000_000, unit="RMB", direction=-1, group=_ASSETS,
               en="land-use rights", zh="土地使用权估值"),
        ColumnSchema(name="equipment", low=0, high=100_000_000, unit="RMB", direction=-1, group=_ASSETS,
               en="equipment", zh="设备估值"),
        ColumnSchema(name="deposits", low=0, high=100_000_000, unit="RMB", direction=-1, group=_ASSETS,
               en="deposits", zh="存款余额"),
        ColumnSchema(name="debts", low=0, high=100_000_000, unit="RMB", direction=1, group=_ASSETS,
               en="debts", zh="负债余额"),
        # credit behaviour 信贷
        ColumnSchema(name="days_past_due", low=0, high=3_650, integer=True, unit="days", direction=1, group=_CREDIT,
               en="worst days past due in 24 months", zh="近24个月最长逾期天数"),
        ColumnSchema(name="monthly_debt_service", low=0, high=10_000_000, unit="RMB/month", direction=1, group=_CREDIT,
               en="monthly debt service", zh="月还款额"),
        ColumnSchema(name="utilisation", low=0, high=1, unit="share", direction=1, group=_CREDIT,
               en="utilisation of existing lines", zh="授信使用率"),  # 0 without a line
        # audit only, never scored
        ColumnSchema(name="sex", kind="category", role="audit", levels=("female", "male"), group="audit",
               en="sex", zh="性别"),
        ColumnSchema(name="ethnicity", kind="category", role="audit", group="audit", en="ethnicity", zh="民族",
               levels=("han", "she", "hui", "tujia", "miao", "other")),
        ColumnSchema(name="religion", kind="category", role="audit", group="audit", en="religion", zh="宗教信仰",
               levels=("none", "buddhist", "taoist", "christian", "muslim", "other")),
        ColumnSchema(name="health", kind="category", role="audit", levels=("good", "fair", "poor"), ordered=True,
               group="audit", en="health", zh="健康状况"),
        ColumnSchema(name="village_id", kind="text", role="audit", group="audit", en="village", zh="村编号"),
        ColumnSchema(name="age", role="audit", low=0, high=130, integer=True, unit="years", group="audit",
               en="age (legal capacity only)", zh="年龄（仅用于民事行为能力）"),
        # outcome
        ColumnSchema(name="default_12m", role="target", low=0, high=1, integer=True, unit="0/1",
               en="default within 12 months", zh="12个月内违约"),
        # known only to the simulator, or only later
        ColumnSchema(name="months_in_arrears_after", role="leak", low=0, high=12, integer=True, unit="months",
               en="months in arrears after the decision", zh="授信后逾期月数"),
        ColumnSchema(name="true_reliability", role="leak", unit="standard deviations",
               en="true reliability (simulator)", zh="真实可靠度（模拟）"),
        ColumnSchema(name="true_pd", role="leak", low=0, high=1, unit="probability",
               en="true probability of default (simulator)", zh="真实违约概率（模拟）"),
        ColumnSchema(name="true_leniency", role="leak", low=-55, high=55, unit="points",
               en="true leniency of the village (simulator)", zh="真实村级宽松度（模拟）"),
    ),
)  # fmt: skip

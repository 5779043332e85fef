"""The principal of a request: the person or machine that sent it, their tenant and their roles."""

from __future__ import annotations

from dataclasses import dataclass

ROLES = {
    "bank": ("asks for credit limits and company risks", "申请授信与企业风险评估"),
    "clinic": ("sends slides and follows them", "提交切片并跟踪进度"),
    "pathologist": ("reads slides, signs and amends reports", "阅片、签发与更正报告"),
    "scientist": ("decides which models serve, never sees an applicant", "查看模型、决定上线版本，不见申请人"),
    "auditor": ("sees every record of the tenant, changes none", "查看本机构全部记录，不可更改"),
    "operator": ("grants, ingestion, erasure, prices, health", "授权、数据接入、删除、计价与运行"),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """`subject` names them in the audit log; `name` and `licence` are a pathologist's, as printed on a report."""

    tenant: str
    roles: frozenset[str]
    subject: str
    name: str = ""
    licence: str = ""


# Of every request where the settings require no token, on loopback only. It has no licence, so it cannot sign reports.
LOCAL_PRINCIPAL = Principal("local", frozenset(ROLES), "local")
ANONYMOUS = Principal("", frozenset(), "")  # of a request without a token to a public route

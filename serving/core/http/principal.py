"""Who sent a request: a tenant's person or machine, and what they may do there."""

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
    """`who` names them in the audit log; `name` and `licence` are a pathologist's, as they stand on a report."""

    tenant: str
    roles: frozenset[str]
    subject: str
    name: str = ""
    licence: str = ""


# Where the settings ask for no token: whoever reaches the loopback address. Without a licence, so that nobody signs.
LOCAL_PRINCIPAL = Principal("local", frozenset(ROLES), "local")
ANONYMOUS = Principal("", frozenset(), "")  # who brought no token to an address that anybody may call

"""What an alarm about each component of the service means, in Chinese."""

from __future__ import annotations

REASONS_ZH = {  # component -> what an alarm about it means
    "bundle": "模型包未通过核验，不会启用（已在用的版本继续服务）；请重新发布。",
    "store": "存储无法写入记录，期间不作答复；请检查磁盘或数据库。",
    "log": "审计日志并非本服务所写，或与已签署的检查点不衔接：存储可能被改动；请运行 python -m serving audit verify。",
    "counts": "计数暂未写入存储，已保留待重试。",
    "loop": "后台循环曾意外终止，已重新启动；请查看日志。",
}


def describe_alarm_zh(component: str, reason: str) -> str:
    """An alarm in Chinese, with its English reason."""
    return f"{REASONS_ZH[component]}原文：{reason}"

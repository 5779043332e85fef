// The facts that a proved receipt states: the lines of `summary` in verify.py, in both languages.

import type { Json } from "./json";
import { decisionIdOf, type Receipt } from "./receipt";

export interface Fact {
  en: string;
  zh: string;
  value: string;
  valueZh: string;
}

const map = (value: Json | undefined): Map<string, Json> => (value instanceof Map ? value : new Map());
const list = (value: Json | undefined): Json[] => (Array.isArray(value) ? value : []);
// On one line, with control characters replaced.
const text = (value: Json | undefined): string => (value === undefined || value === null ? "" : String(value).replace(/(?! )[\p{C}\p{Z}]/gu, "?"));

export function summary(receipt: Receipt): Fact[] {
  const leaf = map(receipt.get("leaf")), lineage = map(receipt.get("lineage")), price = map(leaf.get("price"));
  const priceText = `${(Number(price.get("fen")) / 100).toFixed(2)} CNY (${text(price.get("rule"))}, ${text(price.get("rules"))})`;
  const grants = list(leaf.get("authorisations")).map(text).join(", ");
  const rows: [string, string, string, string?][] = [
    ["Decision", "决定", text(decisionIdOf(receipt))],
    ["At", "时间", text(leaf.get("at"))],
    ["Tenant", "机构", text(leaf.get("tenant"))],
    ["Product", "产品", text(leaf.get("product"))],
    ["Model", "模型", `${text(lineage.get("model"))} ${text(lineage.get("version"))}`],
    ["Bundle", "模型包", text(leaf.get("bundle"))],
    ["Training run", "训练", text(lineage.get("run_id"))],
    ["Commit", "代码", text(lineage.get("git_commit"))],
    ...list(lineage.get("data")).map((dataset): [string, string, string] => ["Data", "数据", `${text(map(dataset).get("name"))} ${text(map(dataset).get("sha256"))}`]),
    ["Policy", "政策", text(leaf.get("policy"))],
    ["Authorisations", "授权", grants || "none", grants || "无"],
    ["Price", "价格", price.size ? priceText : ""],
    ["Leaf", "日志序号", text(receipt.get("index"))],
  ];
  return rows.filter(([, , value]) => value.trim()).map(([en, zh, value, valueZh = value]) => ({ en, zh, value, valueZh }));
}

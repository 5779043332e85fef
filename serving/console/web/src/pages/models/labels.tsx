// Labels of metrics, checks and versions.

import { ForcedChip } from "../../ui/forced-versions";
import { Text, type Labels } from "../../ui/i18n";
import type { Estimate, VersionLine } from "./types";

export const METRIC_LABELS: Labels = {
  auc: ["AUC", "AUC"],
  ks: ["KS", "KS"],
  brier: ["Brier score", "Brier 分"],
  slope: ["Calibration slope", "校准斜率"],
  intercept: ["Calibration intercept", "校准截距"],
  sensitivity: ["Sensitivity", "敏感度"],
  specificity: ["Specificity", "特异度"],
  accuracy: ["Accuracy", "准确率"],
};

export const IDEAL_VALUES: Labels = {
  brier: ["lower is better", "越低越好"],
  slope: ["1 is perfect", "1 为最佳"],
  intercept: ["0 is perfect", "0 为最佳"],
};

const CHECKS: Record<string, string> = {
  "discrimination": "区分度",
  "calibration slope": "校准斜率",
  "calibration intercept": "校准截距",
  "stability": "评分稳定性",
  "parity": "导出一致性",
  "leakage": "结果泄漏",
  "policy": "政策护栏",
  "fairness of approvals": "审批公平性",
  "fairness of limits at equal PD": "同等风险下的额度公平性",
  "sensitivity": "敏感度",
  "answers": "作答比例",
  "familiar tiles": "熟悉图块",
  "strange tiles": "陌生图块",
  "shortcut": "捷径",
};

export const PRODUCTS: Labels = {
  credit_limit: ["Household credit limit", "农户授信额度"],
  scitech_risk: ["Sci-tech company risk", "科创企业风险"],
  pathology: ["Slide reading", "病理切片阅片"],
};

export function CheckName({ name }: { name: string }) {
  const better = /^better than the champion\s?(.*)$/.exec(name);
  return <Text en={name[0]!.toUpperCase() + name.slice(1)} zh={better ? `优于在线版本 ${better[1]}` : CHECKS[name] ?? name} />;
}

// A sentence of a model card. Numbers are the same in both languages, and some cards are in English only.
export function CardSentence({ en, zh }: { en: string; zh: string | undefined }) {
  return !zh || zh === en ? <span lang="en">{en}</span> : <Text en={en} zh={zh} />;
}

export const formatDecimal = (value: number | null | undefined, digits = 3) =>
  value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");

// A metric with its 95 % interval.
export function EstimateText({ estimate }: { estimate: Estimate | null | undefined }) {
  if (!estimate || estimate.value === null) return <>–</>;
  return <>{formatDecimal(estimate.value)}{estimate.low !== null && estimate.high !== null ? <small class="interval"> [{formatDecimal(estimate.low)}, {formatDecimal(estimate.high)}]</small> : null}</>;
}

export function GateChip({ passed }: { passed: boolean | null }) {
  if (passed === null) return <span class="chip"><Text en="no result" zh="无结论" /></span>;
  return passed ? <span class="chip good"><Text en="passed" zh="通过" /></span> : <span class="chip bad"><Text en="not passed" zh="未通过" /></span>;
}

export function VersionStatus({ line, serving }: { line: VersionLine; serving: string | null }) {
  return (
    <>
      {line.refused ? <span class="chip bad"><Text en="rejected" zh="被拒绝" /></span> : null}
      {line.version === serving ? <span class="chip good"><Text en="serving" zh="在线" /></span> : null}
      {line.forced ? <ForcedChip /> : null}
      {line.aliases.includes("challenger") ? <span class="chip other"><Text en="challenger" zh="挑战者" /></span> : null}
      {line.served && line.version !== serving ? <span class="chip"><Text en="served before" zh="曾上线" /></span> : null}
    </>
  );
}

export function SimulatedChip() {
  return <span class="chip warn"><Text en="simulated data" zh="模拟数据" /></span>;
}

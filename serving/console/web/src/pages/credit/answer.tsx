// One answer: the decision, the derivation of the limit, the reasons, and what would raise the limit.

import { BarChart } from "../../ui/chart/bar-chart";
import { Waterfall, type WaterfallStep } from "../../ui/chart/waterfall";
import { formatMoney, formatNumber, formatPercent, unitOf } from "../../ui/format";
import { Text, type Bilingual, type Labels } from "../../ui/i18n";
import { VERDICTS, type Answer, type Ledger } from "./types";

const BOUND_LABELS: Labels = {
  affordability: ["Affordable from income", "收入可负担额"],
  risk_budget: ["Loss budget", "风险预算额"],
  product_cap: ["Product cap", "产品上限"],
  pool: ["Backed by assets", "资产支持额"],
  uplift_cap: ["Cap on the uplift", "上浮上限"],
  legal_cap: ["Legal cap", "法定上限"],
  debt_service_cover: ["Debt service cover", "现金流可承担额"],
  revenue_multiple: ["Multiple of revenue", "营业收入可支持额"],
  backing: ["Backed by patents and data assets", "专利与数据资产支持额"],
  gate: ["Shell gate", "空壳闸门"],
  loss_budget: ["Loss budget", "损失预算额"],
};

export const boundLabel = (code: string): Bilingual => BOUND_LABELS[code] ?? [code.replaceAll("_", " "), code.replaceAll("_", " ")];

// The bounds, the lowest of them as the base, the conduct uplift, each cap that applied, the rounding, the limit.
export function waterfallSteps(ledger: Ledger): WaterfallStep[] {
  const items: WaterfallStep[] = ledger.bounds.filter((bound) => bound.amount !== null).map((bound) => {
    const [en, zh] = boundLabel(bound.code);
    return { key: `bound-${bound.code}`, en, zh, from: 0, to: bound.amount!, variant: "bound", mark: bound.binding ? ["binds", "起约束作用"] : undefined };
  });
  if (ledger.base_limit === null || ledger.limit === null) return items;
  let amount = ledger.base_limit;
  items.push({ key: "base", en: "Base limit", zh: "基础额度", from: 0, to: amount, variant: "total" });
  const applied = ledger.caps.filter((cap) => cap.applied && cap.amount !== null);
  const uplift = applied.length && ledger.conduct?.multiplier ? Math.round(amount * ledger.conduct.multiplier) - amount : (ledger.uplift ?? 0);
  if (ledger.conduct) {
    items.push({ key: "uplift", en: "Conduct uplift", zh: "品行上浮", from: amount, to: amount + uplift, variant: "up" });
    amount += uplift;
  }
  for (const cap of applied) {
    const [en, zh] = boundLabel(cap.code);
    const to = Math.min(amount, cap.amount!);
    items.push({ key: `cap-${cap.code}`, en, zh, from: amount, to, variant: "down", mark: ["cap", "封顶"] });
    amount = to;
  }
  if (ledger.rounding.amount) items.push({ key: "rounding", en: "Rounding down", zh: "向下取整", from: amount, to: ledger.limit, variant: "down" });
  items.push({ key: "limit", en: "Limit", zh: "额度", from: 0, to: ledger.limit, variant: "total" });
  return items;
}

// The limit, or a sentence that says what must be confirmed for an indicative one.
export function LimitText({ answer }: { answer: Answer }) {
  if (answer.limit === null && answer.indicative) return <Text en={answer.indicative.en} zh={answer.indicative.zh} />;
  return <>{formatMoney(answer.limit ?? answer.indicative_limit, answer.currency)}</>;
}

export function AnswerHeadline({ answer, previous }: { answer: Answer; previous?: Answer | null }) {
  const [en, zh, variant] = VERDICTS[answer.decision]!;
  const limit = answer.limit ?? answer.indicative_limit;
  const previousLimit = previous ? (previous.limit ?? previous.indicative_limit) : null;
  const change = previousLimit !== null && limit !== null ? limit - previousLimit : 0;
  return (
    <div class="answer-head">
      <p>
        <span class={`chip ${variant}`}><Text en={en} zh={zh} /></span>
        {answer.grade ? <span class="chip"><Text en={`Grade ${answer.grade}`} zh={`等级 ${answer.grade}`} /></span> : null}
      </p>
      <p class={answer.limit === null ? "headline indicative" : "headline"}>
        <LimitText answer={answer} />
        {change ? <span class={`limit-change ${change > 0 ? "good-text" : "bad-text"}`}>{change > 0 ? "+" : "−"}{formatNumber(Math.abs(change))}</span> : null}
      </p>
      <p class="quiet">
        {answer.limit === null ? <Text en="Indicative limit for the human decision." zh="参考额度，供人工决定时参考。" /> : <Text en="Credit limit" zh="授信额度" />}
      </p>
      <dl class="tiles">
        <div class="tile"><dt><Text en="Probability of default" zh="违约概率" /></dt><dd>{formatPercent(answer.pd, 2)}</dd></div>
        <div class="tile"><dt><Text en="Score (approval line)" zh="评分（审批线）" /></dt><dd>{formatNumber(answer.score)} <small>({formatNumber(answer.approval_line)})</small></dd></div>
      </dl>
      {answer.referral.length ? <ul class="sentences">{answer.referral.map((sentence) => <li key={sentence.code}><Text en={sentence.en} zh={sentence.zh} /></li>)}</ul> : null}
      {answer.remarks?.length ? <ul class="sentences quiet">{answer.remarks.map((sentence) => <li key={sentence.code}><Text en={sentence.en} zh={sentence.zh} /></li>)}</ul> : null}
    </div>
  );
}

export function AnswerDetails({ answer }: { answer: Answer }) {
  return (
    <>
      {answer.ledger ? (
        <section class="card">
          <Waterfall title={["Derivation of the limit", "额度测算过程"]} unit={unitOf(answer.currency)} steps={waterfallSteps(answer.ledger)}
            note={answer.ledger.conduct ? [answer.ledger.conduct.en, answer.ledger.conduct.zh] : undefined} />
        </section>
      ) : null}
      {answer.reasons.length ? (
        <section class="card">
          <BarChart title={["Reasons", "原因"]} unit={["Points", "分"]} note={["Points relative to the approval line; their sum is exactly the distance from it.", "相对审批线的分值，合计即为与审批线的差距。"]}
            bars={answer.reasons.map((reason) => ({ key: reason.code, en: reason.en, zh: reason.zh, value: reason.points }))} />
        </section>
      ) : null}
      {answer.raises ? <section class="card">
        <h2><Text en="What would raise the limit" zh="如何提高额度" /></h2>
        {answer.raises.length ? <ul class="raises">{answer.raises.map((raise) => <li key={raise.code}><Text en={raise.en} zh={raise.zh} /></li>)}</ul>
          : <p class="quiet"><Text en="None listed: no single feasible change would raise the limit, or the list was not requested." zh="未列出：不存在可提高额度的单项可行变化，或申请时未要求列出。" /></p>}
      </section> : null}
    </>
  );
}

export function SimulatedBanner({ visible }: { visible: boolean }) {
  return visible ? <p class="simulated"><Text en="SIMULATED: the model was trained on synthetic data. Not for lending." zh="模拟：模型使用虚构数据训练，不得用于放贷。" /></p> : null;
}

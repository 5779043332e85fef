// One answer: what was decided, how the limit came about, why, and what would raise it.

import { Bars } from "../../ui/chart/bar-chart";
import { Waterfall, type Step } from "../../ui/chart/waterfall";
import { money, number, percent, unitOf } from "../../ui/format";
import { Say } from "../../ui/i18n";
import { VERDICT, type Answer, type Ledger } from "./types";

const BOUNDS: Record<string, readonly [string, string]> = {
  affordability: ["What the income affords", "收入可负担额"],
  risk_budget: ["What the loss budget allows", "风险预算额"],
  product_cap: ["The product's cap", "产品上限"],
  pool: ["What the assets back", "资产支持额"],
  uplift_cap: ["Cap on the uplift", "上浮上限"],
  legal_cap: ["Legal cap", "法定上限"],
  debt_service_cover: ["What the cash flow carries", "现金流可承担额"],
  revenue_multiple: ["What the revenue supports", "收入可支持额"],
  backing: ["What patents and data assets back", "专利与数据资产支持额"],
  gate: ["Shell gate", "空壳闸门"],
  loss_budget: ["What the loss budget allows", "损失预算额"],
};

export const named = (code: string): readonly [string, string] => BOUNDS[code] ?? [code.replaceAll("_", " "), code.replaceAll("_", " ")];

// Bounds, the least of them as the base, conduct's uplift, each cap that took some away, the rounding, the limit.
export function steps(ledger: Ledger): Step[] {
  const told: Step[] = ledger.bounds.filter((bound) => bound.amount !== null).map((bound) => {
    const [en, zh] = named(bound.code);
    return { key: `bound-${bound.code}`, en, zh, from: 0, to: bound.amount!, look: "bound", mark: bound.binding ? ["binds", "起约束作用"] : undefined };
  });
  if (ledger.base_limit === null || ledger.limit === null) return told;
  let at = ledger.base_limit;
  told.push({ key: "base", en: "Base limit", zh: "基础额度", from: 0, to: at, look: "total" });
  const applied = ledger.caps.filter((cap) => cap.applied && cap.amount !== null);
  const uplift = applied.length && ledger.conduct?.multiplier ? Math.round(at * ledger.conduct.multiplier) - at : (ledger.uplift ?? 0);
  if (ledger.conduct) {
    told.push({ key: "uplift", en: "Good conduct adds", zh: "品行上浮", from: at, to: at + uplift, look: "up" });
    at += uplift;
  }
  for (const cap of applied) {
    const [en, zh] = named(cap.code);
    const to = Math.min(at, cap.amount!);
    told.push({ key: `cap-${cap.code}`, en, zh, from: at, to, look: "down", mark: ["cap", "封顶"] });
    at = to;
  }
  if (ledger.rounding.amount) told.push({ key: "rounding", en: "Rounding down", zh: "向下取整", from: at, to: ledger.limit, look: "down" });
  told.push({ key: "limit", en: "Limit", zh: "额度", from: 0, to: ledger.limit, look: "total" });
  return told;
}

export function Headline({ answer, before }: { answer: Answer; before?: Answer | null }) {
  const [en, zh, look] = VERDICT[answer.decision]!;
  const limit = answer.limit ?? answer.indicative_limit;
  const was = before ? (before.limit ?? before.indicative_limit) : null;
  const moved = was !== null && limit !== null ? limit - was : 0;
  return (
    <div class="answer-head">
      <p>
        <span class={`chip ${look}`}><Say en={en} zh={zh} /></span>
        {answer.grade ? <span class="chip"><Say en={`Grade ${answer.grade}`} zh={`等级 ${answer.grade}`} /></span> : null}
      </p>
      <p class="headline">{money(limit, answer.currency)}{moved ? <span class={`moved ${moved > 0 ? "good-text" : "bad-text"}`}>{moved > 0 ? "+" : "−"}{number(Math.abs(moved))}</span> : null}</p>
      <p class="quiet">
        {answer.limit === null ? <Say en="Indicative, for the person who decides." zh="参考额度，供人工决定。" /> : <Say en="Credit limit" zh="授信额度" />}
      </p>
      <dl class="tiles">
        <div class="tile"><dt><Say en="Chance of default" zh="违约概率" /></dt><dd>{percent(answer.pd, 2)}</dd></div>
        <div class="tile"><dt><Say en="Score (approval line)" zh="评分（审批线）" /></dt><dd>{number(answer.score)} <small>({number(answer.approval_line)})</small></dd></div>
      </dl>
      {answer.referral.length ? <ul class="why">{answer.referral.map((each) => <li key={each.code}><Say en={each.en} zh={each.zh} /></li>)}</ul> : null}
      {answer.remarks?.length ? <ul class="why quiet">{answer.remarks.map((each) => <li key={each.code}><Say en={each.en} zh={each.zh} /></li>)}</ul> : null}
    </div>
  );
}

export function Details({ answer }: { answer: Answer }) {
  return (
    <>
      {answer.ledger ? (
        <section class="card">
          <Waterfall title={["How the limit came about", "额度如何得出"]} unit={unitOf(answer.currency)} steps={steps(answer.ledger)}
            note={answer.ledger.conduct ? [answer.ledger.conduct.en, answer.ledger.conduct.zh] : undefined} />
        </section>
      ) : null}
      {answer.reasons.length ? (
        <section class="card">
          <Bars title={["Why", "原因"]} unit={["Points", "分"]} note={["Points against the approval line; together they are exactly the distance from it.", "相对审批线的分值，合计即为与审批线的差距。"]}
            bars={answer.reasons.map((reason) => ({ key: reason.code, en: reason.en, zh: reason.zh, value: reason.points }))} />
        </section>
      ) : null}
      {answer.raises ? <section class="card">
        <h2><Say en="What would raise the limit" zh="如何提高额度" /></h2>
        {answer.raises.length ? <ul class="raises">{answer.raises.map((raise) => <li key={raise.code}><Say en={raise.en} zh={raise.zh} /></li>)}</ul>
          : <p class="quiet"><Say en="None is told: no single change within reach would, or it was not asked for." zh="未列出：没有单项可及的变化能提高额度，或申请时未要求。" /></p>}
      </section> : null}
    </>
  );
}

export function Simulated({ shown }: { shown: boolean }) {
  return shown ? <p class="simulated"><Say en="SIMULATED: the model learned from made-up data. Not for lending." zh="模拟：模型由虚构数据训练，不得用于放贷。" /></p> : null;
}

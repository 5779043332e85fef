// Stress scenarios of a stored company: the sliders shift it within the service's limits, and the result follows.

import { useEffect, useState } from "preact/hooks";
import { fetchJson, useResource } from "../../ui/api";
import { Figure } from "../../ui/chart/figure";
import { formatMoney, formatNumber, formatPercent, formatSigned, unitOf } from "../../ui/format";
import { ErrorMessage, ResourceView } from "../../ui/feedback";
import { translate, Text } from "../../ui/i18n";
import { boundLabel } from "../credit/answer";
import { SCITECH_RISK, type Shock, type Shocks, type StressResult } from "./types";

const DEBOUNCE_MS = 120; // ms after the last movement

export function StressCard({ id }: { id: string }) {
  const resource = useResource<Shocks>(`${SCITECH_RISK.route}/stress`);
  return <section class="card"><ResourceView resource={resource}>{(scenarios) => <StressSliders id={id} scenarios={scenarios} />}</ResourceView></section>;
}

function StressSliders({ id, scenarios }: { id: string; scenarios: Shocks }) {
  const [sizes, setSizes] = useState<Record<string, number>>({});
  const [result, setResult] = useState<StressResult | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const [started, setStarted] = useState(false);
  useEffect(() => {
    if (!started) return;
    const controller = new AbortController();
    const shocks = Object.fromEntries(Object.entries(sizes).filter(([, size]) => size > 0));
    if (!Object.keys(shocks).length) {
      setResult(null);
      setFailure(null);
      return;
    }
    const timer = setTimeout(() => {
      fetchJson<StressResult>(`${SCITECH_RISK.route}/stress`, { body: { subject_id: id, shocks }, signal: controller.signal }).then(
        (answer) => (setResult(answer), setFailure(null)),
        (error) => controller.signal.aborted || setFailure(error),
      );
    }, DEBOUNCE_MS);
    return () => (clearTimeout(timer), controller.abort());
  }, [sizes, started]);
  const move = (code: string, size: number) => {
    setStarted(true);
    setSizes((previous) => ({ ...previous, [code]: Number(size.toFixed(6)) }));
  };
  return (
    <>
      <h2><Text en="Under stress" zh="压力测试" /></h2>
      <p class="quiet"><Text en="Move a slider to see the result if the scenario occurred. No decision is made and nothing is charged; the use is recorded." zh="移动滑块，查看情景发生时的测算结果。不形成决定，不计费；使用情况将留存记录。" /></p>
      <div class="stress">
        <div class="stack">
          {scenarios.shocks.map((shock) => {
            const size = sizes[shock.code] ?? 0;
            const [en, zh] = scenarioTitle(shock);
            return (
              <div key={shock.code} class="field">
                <label for={`shock-${shock.code}`}><Text en={en} zh={zh} /><output for={`shock-${shock.code}`} class={size ? "bad-text" : undefined}><Text {...describeShock(shock, size)} /></output></label>
                <input id={`shock-${shock.code}`} type="range" min={0} max={scenarios.most} step={scenarios.step} value={size} aria-valuetext={translate(describeShock(shock, size).en, describeShock(shock, size).zh)} aria-describedby={`why-${shock.code}`} onInput={(event) => move(shock.code, event.currentTarget.valueAsNumber)} />
                <p class="hint" id={`why-${shock.code}`}><Text en={shock.why_en} zh={shock.why_zh} /></p>
              </div>
            );
          })}
          <div class="actions"><button type="button" class="quiet" disabled={!Object.values(sizes).some(Boolean)} onClick={() => setSizes({})}><Text en="Reset" zh="恢复现状" /></button></div>
        </div>
        <div role="status" aria-live="polite" class="stack">
          {failure ? <ErrorMessage error={failure} /> : result ? <Comparison result={result} /> : <p class="empty"><Text en="Move a slider to start." zh="请移动滑块开始测试。" /></p>}
        </div>
      </div>
    </>
  );
}

const scenarioTitle = (shock: Shock): [string, string] => {
  if (shock.own_trade) return ["Downturn in its industry", "所属行业受冲击"];
  if (shock.rate) return ["Interest rates rise", "利率上升"];
  const lead = shock.moves[0];
  return lead ? [`${lead.en[0]!.toUpperCase()}${lead.en.slice(1)} falls`, `${lead.zh}下降`] : [shock.en, shock.zh];
};

// The position of a slider, expressed in the quantities that it changes.
function describeShock(shock: Shock, size: number): { en: string; zh: string } {
  if (!size) return { en: "unchanged", zh: "现状" };
  const en: string[] = [], zh: string[] = [];
  const lead = shock.moves[0];
  if (lead) {
    const change = `${formatSigned(100 * size * (lead.times - 1), 0)} %`;
    en.push(`${lead.en} ${change}`);
    zh.push(`${lead.zh} ${change}`);
  }
  if (shock.rate) {
    en.push(`${formatSigned(100 * size * shock.rate)} percentage points`);
    zh.push(`${formatSigned(100 * size * shock.rate)} 个百分点`);
  }
  if (shock.log_odds) {
    const times = Math.exp(size * shock.log_odds).toFixed(1);
    en.push(`odds of default × ${times}`);
    zh.push(`违约几率 × ${times}`);
  }
  return { en: en.join(", "), zh: zh.join("，") };
}

function Comparison({ result: { before, after } }: { result: StressResult }) {
  const verdict = (answer: StressResult["before"]) => <span class={`chip ${answer.decision === "approve" ? "good" : "warn"}`}>{answer.decision === "approve" ? <Text en="Approved" zh="通过" /> : <Text en="Human decision" zh="转人工" />}</span>;
  const unit = unitOf(before.currency);
  const amounts = [
    ...before.bounds.map((bound) => ({ code: bound.code, label: boundLabel(bound.code), current: bound.amount, stressed: after.bounds.find((item) => item.code === bound.code)?.amount ?? null })),
    { code: "limit", label: ["Limit", "额度"] as const, current: before.indicative_limit, stressed: after.indicative_limit },
  ];
  const max = Math.max(1, ...amounts.filter((item) => item.code === "limit").flatMap((item) => [item.current ?? 0, item.stressed ?? 0])) * 2.5;
  const barWidth = (amount: number | null) => 200 * Math.min(1, (amount ?? 0) / max);
  return (
    <>
      <table class="pair">
        <caption class="hidden"><Text en="Current and under stress" zh="压力前后" /></caption>
        <thead><tr><th scope="col"><span class="hidden"><Text en="what" zh="项目" /></span></th><th scope="col"><Text en="Current" zh="现状" /></th><th scope="col"><Text en="Under stress" zh="压力下" /></th></tr></thead>
        <tbody>
          <tr><th scope="row"><Text en="Decision" zh="决定" /></th><td>{verdict(before)}</td><td>{verdict(after)}</td></tr>
          <tr><th scope="row"><Text en="Grade" zh="等级" /></th><td>{before.grade ?? "–"}</td><td class={after.grade === before.grade ? undefined : "bad-text"}>{after.grade ?? "–"}</td></tr>
          <tr><th scope="row"><Text en="Probability of default" zh="违约概率" /></th><td>{formatPercent(before.pd, 1)}</td><td class={after.pd > before.pd ? "bad-text" : undefined}>{formatPercent(after.pd, 1)}</td></tr>
          <tr><th scope="row"><Text en="Limit" zh="额度" /></th><td>{formatMoney(before.indicative_limit, before.currency)}</td><td class={(after.indicative_limit ?? 0) < (before.indicative_limit ?? 0) ? "bad-text" : undefined}>{formatMoney(after.indicative_limit, after.currency)}</td></tr>
        </tbody>
      </table>
      <Figure title={["Bounds of the limit", "额度约束"]} note={[`${unit[0]}; light: current, dark: under stress. Rounded to two significant figures.`, `${unit[1]}；浅色为现状，深色为压力下。保留两位有效数字。`]}
        table={{ headers: [["Bound", "约束"], [`Current, ${unit[0]}`, `现状（${unit[1]}）`], [`Under stress, ${unit[0]}`, `压力下（${unit[1]}）`]], rows: amounts.map((item) => [<Text en={item.label[0]} zh={item.label[1]} />, item.current === null ? "–" : formatNumber(item.current), item.stressed === null ? "–" : formatNumber(item.stressed)]) }}>
        <ul class="pairs" aria-hidden="true">
          {amounts.map((item) => (
            <li key={item.code}><Text en={item.label[0]} zh={item.label[1]} />
              <svg viewBox="0 0 200 18" preserveAspectRatio="none"><rect class="baseline" y="1" height="7" width={barWidth(item.current)} /><rect class="stressed" y="10" height="7" width={barWidth(item.stressed)} /></svg>
              <b class={(item.stressed ?? 0) < (item.current ?? 0) ? "bad-text" : undefined}>{item.stressed === null ? "–" : formatNumber(item.stressed)}</b>
            </li>
          ))}
        </ul>
      </Figure>
    </>
  );
}

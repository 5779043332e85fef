// One stored company under stress: sliders move it as far as the service allows, and the answer follows.

import { useEffect, useState } from "preact/hooks";
import { ask, useAsk } from "../../ui/api";
import { Figure } from "../../ui/chart/figure";
import { money, number, percent, signed, unitOf } from "../../ui/format";
import { Failed, Shown } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import { named } from "../credit/answer";
import { OF, type Shock, type Shocks, type Stressed } from "./types";

const WAIT = 120; // ms after the last move

export function Stress({ id }: { id: string }) {
  const offered = useAsk<Shocks>(`${OF.route}/stress`);
  return <section class="card"><Shown of={offered}>{(found) => <Sliders id={id} offered={found} />}</Shown></section>;
}

function Sliders({ id, offered }: { id: string; offered: Shocks }) {
  const [sizes, setSizes] = useState<Record<string, number>>({});
  const [told, setTold] = useState<Stressed | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  const [begun, setBegun] = useState(false);
  useEffect(() => {
    if (!begun) return;
    const ending = new AbortController();
    const shocks = Object.fromEntries(Object.entries(sizes).filter(([, size]) => size > 0));
    if (!Object.keys(shocks).length) {
      setTold(null);
      setFailed(null);
      return;
    }
    const timer = setTimeout(() => {
      ask<Stressed>(`${OF.route}/stress`, { body: { subject_id: id, shocks }, signal: ending.signal }).then(
        (answer) => (setTold(answer), setFailed(null)),
        (error) => ending.signal.aborted || setFailed(error),
      );
    }, WAIT);
    return () => (clearTimeout(timer), ending.abort());
  }, [sizes, begun]);
  const move = (code: string, size: number) => {
    setBegun(true);
    setSizes((before) => ({ ...before, [code]: Number(size.toFixed(6)) }));
  };
  return (
    <>
      <h2><Say en="Under stress" zh="压力测试" /></h2>
      <p class="quiet"><Say en="Move a slider: what would be answered if this happened to the company. It makes no decision and costs nothing; that you looked is recorded." zh="移动滑块，查看情景发生时的结果。不形成决定，不计费；查看行为留有记录。" /></p>
      <div class="stress">
        <div class="stack">
          {offered.shocks.map((shock) => {
            const size = sizes[shock.code] ?? 0;
            const [en, zh] = titled(shock);
            return (
              <div key={shock.code} class="field">
                <label for={`shock-${shock.code}`}><Say en={en} zh={zh} /><output for={`shock-${shock.code}`} class={size ? "bad-text" : undefined}><Say {...sized(shock, size)} /></output></label>
                <input id={`shock-${shock.code}`} type="range" min={0} max={offered.most} step={offered.step} value={size} aria-valuetext={plain(sized(shock, size).en, sized(shock, size).zh)} aria-describedby={`why-${shock.code}`} onInput={(event) => move(shock.code, event.currentTarget.valueAsNumber)} />
                <p class="hint" id={`why-${shock.code}`}><Say en={shock.why_en} zh={shock.why_zh} /></p>
              </div>
            );
          })}
          <div class="actions"><button type="button" class="quiet" disabled={!Object.values(sizes).some(Boolean)} onClick={() => setSizes({})}><Say en="Back to as it is" zh="恢复现状" /></button></div>
        </div>
        <div role="status" aria-live="polite" class="stack">
          {failed ? <Failed error={failed} /> : told ? <Moved told={told} /> : <p class="empty"><Say en="As it is: no slider was moved yet." zh="尚未施加压力。" /></p>}
        </div>
      </div>
    </>
  );
}

const titled = (shock: Shock): [string, string] => {
  if (shock.own_trade) return ["Its own trade is hit", "所属行业受冲击"];
  if (shock.rate) return ["Interest rates rise", "利率上升"];
  const lead = shock.moves[0];
  return lead ? [`${lead.en[0]!.toUpperCase()}${lead.en.slice(1)} falls`, `${lead.zh}下降`] : [shock.en, shock.zh];
};

// How far a slider stands, in what it moves.
function sized(shock: Shock, size: number): { en: string; zh: string } {
  if (!size) return { en: "as it is", zh: "现状" };
  const en: string[] = [], zh: string[] = [];
  const lead = shock.moves[0];
  if (lead) {
    const by = `${signed(100 * size * (lead.times - 1), 0)} %`;
    en.push(`${lead.en} ${by}`);
    zh.push(`${lead.zh} ${by}`);
  }
  if (shock.rate) {
    en.push(`${signed(100 * size * shock.rate)} percentage points`);
    zh.push(`${signed(100 * size * shock.rate)} 个百分点`);
  }
  if (shock.log_odds) {
    const times = Math.exp(size * shock.log_odds).toFixed(1);
    en.push(`odds of default × ${times}`);
    zh.push(`违约几率 × ${times}`);
  }
  return { en: en.join(", "), zh: zh.join("，") };
}

function Moved({ told: { before, after } }: { told: Stressed }) {
  const verdict = (answer: Stressed["before"]) => <span class={`chip ${answer.decision === "approve" ? "good" : "warn"}`}>{answer.decision === "approve" ? <Say en="Approved" zh="通过" /> : <Say en="A person decides" zh="转人工" />}</span>;
  const unit = unitOf(before.currency);
  const amounts = [
    ...before.bounds.map((bound) => ({ code: bound.code, words: named(bound.code), was: bound.amount, is: after.bounds.find((one) => one.code === bound.code)?.amount ?? null })),
    { code: "limit", words: ["Limit", "额度"] as const, was: before.indicative_limit, is: after.indicative_limit },
  ];
  const most = Math.max(1, ...amounts.filter((one) => one.code === "limit").flatMap((one) => [one.was ?? 0, one.is ?? 0])) * 2.5;
  const along = (amount: number | null) => 200 * Math.min(1, (amount ?? 0) / most);
  return (
    <>
      <table class="pair">
        <caption class="hidden"><Say en="Before and under stress" zh="压力前后" /></caption>
        <thead><tr><th scope="col"><span class="hidden"><Say en="what" zh="项目" /></span></th><th scope="col"><Say en="As it is" zh="现状" /></th><th scope="col"><Say en="Under stress" zh="压力下" /></th></tr></thead>
        <tbody>
          <tr><th scope="row"><Say en="Decision" zh="决定" /></th><td>{verdict(before)}</td><td>{verdict(after)}</td></tr>
          <tr><th scope="row"><Say en="Grade" zh="等级" /></th><td>{before.grade ?? "–"}</td><td class={after.grade === before.grade ? undefined : "bad-text"}>{after.grade ?? "–"}</td></tr>
          <tr><th scope="row"><Say en="Chance of default" zh="违约概率" /></th><td>{percent(before.pd, 1)}</td><td class={after.pd > before.pd ? "bad-text" : undefined}>{percent(after.pd, 1)}</td></tr>
          <tr><th scope="row"><Say en="Limit" zh="额度" /></th><td>{money(before.indicative_limit, before.currency)}</td><td class={(after.indicative_limit ?? 0) < (before.indicative_limit ?? 0) ? "bad-text" : undefined}>{money(after.indicative_limit, after.currency)}</td></tr>
        </tbody>
      </table>
      <Figure title={["What bounds the limit", "额度约束"]} note={[`${unit[0]}; pale: as it is, dark: under stress. Rounded to two figures.`, `${unit[1]}；浅色为现状，深色为压力下。保留两位有效数字。`]}
        behind={{ heads: [["Bound", "约束"], [`As it is, ${unit[0]}`, `现状（${unit[1]}）`], [`Under stress, ${unit[0]}`, `压力下（${unit[1]}）`]], rows: amounts.map((one) => [<Say en={one.words[0]} zh={one.words[1]} />, one.was === null ? "–" : number(one.was), one.is === null ? "–" : number(one.is)]) }}>
        <ul class="pairs" aria-hidden="true">
          {amounts.map((one) => (
            <li key={one.code}><Say en={one.words[0]} zh={one.words[1]} />
              <svg viewBox="0 0 200 18" preserveAspectRatio="none"><rect class="was" y="1" height="7" width={along(one.was)} /><rect class="is" y="10" height="7" width={along(one.is)} /></svg>
              <b class={(one.is ?? 0) < (one.was ?? 0) ? "bad-text" : undefined}>{one.is === null ? "–" : number(one.is)}</b>
            </li>
          ))}
        </ul>
      </Figure>
    </>
  );
}

// How the model did week by week: drift of its scores, what it said, how outcomes met what it stated.

import { useAsk } from "../../ui/api";
import { Lines, type Line } from "../../ui/chart/line-chart";
import { number, percent } from "../../ui/format";
import { Empty, Shown } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { Say } from "../../ui/i18n";
import type { Effect, Figure, Week } from "./types";
import { places, Told } from "./labels";

const DAY = 86_400_000;
const at = (week: Week) => Date.parse(week.week) / DAY / 7; // weeks, Mondays apart by whole ones
const date = (value: number) => new Date(value * DAY * 7).toISOString().slice(0, 10);

export function OverTime({ model }: { model: string }) {
  const asked = useAsk<{ effects: Effect[] }>(`/v1/effects?model=${encodeURIComponent(model)}&by=week`);
  return (
    <section class="stack">
      <h2><Say en="Over time" zh="随时间变化" /></h2>
      <Shown of={asked}>
        {({ effects }) => effects.length ? <>{effects.map((effect) => <One key={effect.version} effect={effect} />)}</> : (
          <Empty en="Your institution has asked nothing of this model yet; what others asked is not shown here. Drift shows with the first answers, calibration with the first outcomes." zh="贵机构尚未使用该模型；其他机构的使用情况不在此显示。有答复后显示漂移，有结果后显示校准。" />
        )}
      </Shown>
    </section>
  );
}

function One({ effect }: { effect: Effect }) {
  const many = effect.decisions ?? effect.slides ?? 0;
  const psi = line("psi", "score", "评分", "first", effect.series, (week) => week.psi);
  const rate = line("rate", effect.kind === "slides" ? "flagged" : "approved", effect.kind === "slides" ? "标记" : "批准", "first", effect.series, (week) => week.positive_rate);
  const ratio = line("ratio", "seen / stated", "实际/预测", "second", effect.series, (week) => week.ratio);
  const weeks = effect.series.map(at);
  const first = weeks[0] ?? 0, last = weeks.at(-1) ?? first;
  const whole = (value: number) => Number.isInteger(value);
  const x = {
    en: "week from", zh: "周（起始日）", domain: [-0.5, last - first + 0.5] as [number, number], ticks: Math.min(6, Math.max(2, last - first + 1)),
    told: (value: number) => (whole(value) ? date(value + first).slice(5) : ""),
  };
  const live = effect.calibration?.groups ?? [];
  const most = Math.min(1, 1.05 * Math.max(0.01, ...live.flatMap((one) => [one.pd, one.high])));
  const drifted = effect.drift?.inputs.filter((one) => one.drifted) ?? [];
  return (
    <article class="card stack">
      <div class="model-head">
        <h3>{effect.version}</h3>
        <span class="quiet"><Say en={`${number(many)} ${effect.kind === "slides" ? "slides" : "decisions"} · ${number(effect.outcomes?.total ?? 0)} outcomes`} zh={`${number(many)} ${effect.kind === "slides" ? "张切片" : "项决定"} · ${number(effect.outcomes?.total ?? 0)} 项结果`} /> · AUC <Told of={effect.auc} /></span>
      </div>
      <div class="plots three">
        {psi.points.length ? <Lines title={["Drift of the score", "评分漂移"]} note={["Population stability index against training; 0 is no change.", "相对训练数据的总体稳定性指数（PSI）；0 为无变化。"]} lines={[psi]} x={x} y={{ en: "PSI", zh: "PSI", domain: [0, 1.1 * Math.max(0.25, ...psi.points.map((point) => point.y))], told: (value) => value.toFixed(2) }} behind={behind(psi, first, "PSI", "PSI")} /> : null}
        {rate.points.length ? <Lines title={effect.kind === "slides" ? ["Share flagged", "标记比例"] : ["Share approved", "批准比例"]} note={["With 95 % intervals.", "含 95 % 置信区间。"]} lines={[rate]} x={x} y={{ en: "share", zh: "比例", domain: [0, 1], told: (value) => percent(value, 0) }} behind={behind(rate, first, "Share", "比例")} /> : null}
        {ratio.points.length ? <Lines title={["Calibration: seen over stated", "校准：实际/预测"]} note={["1 is perfect; above it, more defaulted than was stated.", "1 为最佳；高于 1 表示违约多于预测。"]} lines={[ratio]} x={x} y={{ en: "ratio", zh: "比值" }} behind={behind(ratio, first, "Ratio", "比值")} /> : null}
        {live.length ? <Lines square title={["Stated and seen, in service", "在线校准"]} lines={[{ key: "live", en: "in service", zh: "在线", points: live.map((one) => ({ x: one.pd, y: one.bad, low: one.low, high: Math.min(most, one.high) })) }]} diagonal x={{ en: "stated probability of default", zh: "预测违约率", domain: [0, most], told: (value) => percent(value, 0) }} y={{ en: "share seen", zh: "实际比例", domain: [0, most], told: (value) => percent(value, 0) }} /> : null}
      </div>
      {effect.drift ? (
        <details class="behind">
          <summary>{drifted.length ? <Say en={`${drifted.length} of ${effect.drift.inputs.length} indicators drifted`} zh={`${effect.drift.inputs.length} 个指标中有 ${drifted.length} 个漂移`} /> : <Say en={`None of ${effect.drift.inputs.length} indicators drifted`} zh={`${effect.drift.inputs.length} 个指标均无漂移`} />}</summary>
          <Table caption={["Drift by indicator, largest first", "各指标漂移，从大到小"]} rows={[...effect.drift.inputs].sort((a, b) => b.psi - a.psi).slice(0, 15)} keyOf={(one) => one.name} columns={[
            { en: "Indicator", zh: "指标", cell: (one) => <Say en={one.en} zh={one.zh || one.en} /> },
            { en: "PSI", zh: "PSI", number: true, cell: (one) => places(one.psi) },
            { en: "By chance up to", zh: "随机上限", number: true, cell: (one) => places(one.threshold) },
            { en: "Drifted", zh: "漂移", cell: (one) => one.drifted ? <span class="chip warn"><Say en="drifted" zh="漂移" /></span> : <span class="chip"><Say en="no" zh="否" /></span> },
          ]} />
        </details>
      ) : null}
      {effect.remarks.length ? <ul class="remarks quiet">{effect.remarks.map((one) => <li key={one.code}><Say en={one.en} zh={one.zh} /></li>)}</ul> : null}
    </article>
  );
}

function line(key: string, en: string, zh: string, look: Line["look"], series: Week[], of: (week: Week) => Figure | number | null | undefined): Line {
  const first = series[0] ? at(series[0]) : 0;
  const points = series.flatMap((week) => {
    const found = of(week);
    if (found === null || found === undefined) return [];
    if (typeof found === "number") return [{ x: at(week) - first, y: found }];
    return found.value === null ? [] : [{ x: at(week) - first, y: found.value, low: found.low ?? found.value, high: found.high ?? found.value }];
  });
  return { key, en, zh, look, points };
}

const behind = (of: Line, first: number, en: string, zh: string) => ({
  heads: [["Week from", "周（起始日）"], [en, zh]] as (readonly [string, string])[],
  rows: of.points.map((point) => [date(point.x + first), point.low === undefined ? places(point.y) : `${places(point.y)} [${places(point.low)}, ${places(point.high)}]`]),
});

// Weekly monitoring of a model: score drift, approval rate, and calibration against outcomes.

import { useResource } from "../../ui/api";
import { LineChart, type Line } from "../../ui/chart/line-chart";
import { formatNumber, formatPercent } from "../../ui/format";
import { Empty, ResourceView } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { Text, type Bilingual } from "../../ui/i18n";
import type { Effect, Estimate, Week } from "./types";
import { formatDecimal, EstimateText } from "./labels";

const DAY = 86_400_000;
const weekNumber = (week: Week) => Date.parse(week.week) / DAY / 7; // in weeks; Mondays differ by whole numbers
const weekDate = (value: number) => new Date(value * DAY * 7).toISOString().slice(0, 10);

export function Monitoring({ model }: { model: string }) {
  const resource = useResource<{ effects: Effect[] }>(`/v1/effects?model=${encodeURIComponent(model)}&by=week`);
  return (
    <section class="stack">
      <h2><Text en="Over time" zh="随时间变化" /></h2>
      <ResourceView resource={resource}>
        {({ effects }) => effects.length ? <>{effects.map((effect) => <EffectCard key={effect.version} effect={effect} />)}</> : (
          <Empty en="Your institution has not used this model yet; use by other institutions is not shown here. Drift appears with the first decisions, calibration with the first outcomes." zh="贵机构尚未使用该模型；其他机构的使用情况不在此显示。产生决定后显示漂移，获得实际结果后显示校准。" />
        )}
      </ResourceView>
    </section>
  );
}

function EffectCard({ effect }: { effect: Effect }) {
  const count = effect.decisions ?? effect.slides ?? 0;
  const psi = weeklyLine("psi", "score", "评分", "first", effect.series, (week) => week.psi);
  const rate = weeklyLine("rate", effect.kind === "slides" ? "flagged" : "approved", effect.kind === "slides" ? "标记" : "批准", "first", effect.series, (week) => week.positive_rate);
  const ratio = weeklyLine("ratio", "observed / predicted", "实际/预测", "second", effect.series, (week) => week.ratio);
  const weeks = effect.series.map(weekNumber);
  const first = weeks[0] ?? 0, last = weeks.at(-1) ?? first;
  const isWhole = (value: number) => Number.isInteger(value);
  const x = {
    en: "week from", zh: "周（起始日）", domain: [-0.5, last - first + 0.5] as [number, number], ticks: Math.min(6, Math.max(2, last - first + 1)),
    format: (value: number) => (isWhole(value) ? weekDate(value + first).slice(5) : ""),
  };
  const groups = effect.calibration?.groups ?? [];
  const max = Math.min(1, 1.05 * Math.max(0.01, ...groups.flatMap((item) => [item.pd, item.high])));
  const drifted = effect.drift?.inputs.filter((item) => item.drifted) ?? [];
  return (
    <article class="card stack">
      <div class="model-head">
        <h3>{effect.version}</h3>
        <span class="quiet"><Text en={`${formatNumber(count)} ${effect.kind === "slides" ? "slides" : "decisions"} · ${formatNumber(effect.outcomes?.total ?? 0)} outcomes`} zh={`${formatNumber(count)} ${effect.kind === "slides" ? "张切片" : "项决定"} · ${formatNumber(effect.outcomes?.total ?? 0)} 项结果`} /> · AUC <EstimateText estimate={effect.auc} /></span>
      </div>
      <div class="plots three">
        {psi.points.length ? <LineChart title={["Drift of the score", "评分漂移"]} note={["Population stability index relative to training; 0 means no change.", "相对训练数据的总体稳定性指数（PSI）；0 为无变化。"]} lines={[psi]} x={x} y={{ en: "PSI", zh: "PSI", domain: [0, 1.1 * Math.max(0.25, ...psi.points.map((point) => point.y))], format: (value) => value.toFixed(2) }} table={weeklyTable(psi, first, "PSI", "PSI")} /> : null}
        {rate.points.length ? <LineChart title={effect.kind === "slides" ? ["Share flagged", "标记比例"] : ["Share approved", "批准比例"]} note={["With 95 % intervals.", "含 95% 置信区间。"]} lines={[rate]} x={x} y={{ en: "share", zh: "比例", domain: [0, 1], format: (value) => formatPercent(value, 0) }} table={weeklyTable(rate, first, "Share", "比例")} /> : null}
        {ratio.points.length ? <LineChart title={["Calibration: observed over predicted", "校准：实际/预测"]} note={["1 is perfect; above 1, more applicants defaulted than predicted.", "1 为最佳；高于 1 表示实际违约多于预测。"]} lines={[ratio]} x={x} y={{ en: "ratio", zh: "比值" }} table={weeklyTable(ratio, first, "Ratio", "比值")} /> : null}
        {groups.length ? <LineChart square title={["Calibration in service", "在线校准"]} lines={[{ key: "live", en: "in service", zh: "在线", points: groups.map((item) => ({ x: item.pd, y: item.bad, low: item.low, high: Math.min(max, item.high) })) }]} diagonal x={{ en: "predicted probability of default", zh: "预测违约概率", domain: [0, max], format: (value) => formatPercent(value, 0) }} y={{ en: "observed share", zh: "实际比例", domain: [0, max], format: (value) => formatPercent(value, 0) }} /> : null}
      </div>
      {effect.drift ? (
        <details class="figure-data">
          <summary>{drifted.length ? <Text en={`${drifted.length} of ${effect.drift.inputs.length} indicators drifted`} zh={`${effect.drift.inputs.length} 个指标中有 ${drifted.length} 个漂移`} /> : <Text en={`None of ${effect.drift.inputs.length} indicators drifted`} zh={`${effect.drift.inputs.length} 个指标均无漂移`} />}</summary>
          <Table caption={["Drift by indicator, largest first", "各指标漂移，从大到小"]} rows={[...effect.drift.inputs].sort((a, b) => b.psi - a.psi).slice(0, 15)} keyOf={(item) => item.name} columns={[
            { en: "Indicator", zh: "指标", cell: (item) => <Text en={item.en} zh={item.zh || item.en} /> },
            { en: "PSI", zh: "PSI", number: true, cell: (item) => formatDecimal(item.psi) },
            { en: "Expected by chance, at most", zh: "随机波动上限", number: true, cell: (item) => formatDecimal(item.threshold) },
            { en: "Drifted", zh: "漂移", cell: (item) => item.drifted ? <span class="chip warn"><Text en="drifted" zh="漂移" /></span> : <span class="chip"><Text en="no" zh="否" /></span> },
          ]} />
        </details>
      ) : null}
      {effect.remarks.length ? <ul class="remarks quiet">{effect.remarks.map((item) => <li key={item.code}><Text en={item.en} zh={item.zh} /></li>)}</ul> : null}
    </article>
  );
}

function weeklyLine(key: string, en: string, zh: string, variant: Line["variant"], series: Week[], select: (week: Week) => Estimate | number | null | undefined): Line {
  const first = series[0] ? weekNumber(series[0]) : 0;
  const points = series.flatMap((week) => {
    const value = select(week);
    if (value === null || value === undefined) return [];
    if (typeof value === "number") return [{ x: weekNumber(week) - first, y: value }];
    return value.value === null ? [] : [{ x: weekNumber(week) - first, y: value.value, low: value.low ?? value.value, high: value.high ?? value.value }];
  });
  return { key, en, zh, variant, points };
}

const weeklyTable = (series: Line, first: number, en: string, zh: string) => ({
  headers: [["Week from", "周（起始日）"], [en, zh]] as (Bilingual)[],
  rows: series.points.map((point) => [weekDate(point.x + first), point.low === undefined ? formatDecimal(point.y) : `${formatDecimal(point.y)} [${formatDecimal(point.low)}, ${formatDecimal(point.high)}]`]),
});

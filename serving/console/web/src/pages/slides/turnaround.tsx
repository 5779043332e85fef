// The figures above the worklist: slides by state, and the turnaround times of recent weeks.

import { scaleLog } from "d3-scale";
import type { Resource } from "../../ui/api";
import { Figure } from "../../ui/chart/figure";
import { formatNumber } from "../../ui/format";
import { ResourceView } from "../../ui/feedback";
import { language, translate, Text, labelOf } from "../../ui/i18n";
import { STATES } from "./labels";

interface DurationStats {
  slides: number;
  median_seconds: number | null;
  p90_seconds: number | null;
  waiting: number;
  longest_wait_seconds: number | null;
}

export interface Turnaround {
  days: number;
  slides: number;
  states: Record<string, number>;
  awaiting: number;
  to_reading: DurationStats;
  to_signature: DurationStats;
}

// Groups of states for display, in the order of a slide's life cycle.
const STATE_GROUPS: { key: string; en: string; zh: string; states: string[] }[] = [
  { key: "in-progress", en: "In progress", zh: "处理中", states: ["uploading", "verifying", "awaiting_scale", "deidentified", "quality_passed", "queued", "inferring", "aggregating"] },
  { key: "awaiting-review", en: "Awaiting review", zh: "待审核", states: [] }, // slides that were read, as counted by the service
  { key: "in-review", en: "In review", zh: "审核中", states: ["in_review"] },
  { key: "signed", en: "Signed", zh: "已签发", states: ["signed", "amended"] },
  { key: "not-sampled", en: "Negative, not sampled", zh: "阴性未抽检", states: ["ready", "abstained"] }, // less those that wait for a pathologist
  { key: "not-read", en: "Not read", zh: "未判读", states: ["quality_failed", "failed", "cancelled"] },
];

const OPEN_GROUPS = ["in-progress", "awaiting-review", "in-review"]; // shown in the bar, which signed slides would soon fill

const UNITS: [number, string, string, number][] = [[86_400, "d", "天", 2], [3_600, "h", "小时", 1], [60, "min", "分钟", 1], [0, "s", "秒", 1]];

// In the largest unit that fits; in hours up to two days.
function duration(seconds: number): { en: string; zh: string } {
  const [size, en, zh] = UNITS.find(([size, , , minCount]) => seconds >= size * minCount) ?? UNITS[3]!;
  const value = seconds / (size || 1);
  const text = formatNumber(value < 10 && size >= 3_600 ? Math.round(10 * value) / 10 : Math.round(value), 1).replace(".0", "");
  return { en: `${text} ${en}`, zh: `${text} ${zh}` };
}

const durationOrDash = (seconds: number | null) => (seconds === null ? "–" : <Text {...duration(seconds)} />);
const tickLabel = (seconds: number) => duration(seconds)[language.value === "zh" ? "zh" : "en"]; // in one language: there is no room for both

export function TurnaroundCard({ resource }: { resource: Resource<Turnaround> }) {
  return (
    <section class="card figures" aria-label={translate("Turnaround", "周转情况")}>
      <ResourceView resource={resource}>{(turnaround) => <><StateCounts turnaround={turnaround} /><DurationChart turnaround={turnaround} /></>}</ResourceView>
    </section>
  );
}

function StateCounts({ turnaround }: { turnaround: Turnaround }) {
  const corrections: Record<string, number> = { "awaiting-review": turnaround.awaiting, "not-sampled": -turnaround.awaiting };
  const counts = STATE_GROUPS.map((group) => ({ ...group, count: group.states.reduce((sum, state) => sum + (turnaround.states[state] ?? 0), corrections[group.key] ?? 0) }));
  const openGroups = counts.filter(({ key }) => OPEN_GROUPS.includes(key));
  const total = openGroups.reduce((sum, group) => sum + group.count, 0);
  const rows = Object.entries(turnaround.states).map(([state, count]) => [labelOf(STATES, state), formatNumber(count)]);
  let offset = 0;
  return (
    <Figure title={["Slides by state", "切片状态分布"]} table={{ headers: [["State", "状态"], ["Slides", "切片数"]], rows }}>
      <svg class="stacked" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        {total ? openGroups.map(({ key, count }) => {
          const start = offset;
          offset += (100 * count) / total;
          return count ? <rect key={key} class={key} x={start} width={offset - start} y="0" height="4" /> : null;
        }) : <rect class="none" x="0" width="100" y="0" height="4" />}
      </svg>
      <dl class="state-counts">
        {counts.map(({ key, en, zh, count }) => <div key={key} class={key}><dt><i aria-hidden="true" /><Text en={en} zh={zh} /></dt><dd>{formatNumber(count)}</dd></div>)}
      </dl>
    </Figure>
  );
}

const WIDTH = 320, MARGIN = 22, HEIGHT = 26, AXIS_HEIGHT = 16;
const TICKS = [1, 10, 60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400];

function DurationChart({ turnaround }: { turnaround: Turnaround }) {
  const rows: [string, string, DurationStats][] = [["Arrival to reading", "接收至判读", turnaround.to_reading], ["Arrival to signature", "接收至签发", turnaround.to_signature]];
  const known = rows.flatMap(([, , { median_seconds: median, p90_seconds: p90 }]) => (median === null || p90 === null ? [] : [median, p90]));
  const table = {
    headers: [["Span", "区间"], ["Slides", "切片数"], ["Median", "中位数"], ["90 % within", "90% 以内"], ["Waiting", "等待中"], ["Longest wait", "最长等待"]] as [string, string][],
    rows: rows.map(([en, zh, seconds]) => [<Text en={en} zh={zh} />, formatNumber(seconds.slides), durationOrDash(seconds.median_seconds), durationOrDash(seconds.p90_seconds), formatNumber(seconds.waiting), durationOrDash(seconds.longest_wait_seconds)]),
  };
  const title = [`Turnaround times, last ${turnaround.days} days`, `近 ${turnaround.days} 天周转时间`] as const;
  if (!known.length) {
    return (
      <Figure title={title} table={table}>
        <p class="quiet"><Text en="No recently received slide has been read yet." zh="近期接收的切片均尚未判读。" /></p>
        {rows.map(([en, zh, stats]) => (stats.waiting ? <p key={en}><Text en={en} zh={zh} /> <small><WaitingText stats={stats} /></small></p> : null))}
      </Figure>
    );
  }
  const low = TICKS.filter((seconds) => seconds <= Math.max(1, Math.min(...known))).at(-1)!;
  const high = TICKS.find((seconds) => seconds >= Math.max(...known)) ?? Math.max(...known);
  const scale = scaleLog([low, high > low ? high : 10 * low], [MARGIN, WIDTH - MARGIN]).clamp(true);
  const ticks = TICKS.filter((seconds) => seconds >= low && seconds <= high);
  return (
    <Figure title={title} table={table}>
      <div class="spans">
        {rows.map(([en, zh, stats]) => (
          <div key={en}>
            <p><Text en={en} zh={zh} /><small>{durationText(stats)}</small><small><WaitingText stats={stats} /></small></p>
            <DurationBar stats={stats} scale={scale} ticks={ticks} />
          </div>
        ))}
        <div aria-hidden="true">
          <p />
          <svg class="plot" viewBox={`0 0 ${WIDTH} ${AXIS_HEIGHT}`}>{ticks.map((seconds) => <text key={seconds} x={scale(seconds)} y="12" text-anchor="middle">{tickLabel(seconds)}</text>)}</svg>
        </div>
      </div>
    </Figure>
  );
}

// The times only cover finished slides; this states how many are still waiting.
function WaitingText({ stats: { waiting, longest_wait_seconds: longest } }: { stats: DurationStats }) {
  if (!waiting || longest === null) return <Text en="none waiting" zh="无等待" />;
  const { en, zh } = duration(longest);
  return <Text en={`${formatNumber(waiting)} waiting, longest ${en}`} zh={`${formatNumber(waiting)} 例等待中，最长 ${zh}`} />;
}

function durationText({ median_seconds: median, p90_seconds: p90 }: DurationStats) {
  if (median === null || p90 === null) return <Text en="none yet" zh="暂无" />;
  const [medianText, p90Text] = [duration(median), duration(p90)];
  return <Text en={`median ${medianText.en}, 90 % within ${p90Text.en}`} zh={`中位数 ${medianText.zh}，90% 在 ${p90Text.zh}内`} />;
}

function DurationBar({ stats: { median_seconds: median, p90_seconds: p90 }, scale, ticks }: { stats: DurationStats; scale: (seconds: number) => number; ticks: number[] }) {
  return (
    <svg class="plot times" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
      {ticks.map((seconds) => <line key={seconds} class="grid" x1={scale(seconds)} x2={scale(seconds)} y1="0" y2={HEIGHT} />)}
      {median === null || p90 === null ? null : (
        <>
          <line class="span" x1={scale(median)} x2={scale(p90)} y1={HEIGHT / 2} y2={HEIGHT / 2} />
          <circle class="median" cx={scale(median)} cy={HEIGHT / 2} r="5" />
          <circle class="p90" cx={scale(p90)} cy={HEIGHT / 2} r="4" />
        </>
      )}
    </svg>
  );
}

// Above the worklist: how many slides stand where, and how long the last weeks' took.

import { scaleLog } from "d3-scale";
import type { Asked } from "../../ui/api";
import { Figure } from "../../ui/chart/figure";
import { number } from "../../ui/format";
import { Shown } from "../../ui/feedback";
import { language, plain, Say, word } from "../../ui/i18n";
import { STATES } from "./labels";

interface Spread {
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
  to_reading: Spread;
  to_signature: Spread;
}

// Groups of states as people see them, in the order of a slide's life.
const GROUPS: { key: string; en: string; zh: string; states: string[] }[] = [
  { key: "way", en: "On the way", zh: "处理中", states: ["uploading", "verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating"] },
  { key: "waits", en: "Await a pathologist", zh: "待审核", states: [] }, // of those read, as the service counts them
  { key: "review", en: "With a pathologist", zh: "审核中", states: ["in_review"] },
  { key: "done", en: "Signed", zh: "已签发", states: ["signed", "amended"] },
  { key: "calm", en: "Negative, not drawn", zh: "阴性未抽检", states: ["ready", "abstained"] }, // less those that wait
  { key: "ended", en: "Not read", zh: "未判读", states: ["quality_failed", "failed", "cancelled"] },
];

const OPEN = ["way", "waits", "review"]; // what the bar shows: signed ones would soon fill it

const UNITS: [number, string, string, number][] = [[86_400, "d", "天", 2], [3_600, "h", "小时", 1], [60, "min", "分钟", 1], [0, "s", "秒", 1]];

// In the largest unit of which there is one; hours up to two days.
function duration(seconds: number): { en: string; zh: string } {
  const [size, en, zh] = UNITS.find(([size, , , least]) => seconds >= size * least) ?? UNITS[3]!;
  const value = seconds / (size || 1);
  const told = number(value < 10 && size >= 3_600 ? Math.round(10 * value) / 10 : Math.round(value), 1).replace(".0", "");
  return { en: `${told} ${en}`, zh: `${told} ${zh}` };
}

const maybe = (seconds: number | null) => (seconds === null ? "–" : <Say {...duration(seconds)} />);
const tick = (seconds: number) => duration(seconds)[language.value === "zh" ? "zh" : "en"]; // short, where there is no room for both

export function Figures({ of }: { of: Asked<Turnaround> }) {
  return (
    <section class="card figures" aria-label={plain("Turnaround", "周转情况")}>
      <Shown of={of}>{(told) => <><Standing told={told} /><Times told={told} /></>}</Shown>
    </section>
  );
}

function Standing({ told }: { told: Turnaround }) {
  const apart: Record<string, number> = { waits: told.awaiting, calm: -told.awaiting };
  const counts = GROUPS.map((group) => ({ ...group, count: group.states.reduce((sum, state) => sum + (told.states[state] ?? 0), apart[group.key] ?? 0) }));
  const open = counts.filter(({ key }) => OPEN.includes(key));
  const all = open.reduce((sum, group) => sum + group.count, 0);
  const rows = Object.entries(told.states).map(([state, count]) => [word(STATES, state), number(count)]);
  let at = 0;
  return (
    <Figure title={["Where the slides are", "切片所处阶段"]} behind={{ heads: [["State", "状态"], ["Slides", "切片数"]], rows }}>
      <svg class="stacked" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        {all ? open.map(({ key, count }) => {
          const from = at;
          at += (100 * count) / all;
          return count ? <rect key={key} class={key} x={from} width={at - from} y="0" height="4" /> : null;
        }) : <rect class="none" x="0" width="100" y="0" height="4" />}
      </svg>
      <dl class="standing">
        {counts.map(({ key, en, zh, count }) => <div key={key} class={key}><dt><i aria-hidden="true" /><Say en={en} zh={zh} /></dt><dd>{number(count)}</dd></div>)}
      </dl>
    </Figure>
  );
}

const WIDE = 320, EDGE = 22, TALL = 26, AXIS = 16;
const TICKS = [1, 10, 60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400, 30 * 86_400];

function Times({ told }: { told: Turnaround }) {
  const rows: [string, string, Spread][] = [["Arrival to reading", "到达至判读", told.to_reading], ["Arrival to signature", "到达至签发", told.to_signature]];
  const known = rows.flatMap(([, , { median_seconds: median, p90_seconds: late }]) => (median === null || late === null ? [] : [median, late]));
  const behind = {
    heads: [["Span", "区间"], ["Slides", "切片数"], ["Median", "中位数"], ["90 % within", "90% 以内"], ["Still wait", "仍在等待"], ["Longest wait", "最长等待"]] as [string, string][],
    rows: rows.map(([en, zh, each]) => [<Say en={en} zh={zh} />, number(each.slides), maybe(each.median_seconds), maybe(each.p90_seconds), number(each.waiting), maybe(each.longest_wait_seconds)]),
  };
  const title = [`Turnaround of the last ${told.days} days`, `近 ${told.days} 天周转时间`] as const;
  if (!known.length) {
    return (
      <Figure title={title} behind={behind}>
        <p class="quiet"><Say en="No slide that came in these days has been read yet." zh="近期到达的切片尚无判读。" /></p>
        {rows.map(([en, zh, spread]) => (spread.waiting ? <p key={en}><Say en={en} zh={zh} /> <small><Waits of={spread} /></small></p> : null))}
      </Figure>
    );
  }
  const low = TICKS.filter((each) => each <= Math.max(1, Math.min(...known))).at(-1)!;
  const high = TICKS.find((each) => each >= Math.max(...known)) ?? Math.max(...known);
  const along = scaleLog([low, high > low ? high : 10 * low], [EDGE, WIDE - EDGE]).clamp(true);
  const ticks = TICKS.filter((each) => each >= low && each <= high);
  return (
    <Figure title={title} behind={behind}>
      <div class="spans">
        {rows.map(([en, zh, spread]) => (
          <div key={en}>
            <p><Say en={en} zh={zh} /><small>{words(spread)}</small><small><Waits of={spread} /></small></p>
            <Span spread={spread} along={along} ticks={ticks} />
          </div>
        ))}
        <div aria-hidden="true">
          <p />
          <svg class="plot" viewBox={`0 0 ${WIDE} ${AXIS}`}>{ticks.map((each) => <text key={each} x={along(each)} y="12" text-anchor="middle">{tick(each)}</text>)}</svg>
        </div>
      </div>
    </Figure>
  );
}

// The times are of those that are done: beside them, who is not.
function Waits({ of: { waiting, longest_wait_seconds: longest } }: { of: Spread }) {
  if (!waiting || longest === null) return <Say en="none waits" zh="无等待" />;
  const { en, zh } = duration(longest);
  return <Say en={`${number(waiting)} still wait${waiting === 1 ? "s" : ""}, the longest for ${en}`} zh={`${number(waiting)} 例仍在等待，最长已 ${zh}`} />;
}

function words({ median_seconds: median, p90_seconds: late }: Spread) {
  if (median === null || late === null) return <Say en="none yet" zh="暂无" />;
  const [half, most] = [duration(median), duration(late)];
  return <Say en={`median ${half.en}, 90 % within ${most.en}`} zh={`中位数 ${half.zh}，90% 在 ${most.zh}内`} />;
}

function Span({ spread: { median_seconds: median, p90_seconds: late }, along, ticks }: { spread: Spread; along: (seconds: number) => number; ticks: number[] }) {
  return (
    <svg class="plot times" viewBox={`0 0 ${WIDE} ${TALL}`} aria-hidden="true">
      {ticks.map((each) => <line key={each} class="grid" x1={along(each)} x2={along(each)} y1="0" y2={TALL} />)}
      {median === null || late === null ? null : (
        <>
          <line class="span" x1={along(median)} x2={along(late)} y1={TALL / 2} y2={TALL / 2} />
          <circle class="median" cx={along(median)} cy={TALL / 2} r="5" />
          <circle class="late" cx={along(late)} cy={TALL / 2} r="4" />
        </>
      )}
    </svg>
  );
}

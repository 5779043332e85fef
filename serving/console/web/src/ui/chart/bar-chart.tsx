// Diverging bars: each with its words on the left, from a common zero; what helps to the right, what hurts to the left.

import { scaleLinear } from "d3-scale";
import { signed } from "../format";
import { Figure } from "./figure";
import { plain, Say } from "../i18n";

export interface Bar {
  key: string;
  en: string;
  zh: string;
  value: number;
}

export function Bars({ title, note, bars, unit }: {
  title: readonly [string, string];
  note?: readonly [string, string];
  bars: Bar[];
  unit: readonly [string, string];
}) {
  const most = Math.max(1e-9, ...bars.map((bar) => Math.abs(bar.value)));
  const along = scaleLinear([-most, most], [4, 196]);
  const behind = { heads: [["Reason", "原因"], unit] as const, rows: bars.map((bar) => [<Say en={bar.en} zh={bar.zh} />, signed(bar.value)]) };
  return (
    <Figure title={title} note={note} behind={{ heads: [...behind.heads], rows: behind.rows }}>
      <ul class="bars" aria-label={plain(...title)}>
        {bars.map((bar) => (
          <li key={bar.key}>
            <span class="words"><Say en={bar.en} zh={bar.zh} /></span>
            <svg viewBox="0 0 200 16" preserveAspectRatio="none" aria-hidden="true">
              <line x1={along(0)} x2={along(0)} y1="0" y2="16" class="zero" />
              <rect x={Math.min(along(0), along(bar.value))} width={Math.max(0.5, Math.abs(along(bar.value) - along(0)))} y="3" height="10" class={bar.value < 0 ? "hurts" : "helps"} />
            </svg>
            <b class={bar.value < 0 ? "hurts" : "helps"}>{signed(bar.value)}</b>
          </li>
        ))}
      </ul>
    </Figure>
  );
}

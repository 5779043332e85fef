// Diverging bar chart: label on the left, positive values to the right of a common zero, negative ones to the left.

import { scaleLinear } from "d3-scale";
import { formatSigned } from "../format";
import { Figure } from "./figure";
import { translate, Text, type Bilingual } from "../i18n";

export interface Bar {
  key: string;
  en: string;
  zh: string;
  value: number;
}

export function BarChart({ title, note, bars, unit }: {
  title: Bilingual;
  note?: Bilingual;
  bars: Bar[];
  unit: Bilingual;
}) {
  const max = Math.max(1e-9, ...bars.map((bar) => Math.abs(bar.value)));
  const scale = scaleLinear([-max, max], [4, 196]);
  const table = { headers: [["Reason", "原因"], unit] as const, rows: bars.map((bar) => [<Text en={bar.en} zh={bar.zh} />, formatSigned(bar.value)]) };
  return (
    <Figure title={title} note={note} table={{ headers: [...table.headers], rows: table.rows }}>
      <ul class="bars" aria-label={translate(...title)}>
        {bars.map((bar) => (
          <li key={bar.key}>
            <span class="label"><Text en={bar.en} zh={bar.zh} /></span>
            <svg viewBox="0 0 200 16" preserveAspectRatio="none" aria-hidden="true">
              <line x1={scale(0)} x2={scale(0)} y1="0" y2="16" class="zero" />
              <rect x={Math.min(scale(0), scale(bar.value))} width={Math.max(0.5, Math.abs(scale(bar.value) - scale(0)))} y="3" height="10" class={bar.value < 0 ? "hurts" : "helps"} />
            </svg>
            <b class={bar.value < 0 ? "hurts" : "helps"}>{formatSigned(bar.value)}</b>
          </li>
        ))}
      </ul>
    </Figure>
  );
}

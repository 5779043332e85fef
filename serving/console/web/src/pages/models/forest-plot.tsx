// Forest plot: estimates with their intervals, one per row, and reference lines.

import { scaleLinear } from "d3-scale";
import type { ComponentChildren } from "preact";
import { Figure } from "../../ui/chart/figure";
import type { Estimate } from "./types";
import { formatDecimal, EstimateText } from "./labels";
import type { Bilingual } from "../../ui/i18n";

export interface Row {
  key: string;
  label: ComponentChildren;
  estimate: Estimate;
  variant?: "first" | "second" | "soft" | "bad";
}

const TICKS = 4;

export function ForestPlot({ title, note, rows, headers, marks = [], domain }: {
  title: Bilingual;
  note?: Bilingual;
  rows: Row[];
  headers: (Bilingual)[];
  marks?: { value: number; variant: "parity" | "minimum" }[];
  domain?: [number, number];
}) {
  const known = rows.filter((row) => row.estimate.value !== null);
  const bounds = known.flatMap(({ estimate }) => [estimate.low ?? estimate.value!, estimate.high ?? estimate.value!]).concat(marks.map((mark) => mark.value));
  const scale = scaleLinear(domain ?? [Math.min(...bounds), Math.max(...bounds)], [6, 194]);
  if (!domain) scale.nice(TICKS);
  return (
    <Figure title={title} note={note} table={{ headers, rows: known.map((row) => [row.label, <EstimateText estimate={row.estimate} />]) }}>
      <ul class="forest">
        {known.map(({ key, label, estimate, variant = "first" }) => (
          <li key={key} class={variant}>
            <span class="label">{label}</span>
            <svg viewBox="0 0 200 18" preserveAspectRatio="none" aria-hidden="true">
              {marks.map((mark) => <line key={mark.value} class={mark.variant} x1={scale(mark.value)} x2={scale(mark.value)} y1="0" y2="18" />)}
              <line class="whisker" x1={scale(estimate.low ?? estimate.value!)} x2={scale(estimate.high ?? estimate.value!)} y1="9" y2="9" />
              <line class="dot" x1={scale(estimate.value!)} x2={scale(estimate.value!)} y1="9" y2="9" />
            </svg>
            <b>{formatDecimal(estimate.value)}</b>
          </li>
        ))}
        <li class="scale" aria-hidden="true"><span /><span class="ends">{scale.ticks(TICKS).map((tick) => <i key={tick}>{formatDecimal(tick, 2)}</i>)}</span><span /></li>
      </ul>
    </Figure>
  );
}

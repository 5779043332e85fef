// Forest plot: figures with their intervals, one per row, and reference lines.

import { scaleLinear } from "d3-scale";
import type { ComponentChildren } from "preact";
import { Figure as Picture } from "../../ui/chart/figure";
import type { Figure } from "./types";
import { formatDecimal, FigureWithInterval } from "./labels";
import type { Bilingual } from "../../ui/i18n";

export interface Row {
  key: string;
  label: ComponentChildren;
  figure: Figure;
  variant?: "first" | "second" | "soft" | "bad";
}

const TICKS = 4;

export function ForestPlot({ title, note, rows, headers, marks = [], domain }: {
  title: Bilingual;
  note?: Bilingual;
  rows: Row[];
  headers: (Bilingual)[];
  marks?: { value: number; variant: "even" | "least" }[];
  domain?: [number, number];
}) {
  const known = rows.filter((row) => row.figure.value !== null);
  const bounds = known.flatMap(({ figure }) => [figure.low ?? figure.value!, figure.high ?? figure.value!]).concat(marks.map((mark) => mark.value));
  const scale = scaleLinear(domain ?? [Math.min(...bounds), Math.max(...bounds)], [6, 194]);
  if (!domain) scale.nice(TICKS);
  return (
    <Picture title={title} note={note} table={{ headers, rows: known.map((row) => [row.label, <FigureWithInterval figure={row.figure} />]) }}>
      <ul class="forest">
        {known.map(({ key, label, figure, variant = "first" }) => (
          <li key={key} class={variant}>
            <span class="words">{label}</span>
            <svg viewBox="0 0 200 18" preserveAspectRatio="none" aria-hidden="true">
              {marks.map((mark) => <line key={mark.value} class={mark.variant} x1={scale(mark.value)} x2={scale(mark.value)} y1="0" y2="18" />)}
              <line class="whisker" x1={scale(figure.low ?? figure.value!)} x2={scale(figure.high ?? figure.value!)} y1="9" y2="9" />
              <line class="dot" x1={scale(figure.value!)} x2={scale(figure.value!)} y1="9" y2="9" />
            </svg>
            <b>{formatDecimal(figure.value)}</b>
          </li>
        ))}
        <li class="scale" aria-hidden="true"><span /><span class="ends">{scale.ticks(TICKS).map((tick) => <i key={tick}>{formatDecimal(tick, 2)}</i>)}</span><span /></li>
      </ul>
    </Picture>
  );
}

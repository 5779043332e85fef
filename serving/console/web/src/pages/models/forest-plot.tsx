// Figures with their intervals, one below the other, against a line that means something.

import { scaleLinear } from "d3-scale";
import type { ComponentChildren } from "preact";
import { Figure as Picture } from "../../ui/chart/figure";
import type { Figure } from "./types";
import { places, Told } from "./labels";

export interface Row {
  key: string;
  label: ComponentChildren;
  figure: Figure;
  look?: "first" | "second" | "soft" | "bad";
}

const TICKS = 4;

export function Forest({ title, note, rows, heads, marks = [], domain }: {
  title: readonly [string, string];
  note?: readonly [string, string];
  rows: Row[];
  heads: (readonly [string, string])[];
  marks?: { at: number; look: "even" | "least" }[];
  domain?: [number, number];
}) {
  const known = rows.filter((row) => row.figure.value !== null);
  const ends = known.flatMap(({ figure }) => [figure.low ?? figure.value!, figure.high ?? figure.value!]).concat(marks.map((mark) => mark.at));
  const along = scaleLinear(domain ?? [Math.min(...ends), Math.max(...ends)], [6, 194]);
  if (!domain) along.nice(TICKS);
  return (
    <Picture title={title} note={note} behind={{ heads, rows: known.map((row) => [row.label, <Told of={row.figure} />]) }}>
      <ul class="forest">
        {known.map(({ key, label, figure, look = "first" }) => (
          <li key={key} class={look}>
            <span class="words">{label}</span>
            <svg viewBox="0 0 200 18" preserveAspectRatio="none" aria-hidden="true">
              {marks.map((mark) => <line key={mark.at} class={mark.look} x1={along(mark.at)} x2={along(mark.at)} y1="0" y2="18" />)}
              <line class="whisker" x1={along(figure.low ?? figure.value!)} x2={along(figure.high ?? figure.value!)} y1="9" y2="9" />
              <line class="dot" x1={along(figure.value!)} x2={along(figure.value!)} y1="9" y2="9" />
            </svg>
            <b>{places(figure.value)}</b>
          </li>
        ))}
        <li class="scale" aria-hidden="true"><span /><span class="ends">{along.ticks(TICKS).map((tick) => <i key={tick}>{places(tick, 2)}</i>)}</span><span /></li>
      </ul>
    </Picture>
  );
}

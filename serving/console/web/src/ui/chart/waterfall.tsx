// Waterfall chart of an amount, one row per step: bounds from zero, additions, deductions and the total.

import { scaleLinear } from "d3-scale";
import { formatNumber } from "../format";
import { translate, Text, type Bilingual } from "../i18n";
import { Figure } from "./figure";

export interface WaterfallStep {
  key: string;
  en: string;
  zh: string;
  from: number;
  to: number;
  variant: "bound" | "total" | "up" | "down";
  mark?: Bilingual; // badge beside the amount, for example on the binding bound
}

const WIDTH = 300, MIN_WIDTH = 1.5;

export function Waterfall({ title, note, steps, unit }: {
  title: Bilingual;
  note?: Bilingual;
  steps: WaterfallStep[];
  unit: Bilingual;
}) {
  const segments = steps.filter((step) => step.variant !== "bound");
  const max = Math.max(1, ...steps.map((step) => Math.max(step.from, step.to)));
  const domainMax = Math.min(max, 2.5 * Math.max(1, ...segments.map((step) => Math.max(step.from, step.to)))); // a bound far beyond the amounts is truncated
  const scale = scaleLinear([0, domainMax], [0, WIDTH - 12]).clamp(true);
  const formatStep = (step: WaterfallStep) => `${step.variant === "up" ? "+" : step.variant === "down" ? "−" : ""}${formatNumber(Math.abs(step.to - step.from))}`;
  const table = { headers: [["Step", "步骤"] as const, unit], rows: steps.map((step) => [<Text en={step.en} zh={step.zh} />, formatStep(step)]) };
  return (
    <Figure title={title} note={note} table={table}>
      <ul class="waterfall" aria-label={translate(...title)}>
        {steps.map((step) => {
          const [low, high] = [Math.min(step.from, step.to), Math.max(step.from, step.to)];
          return (
            <li key={step.key} class={`${step.variant}${step.mark ? " marked" : ""}`}>
              <span class="label"><Text en={step.en} zh={step.zh} />{step.mark ? <span class="chip warn"><Text en={step.mark[0]} zh={step.mark[1]} /></span> : null}</span>
              <svg viewBox={`0 0 ${WIDTH} 18`} preserveAspectRatio="none" aria-hidden="true">
                <line class="zero" x1="0" x2="0" y1="0" y2="18" />
                <rect x={scale(low)} width={Math.max(MIN_WIDTH, scale(high) - scale(low))} y="3" height="12" rx="1" />
                {high > domainMax ? <path d={`M${WIDTH - 10} 3l8 6l-8 6z`} /> : null}
              </svg>
              <b>{formatStep(step)}</b>
            </li>
          );
        })}
      </ul>
    </Figure>
  );
}

// An amount built up step by step, one row a step: bounds from zero, what adds, what takes away, and the sum.

import { scaleLinear } from "d3-scale";
import { number } from "../format";
import { plain, Say } from "../i18n";
import { Figure } from "./figure";

export interface Step {
  key: string;
  en: string;
  zh: string;
  from: number;
  to: number;
  look: "bound" | "total" | "up" | "down";
  mark?: readonly [string, string]; // said beside the amount, of the one that binds
}

const WIDE = 300, LEAST = 1.5;

export function Waterfall({ title, note, steps, unit }: {
  title: readonly [string, string];
  note?: readonly [string, string];
  steps: Step[];
  unit: readonly [string, string];
}) {
  const built = steps.filter((step) => step.look !== "bound");
  const most = Math.max(1, ...steps.map((step) => Math.max(step.from, step.to)));
  const seen = Math.min(most, 2.5 * Math.max(1, ...built.map((step) => Math.max(step.from, step.to)))); // a far bound is cut off
  const along = scaleLinear([0, seen], [0, WIDE - 12]).clamp(true);
  const told = (step: Step) => `${step.look === "up" ? "+" : step.look === "down" ? "−" : ""}${number(Math.abs(step.to - step.from))}`;
  const behind = { heads: [["Step", "步骤"] as const, unit], rows: steps.map((step) => [<Say en={step.en} zh={step.zh} />, told(step)]) };
  return (
    <Figure title={title} note={note} behind={behind}>
      <ul class="waterfall" aria-label={plain(...title)}>
        {steps.map((step) => {
          const [low, high] = [Math.min(step.from, step.to), Math.max(step.from, step.to)];
          return (
            <li key={step.key} class={`${step.look}${step.mark ? " marked" : ""}`}>
              <span class="words"><Say en={step.en} zh={step.zh} />{step.mark ? <span class="chip warn"><Say en={step.mark[0]} zh={step.mark[1]} /></span> : null}</span>
              <svg viewBox={`0 0 ${WIDE} 18`} preserveAspectRatio="none" aria-hidden="true">
                <line class="zero" x1="0" x2="0" y1="0" y2="18" />
                <rect x={along(low)} width={Math.max(LEAST, along(high) - along(low))} y="3" height="12" rx="1" />
                {high > seen ? <path d={`M${WIDE - 10} 3l8 6l-8 6z`} /> : null}
              </svg>
              <b>{told(step)}</b>
            </li>
          );
        })}
      </ul>
    </Figure>
  );
}

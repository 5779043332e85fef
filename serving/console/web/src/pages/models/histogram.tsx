// How a number is spread over two groups of rows.

import { scaleLinear } from "d3-scale";
import { area, curveStepAfter } from "d3-shape";
import { Figure } from "../../ui/chart/figure";
import { percent } from "../../ui/format";
import { plain, Say } from "../../ui/i18n";
import type { Plots } from "./types";

const WIDE = 560, TALL = 210, LEFT = 46, RIGHT = 12, TOP = 10, BOTTOM = 34;

export function Spread({ of, title }: { of: NonNullable<Plots["spread"]>; title: readonly [string, string] }) {
  const score = of.what === "score";
  const [good, bad] = score ? [["repaid", "已还款"], ["did not repay", "未还款"]] as const : [["negative", "阴性"], ["positive", "阳性"]] as const;
  const x = scaleLinear([of.edges[0]!, of.edges.at(-1)!], [LEFT, WIDE - RIGHT]);
  const y = scaleLinear([0, Math.max(...of.negative, ...of.positive) * 1.05], [TALL - BOTTOM, TOP]);
  const steps = (shares: number[]) =>
    area<number>((_, at) => x(of.edges[at]!), y(0), (share) => y(share)).curve(curveStepAfter)([...shares, shares.at(-1) ?? 0]) ?? "";
  const told = (value: number) => (score ? value.toFixed(0) : value.toFixed(2));
  const rows = of.negative.map((share, at) => [`${told(of.edges[at]!)} – ${told(of.edges[at + 1]!)}`, percent(share), percent(of.positive[at]!)]);
  return (
    <Figure title={title} behind={{ heads: [score ? ["Score (points)", "评分（分）"] : ["Probability", "概率"], good, bad], rows }}>
      <svg class="plot spread" viewBox={`0 0 ${WIDE} ${TALL}`} role="img" aria-label={plain(...title)}>
        {y.ticks(4).map((tick) => (
          <g key={tick}>
            <line class="grid" x1={LEFT} x2={WIDE - RIGHT} y1={y(tick)} y2={y(tick)} />
            <text x={LEFT - 6} y={y(tick) + 4} text-anchor="end">{percent(tick, 0)}</text>
          </g>
        ))}
        <path class="good" d={steps(of.negative)} />
        <path class="bad" d={steps(of.positive)} />
        {of.line >= of.edges[0]! && of.line <= of.edges.at(-1)! ? <line class="cut" x1={x(of.line)} x2={x(of.line)} y1={TOP} y2={TALL - BOTTOM} /> : null}
        {x.ticks(7).map((tick) => <text key={tick} x={x(tick)} y={TALL - BOTTOM + 15} text-anchor="middle">{tick}</text>)}
        <text class="axis" x={(LEFT + WIDE - RIGHT) / 2} y={TALL - 4} text-anchor="middle">{score ? plain("score, points", "评分（分）") : plain("stated probability", "预测概率")}</text>
      </svg>
      <ul class="legend spread-legend">
        <li class="good"><i aria-hidden="true" /><Say en={good[0]} zh={good[1]} /></li>
        <li class="bad"><i aria-hidden="true" /><Say en={bad[0]} zh={bad[1]} /></li>
        <li class="cut"><i aria-hidden="true" />{score ? <Say en={`approval line, ${told(of.line)} points`} zh={`审批线 ${told(of.line)} 分`} /> : <Say en={`operating point, ${told(of.line)}`} zh={`工作点 ${told(of.line)}`} />}</li>
      </ul>
    </Figure>
  );
}

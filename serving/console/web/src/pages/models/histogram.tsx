// Distribution of a score or probability in two groups of rows.

import { scaleLinear } from "d3-scale";
import { area, curveStepAfter } from "d3-shape";
import { Figure } from "../../ui/chart/figure";
import { formatPercent } from "../../ui/format";
import { translate, Text, type Bilingual } from "../../ui/i18n";
import type { Plots } from "./types";

const WIDTH = 560, HEIGHT = 210, LEFT = 46, RIGHT = 12, TOP = 10, BOTTOM = 34;

export function Histogram({ spread, title }: { spread: NonNullable<Plots["spread"]>; title: Bilingual }) {
  const score = spread.what === "score";
  const [good, bad] = score ? [["repaid", "已还款"], ["did not repay", "未还款"]] as const : [["negative", "阴性"], ["positive", "阳性"]] as const;
  const x = scaleLinear([spread.edges[0]!, spread.edges.at(-1)!], [LEFT, WIDTH - RIGHT]);
  const y = scaleLinear([0, Math.max(...spread.negative, ...spread.positive) * 1.05], [HEIGHT - BOTTOM, TOP]);
  const steps = (shares: number[]) =>
    area<number>((_, index) => x(spread.edges[index]!), y(0), (share) => y(share)).curve(curveStepAfter)([...shares, shares.at(-1) ?? 0]) ?? "";
  const formatEdge = (value: number) => (score ? value.toFixed(0) : value.toFixed(2));
  const rows = spread.negative.map((share, index) => [`${formatEdge(spread.edges[index]!)} – ${formatEdge(spread.edges[index + 1]!)}`, formatPercent(share), formatPercent(spread.positive[index]!)]);
  return (
    <Figure title={title} table={{ headers: [score ? ["Score (points)", "评分（分）"] : ["Probability", "概率"], good, bad], rows }}>
      <svg class="plot histogram" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={translate(...title)}>
        {y.ticks(4).map((tick) => (
          <g key={tick}>
            <line class="grid" x1={LEFT} x2={WIDTH - RIGHT} y1={y(tick)} y2={y(tick)} />
            <text x={LEFT - 6} y={y(tick) + 4} text-anchor="end">{formatPercent(tick, 0)}</text>
          </g>
        ))}
        <path class="good" d={steps(spread.negative)} />
        <path class="bad" d={steps(spread.positive)} />
        {spread.line >= spread.edges[0]! && spread.line <= spread.edges.at(-1)! ? <line class="cut" x1={x(spread.line)} x2={x(spread.line)} y1={TOP} y2={HEIGHT - BOTTOM} /> : null}
        {x.ticks(7).map((tick) => <text key={tick} x={x(tick)} y={HEIGHT - BOTTOM + 15} text-anchor="middle">{tick}</text>)}
        <text class="axis" x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 4} text-anchor="middle">{score ? translate("score, points", "评分（分）") : translate("stated probability", "预测概率")}</text>
      </svg>
      <ul class="legend histogram-legend">
        <li class="good"><i aria-hidden="true" /><Text en={good[0]} zh={good[1]} /></li>
        <li class="bad"><i aria-hidden="true" /><Text en={bad[0]} zh={bad[1]} /></li>
        <li class="cut"><i aria-hidden="true" />{score ? <Text en={`approval line, ${formatEdge(spread.line)} points`} zh={`审批线 ${formatEdge(spread.line)} 分`} /> : <Text en={`operating point, ${formatEdge(spread.line)}`} zh={`工作点 ${formatEdge(spread.line)}`} />}</li>
      </ul>
    </Figure>
  );
}

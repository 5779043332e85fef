// Line chart, with a band where the points have an interval.

import { extent } from "d3-array";
import { scaleLinear } from "d3-scale";
import { area, line } from "d3-shape";
import { Figure, type FigureTable } from "./figure";
import { translate, type Bilingual } from "../i18n";

export interface Point {
  x: number;
  y: number;
  low?: number;
  high?: number;
}

export interface Line {
  key: string;
  en: string;
  zh: string;
  points: Point[];
  variant?: "first" | "second" | "third" | "soft";
}

const WIDTH = 560, HEIGHT = 240, LEFT = 46, RIGHT = 12, TOP = 10, BOTTOM = 34;

export function LineChart({ title, note, lines, x, y, table, diagonal, square }: {
  title: Bilingual;
  note?: Bilingual;
  lines: Line[];
  x: { en: string; zh: string; domain?: [number, number]; format?: (value: number) => string; ticks?: number };
  y: { en: string; zh: string; domain?: [number, number]; format?: (value: number) => string };
  table?: FigureTable;
  diagonal?: boolean; // reference line y = x
  square?: boolean;
}) {
  const width = square ? 300 : WIDTH, height = square ? 300 : HEIGHT;
  const points = lines.flatMap((item) => item.points);
  const [x0 = 0, x1 = 1] = x.domain ?? (extent(points, (point) => point.x) as [number, number]);
  const yValues = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
  const [y0 = 0, y1 = 1] = y.domain ?? (extent(yValues) as [number, number]);
  const xScale = scaleLinear([x0, x1 === x0 ? x0 + 1 : x1], [LEFT, width - RIGHT]);
  const yScale = scaleLinear([y0, y1 === y0 ? y0 + 1 : y1], [height - BOTTOM, TOP]);
  if (!y.domain) yScale.nice(5);
  const [yMin = 0, yMax = 1] = yScale.domain();
  const path = line<Point>((point) => xScale(point.x), (point) => yScale(point.y));
  const band = area<Point>((point) => xScale(point.x), (point) => yScale(point.low ?? point.y), (point) => yScale(point.high ?? point.y));
  return (
    <Figure title={title} note={note} table={table}>
      <svg class="plot" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${translate(...title)}. ${note ? translate(...note) : ""}`}>
        {yScale.ticks(5).map((tick) => (
          <g key={tick}>
            <line class="grid" x1={LEFT} x2={width - RIGHT} y1={yScale(tick)} y2={yScale(tick)} />
            <text x={LEFT - 6} y={yScale(tick) + 4} text-anchor="end">{y.format ? y.format(tick) : tick}</text>
          </g>
        ))}
        {xScale.ticks(x.ticks ?? (square ? 5 : 7)).map((tick) => <text key={tick} x={xScale(tick)} y={height - BOTTOM + 15} text-anchor="middle">{x.format ? x.format(tick) : tick}</text>)}
        <text class="axis" x={(LEFT + width - RIGHT) / 2} y={height - 4} text-anchor="middle">{translate(x.en, x.zh)}</text>
        {diagonal ? <line class="diagonal" x1={xScale(Math.max(x0, yMin))} y1={yScale(Math.max(x0, yMin))} x2={xScale(Math.min(x1, yMax))} y2={yScale(Math.min(x1, yMax))} /> : null}
        {lines.map((item, index) => {
          const variant = item.variant ?? (["first", "second", "third"] as const)[index % 3];
          return (
            <g key={item.key} class={variant}>
              {item.points.some((point) => point.low !== undefined) ? <path class="band" d={band(item.points) ?? ""} /> : null}
              <path class="line" d={path(item.points) ?? ""} />
              {item.points.length < 40 ? item.points.map((point) => <circle key={point.x} cx={xScale(point.x)} cy={yScale(point.y)} r="2.6" />) : null}
            </g>
          );
        })}
      </svg>
      {lines.length > 1 ? (
        <ul class="legend">{lines.map((item, index) => <li key={item.key} class={item.variant ?? ["first", "second", "third"][index % 3]}><i aria-hidden="true" />{translate(item.en, item.zh)}</li>)}</ul>
      ) : null}
    </Figure>
  );
}

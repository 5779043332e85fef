// Lines over time or over a scale, with a band where there is an interval.

import { extent } from "d3-array";
import { scaleLinear } from "d3-scale";
import { area, line } from "d3-shape";
import { Figure, type Behind } from "./figure";
import { plain } from "../i18n";

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
  look?: "first" | "second" | "third" | "soft";
}

const WIDE = 560, TALL = 240, LEFT = 46, RIGHT = 12, TOP = 10, BOTTOM = 34;

export function Lines({ title, note, lines, x, y, behind, diagonal, square }: {
  title: readonly [string, string];
  note?: readonly [string, string];
  lines: Line[];
  x: { en: string; zh: string; domain?: [number, number]; told?: (value: number) => string; ticks?: number };
  y: { en: string; zh: string; domain?: [number, number]; told?: (value: number) => string };
  behind?: Behind;
  diagonal?: boolean; // where perfect lies
  square?: boolean;
}) {
  const wide = square ? 300 : WIDE, tall = square ? 300 : TALL;
  const points = lines.flatMap((each) => each.points);
  const [x0 = 0, x1 = 1] = x.domain ?? (extent(points, (point) => point.x) as [number, number]);
  const ys = points.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
  const [y0 = 0, y1 = 1] = y.domain ?? (extent(ys) as [number, number]);
  const across = scaleLinear([x0, x1 === x0 ? x0 + 1 : x1], [LEFT, wide - RIGHT]);
  const up = scaleLinear([y0, y1 === y0 ? y0 + 1 : y1], [tall - BOTTOM, TOP]);
  if (!y.domain) up.nice(5);
  const [ya = 0, yb = 1] = up.domain();
  const path = line<Point>((point) => across(point.x), (point) => up(point.y));
  const band = area<Point>((point) => across(point.x), (point) => up(point.low ?? point.y), (point) => up(point.high ?? point.y));
  return (
    <Figure title={title} note={note} behind={behind}>
      <svg class="plot" viewBox={`0 0 ${wide} ${tall}`} role="img" aria-label={`${plain(...title)}. ${note ? plain(...note) : ""}`}>
        {up.ticks(5).map((tick) => (
          <g key={tick}>
            <line class="grid" x1={LEFT} x2={wide - RIGHT} y1={up(tick)} y2={up(tick)} />
            <text x={LEFT - 6} y={up(tick) + 4} text-anchor="end">{y.told ? y.told(tick) : tick}</text>
          </g>
        ))}
        {across.ticks(x.ticks ?? (square ? 5 : 7)).map((tick) => <text key={tick} x={across(tick)} y={tall - BOTTOM + 15} text-anchor="middle">{x.told ? x.told(tick) : tick}</text>)}
        <text class="axis" x={(LEFT + wide - RIGHT) / 2} y={tall - 4} text-anchor="middle">{plain(x.en, x.zh)}</text>
        {diagonal ? <line class="diagonal" x1={across(Math.max(x0, ya))} y1={up(Math.max(x0, ya))} x2={across(Math.min(x1, yb))} y2={up(Math.min(x1, yb))} /> : null}
        {lines.map((each, at) => {
          const look = each.look ?? (["first", "second", "third"] as const)[at % 3];
          return (
            <g key={each.key} class={look}>
              {each.points.some((point) => point.low !== undefined) ? <path class="band" d={band(each.points) ?? ""} /> : null}
              <path class="line" d={path(each.points) ?? ""} />
              {each.points.length < 40 ? each.points.map((point) => <circle key={point.x} cx={across(point.x)} cy={up(point.y)} r="2.6" />) : null}
            </g>
          );
        })}
      </svg>
      {lines.length > 1 ? (
        <ul class="legend">{lines.map((each, at) => <li key={each.key} class={each.look ?? ["first", "second", "third"][at % 3]}><i aria-hidden="true" />{plain(each.en, each.zh)}</li>)}</ul>
      ) : null}
    </Figure>
  );
}

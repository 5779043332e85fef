// A table of any length: only the rows in view are in the page. Sorted by its heads, scrolled by wheel or keys.

import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { plain, Say } from "./i18n";

export interface LongColumn<Row> {
  key: string;
  en: string;
  zh: string;
  wide: string; // of the grid, as 1fr or 90px
  cell: (row: Row) => ComponentChildren;
  by: (row: Row) => string | number | null; // what is sorted by; null comes last
  number?: boolean;
}

const TALL = 34; // px of a row

export function Long<Row>({ caption, columns, rows }: { caption: readonly [string, string]; columns: LongColumn<Row>[]; rows: Row[] }) {
  const [sort, setSort] = useState<{ key: string; down: boolean } | null>(null);
  const [, redraw] = useReducer((times: number, _: void) => times + 1, 0);
  const box = useRef<HTMLDivElement>(null);
  const order = useMemo(() => sorted(rows, columns.find((column) => column.key === sort?.key), sort?.down ?? false), [rows, sort]);
  const virtual = useMemo(() => new Virtualizer<HTMLDivElement, HTMLDivElement>({
    count: 0, getScrollElement: () => box.current, estimateSize: () => TALL, overscan: 12,
    observeElementRect, observeElementOffset, scrollToFn: elementScroll, onChange: () => redraw(),
  }), []);
  virtual.setOptions({ ...virtual.options, count: rows.length });
  useLayoutEffect(() => virtual._didMount(), []);
  useLayoutEffect(() => virtual._willUpdate());
  const grid = { gridTemplateColumns: columns.map((column) => column.wide).join(" ") };
  return (
    <div class="long" role="table" aria-label={plain(...caption)} aria-rowcount={rows.length + 1}>
      <div role="rowgroup">
        <div class="long-head" role="row" aria-rowindex={1} style={grid}>
          {columns.map((column) => {
            const on = sort?.key === column.key;
            return (
              <div key={column.key} role="columnheader" class={column.number ? "number" : undefined} aria-sort={on ? (sort.down ? "descending" : "ascending") : "none"}>
                <button type="button" onClick={() => setSort({ key: column.key, down: on ? !sort.down : Boolean(column.number) })}>
                  <Say en={column.en} zh={column.zh} /><i aria-hidden="true">{on ? (sort.down ? "▾" : "▴") : ""}</i>
                </button>
              </div>
            );
          })}
        </div>
      </div>
      <div class="long-body" ref={box} role="rowgroup" tabindex={0} aria-label={plain("rows", "数据行")}>
        <div class="long-all" role="presentation" style={{ height: `${virtual.getTotalSize()}px` }}>
          {virtual.getVirtualItems().map((item) => {
            const row = rows[order[item.index]!]!;
            return (
              <div key={item.key} class="long-row" role="row" aria-rowindex={item.index + 2} style={{ ...grid, transform: `translateY(${item.start}px)` }}>
                {columns.map((column) => <div key={column.key} role="cell" class={column.number ? "number" : undefined}>{column.cell(row)}</div>)}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

function sorted<Row>(rows: Row[], column: LongColumn<Row> | undefined, down: boolean): Uint32Array {
  const order = Uint32Array.from(rows, (_, at) => at);
  if (!column) return order;
  const keys = rows.map(column.by);
  const way = down ? -1 : 1;
  return order.sort((one, other) => {
    const [a, b] = [keys[one]!, keys[other]!];
    if (a === b) return one - other;
    if (a === null) return 1;
    if (b === null) return -1;
    return a < b ? -way : way;
  });
}

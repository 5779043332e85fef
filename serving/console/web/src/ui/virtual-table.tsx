// A virtualised table: only the visible rows are in the DOM. Sortable by its column headers, scrollable by wheel and keyboard.

import { elementScroll, observeElementOffset, observeElementRect, Virtualizer } from "@tanstack/virtual-core";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { translate, Text, type Bilingual } from "./i18n";

export interface VirtualColumn<Row> {
  key: string;
  en: string;
  zh: string;
  width: string; // a CSS grid track, such as 1fr or 90px
  cell: (row: Row) => ComponentChildren;
  sortKey: (row: Row) => string | number | null; // null sorts last
  number?: boolean;
}

const ROW_HEIGHT = 34; // px

export function VirtualTable<Row>({ caption, columns, rows }: { caption: Bilingual; columns: VirtualColumn<Row>[]; rows: Row[] }) {
  const [sort, setSort] = useState<{ key: string; descending: boolean } | null>(null);
  const [, redraw] = useReducer((count: number, _: void) => count + 1, 0);
  const bodyRef = useRef<HTMLDivElement>(null);
  const order = useMemo(() => sortedOrder(rows, columns.find((column) => column.key === sort?.key), sort?.descending ?? false), [rows, sort]);
  const virtualizer = useMemo(() => new Virtualizer<HTMLDivElement, HTMLDivElement>({
    count: 0, getScrollElement: () => bodyRef.current, estimateSize: () => ROW_HEIGHT, overscan: 12,
    observeElementRect, observeElementOffset, scrollToFn: elementScroll, onChange: () => redraw(),
  }), []);
  virtualizer.setOptions({ ...virtualizer.options, count: rows.length });
  useLayoutEffect(() => virtualizer._didMount(), []);
  useLayoutEffect(() => virtualizer._willUpdate());
  const grid = { gridTemplateColumns: columns.map((column) => column.width).join(" ") };
  return (
    <div class="virtual-table" role="table" aria-label={translate(...caption)} aria-rowcount={rows.length + 1}>
      <div role="rowgroup">
        <div class="virtual-head" role="row" aria-rowindex={1} style={grid}>
          {columns.map((column) => {
            const active = sort?.key === column.key;
            return (
              <div key={column.key} role="columnheader" class={column.number ? "number" : undefined} aria-sort={active ? (sort.descending ? "descending" : "ascending") : "none"}>
                <button type="button" onClick={() => setSort({ key: column.key, descending: active ? !sort.descending : Boolean(column.number) })}>
                  <Text en={column.en} zh={column.zh} /><i aria-hidden="true">{active ? (sort.descending ? "▾" : "▴") : ""}</i>
                </button>
              </div>
            );
          })}
        </div>
      </div>
      <div class="virtual-body" ref={bodyRef} role="rowgroup" tabindex={0} aria-label={translate("rows", "数据行")}>
        <div class="virtual-content" role="presentation" style={{ height: `${virtualizer.getTotalSize()}px` }}>
          {virtualizer.getVirtualItems().map((item) => {
            const row = rows[order[item.index]!]!;
            return (
              <div key={item.key} class="virtual-row" role="row" aria-rowindex={item.index + 2} style={{ ...grid, transform: `translateY(${item.start}px)` }}>
                {columns.map((column) => <div key={column.key} role="cell" class={column.number ? "number" : undefined}>{column.cell(row)}</div>)}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

function sortedOrder<Row>(rows: Row[], column: VirtualColumn<Row> | undefined, descending: boolean): Uint32Array {
  const order = Uint32Array.from(rows, (_, index) => index);
  if (!column) return order;
  const keys = rows.map(column.sortKey);
  const direction = descending ? -1 : 1;
  return order.sort((left, right) => {
    const [a, b] = [keys[left]!, keys[right]!];
    if (a === b) return left - right;
    if (a === null) return 1;
    if (b === null) return -1;
    return a < b ? -direction : direction;
  });
}

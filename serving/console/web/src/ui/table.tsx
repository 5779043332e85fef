// A short table; of thousands of rows see virtual-table.tsx.

import type { ComponentChildren } from "preact";
import { Say } from "./i18n";

export interface Column<Row> {
  en: string;
  zh: string;
  cell: (row: Row) => ComponentChildren;
  number?: boolean; // set to the right, in figures of one width
}

export function Table<Row>({ caption, columns, rows, keyOf }: {
  caption: readonly [string, string];
  columns: Column<Row>[];
  rows: Row[];
  keyOf: (row: Row) => string | number;
}) {
  return (
    <div class="scroll" tabindex={0}>
      <table>
        <caption class="hidden"><Say en={caption[0]} zh={caption[1]} /></caption>
        <thead>
          <tr>{columns.map((column) => <th key={column.en} scope="col" class={column.number ? "number" : undefined}><Say en={column.en} zh={column.zh} /></th>)}</tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={keyOf(row)}>{columns.map((column) => <td key={column.en} class={column.number ? "number" : undefined}>{column.cell(row)}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

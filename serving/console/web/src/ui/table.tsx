// A table for a moderate number of rows; virtual-table.tsx is for thousands.

import type { ComponentChildren } from "preact";
import { Text, type Bilingual } from "./i18n";

export interface Column<Row> {
  en: string;
  zh: string;
  cell: (row: Row) => ComponentChildren;
  number?: boolean; // right-aligned, in tabular figures
}

export function Table<Row>({ caption, columns, rows, keyOf }: {
  caption: Bilingual;
  columns: Column<Row>[];
  rows: Row[];
  keyOf: (row: Row) => string | number;
}) {
  return (
    <div class="scroll" tabindex={0}>
      <table>
        <caption class="hidden"><Text en={caption[0]} zh={caption[1]} /></caption>
        <thead>
          <tr>{columns.map((column) => <th key={column.en} scope="col" class={column.number ? "number" : undefined}><Text en={column.en} zh={column.zh} /></th>)}</tr>
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

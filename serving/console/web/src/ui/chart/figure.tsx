// A chart with its title, a one-sentence note, and its data as a table for readers who cannot see it.

import type { ComponentChildren } from "preact";
import { Text, type Bilingual } from "../i18n";

export interface FigureTable {
  headers: (Bilingual)[];
  rows: ComponentChildren[][];
}

export function Figure({ title, note, table, children }: {
  title: Bilingual;
  note?: Bilingual;
  table?: FigureTable;
  children: ComponentChildren;
}) {
  return (
    <figure class="figure">
      <figcaption><strong><Text en={title[0]} zh={title[1]} /></strong>{note ? <p class="quiet"><Text en={note[0]} zh={note[1]} /></p> : null}</figcaption>
      {children}
      {table ? (
        <details class="figure-data">
          <summary><Text en="As a table" zh="以表格查看" /></summary>
          <div class="scroll" tabindex={0}>
            <table>
              <thead><tr>{table.headers.map(([en, zh]) => <th key={en} scope="col"><Text en={en} zh={zh} /></th>)}</tr></thead>
              <tbody>{table.rows.map((row, index) => <tr key={index}>{row.map((cell, column) => <td key={column}>{cell}</td>)}</tr>)}</tbody>
            </table>
          </div>
        </details>
      ) : null}
    </figure>
  );
}

// A picture with its title, what it says in one sentence, and its figures as a table for those who cannot see it.

import type { ComponentChildren } from "preact";
import { Say } from "../i18n";

export interface Behind {
  heads: (readonly [string, string])[];
  rows: ComponentChildren[][];
}

export function Figure({ title, note, behind, children }: {
  title: readonly [string, string];
  note?: readonly [string, string];
  behind?: Behind;
  children: ComponentChildren;
}) {
  return (
    <figure class="figure">
      <figcaption><strong><Say en={title[0]} zh={title[1]} /></strong>{note ? <p class="quiet"><Say en={note[0]} zh={note[1]} /></p> : null}</figcaption>
      {children}
      {behind ? (
        <details class="behind">
          <summary><Say en="As a table" zh="以表格查看" /></summary>
          <div class="scroll" tabindex={0}>
            <table>
              <thead><tr>{behind.heads.map(([en, zh]) => <th key={en} scope="col"><Say en={en} zh={zh} /></th>)}</tr></thead>
              <tbody>{behind.rows.map((row, at) => <tr key={at}>{row.map((cell, place) => <td key={place}>{cell}</td>)}</tr>)}</tbody>
            </table>
          </div>
        </details>
      ) : null}
    </figure>
  );
}

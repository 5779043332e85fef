// A decision's trail as a picture: from it to model, run, commit, data and authorisations; what is missing is marked.

import { linkHorizontal } from "d3-shape";
import { useState } from "preact/hooks";
import { Figure } from "../../ui/chart/figure";
import { number } from "../../ui/format";
import { plain, Say, word } from "../../ui/i18n";
import { Until } from "./grants";
import { DETAILS, KINDS } from "./labels";

export interface Link {
  kind: string;
  name: string;
  missing?: string;
  missing_zh?: string;
  links: Link[];
  [detail: string]: unknown;
}

interface Node {
  key: string;
  link: Link;
  depth: number;
  row: number;
}

const WIDE = 208, TALL = 50, ACROSS = 248, DOWN = 66, MOST = 6; // pixels; MOST: siblings of a kind that are drawn
const LETTERS = 25;
const ORDER = ["decision", "slide", "model", "authorisation", "run", "commit", "data"];

// Siblings of a kind beyond MOST as one.
function folded(links: Link[]): Link[] {
  const kinds = [...new Set(links.map((link) => link.kind))];
  return kinds.flatMap((kind) => {
    const many = links.filter((link) => link.kind === kind).sort((one, other) => Number(Boolean(other.missing)) - Number(Boolean(one.missing)));
    if (many.length <= MOST) return many;
    const rest = many.slice(MOST - 1);
    return [...many.slice(0, MOST - 1), { kind: "more", name: `${rest.length} × ${kind}`, links: [] }];
  });
}

// The same thing reached by two ways is one node, as far right as it is reached.
export function laidOut(root: Link): { nodes: Node[]; edges: [string, string][] } {
  const nodes = new Map<string, Node>(), edges = new Map<string, [string, string]>();
  const visit = (link: Link, depth: number, from: string | null) => {
    const key = link.kind === "more" ? `${from} ${link.name}` : `${link.kind} ${link.name}`;
    const there = nodes.get(key);
    nodes.set(key, { key, link: there?.link ?? link, depth: Math.max(there?.depth ?? 0, depth), row: 0 });
    if (from) edges.set(`${from}\n${key}`, [from, key]);
    folded(link.links).forEach((each) => visit(each, depth + 1, key));
  };
  visit(root, 0, null);
  const rows: number[] = [];
  const placed = [...nodes.values()].sort((one, other) => one.depth - other.depth || ORDER.indexOf(one.link.kind) - ORDER.indexOf(other.link.kind));
  for (const node of placed) node.row = rows[node.depth] = (rows[node.depth] ?? -1) + 1;
  return { nodes: placed, edges: [...edges.values()] };
}

// Of the whole trail, those that are folded away too.
function missing(link: Link, found = new Set<string>()): Set<string> {
  if (link.missing) found.add(`${link.kind} ${link.name}`);
  link.links.forEach((each) => missing(each, found));
  return found;
}

const short = (text: string) => (text.length <= LETTERS ? text : `${text.slice(0, LETTERS - 9)}…${text.slice(-8)}`);

export function Trace({ root }: { root: Link }) {
  const { nodes, edges } = laidOut(root);
  const [chosen, setChosen] = useState(nodes[0]!.key);
  const at = Object.fromEntries(nodes.map((node) => [node.key, [10 + node.depth * ACROSS, 10 + node.row * DOWN] as const]));
  const wide = 20 + Math.max(...nodes.map((node) => node.depth)) * ACROSS + WIDE, tall = 20 + Math.max(...nodes.map((node) => node.row)) * DOWN + TALL;
  const gaps = missing(root).size;
  const curve = linkHorizontal<unknown, readonly [number, number]>();
  const shown = nodes.find((node) => node.key === chosen) ?? nodes[0]!;
  const pick = (key: string) => (event: KeyboardEvent) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    setChosen(key);
  };
  return (
    <Figure
      title={["What the decision rests on", "决定的依据"]}
      note={gaps ? [`${gaps} ${gaps === 1 ? "link is" : "links are"} missing, marked in red.`, `缺失 ${gaps} 个环节，以红色标出。`] : ["No link is missing.", "无缺失环节。"]}
      behind={{
        heads: [["What", "类别"], ["Name", "名称"], ["Missing", "缺失"]],
        rows: nodes.map(({ link }) => [word(KINDS, link.kind), <code>{link.name}</code>, link.missing ? <Say en={link.missing} zh={link.missing_zh ?? link.missing} /> : "–"]),
      }}
    >
      <div class="trace">
        <div class="scroll" tabindex={0}>
          <svg width={wide} height={tall} viewBox={`0 0 ${wide} ${tall}`} role="group" aria-label={plain("Trail of the decision", "决定的溯源图")}>
            {edges.map(([from, to]) => {
              const [x0, y0] = at[from]!, [x1, y1] = at[to]!;
              const target = nodes.find((node) => node.key === to)!;
              return <path key={`${from}>${to}`} class={target.link.missing ? "edge missing" : "edge"} d={curve({ source: [x0 + WIDE, y0 + TALL / 2], target: [x1, y1 + TALL / 2] }) ?? ""} />;
            })}
            {nodes.map(({ key, link }) => {
              const [x, y] = at[key]!;
              const [en, zh] = KINDS[link.kind] ?? [link.kind, link.kind];
              return (
                <g key={key} class={`node ${link.kind}${link.missing ? " missing" : ""}`} transform={`translate(${x} ${y})`} role="button" tabindex={0} aria-pressed={key === shown.key}
                  onClick={() => setChosen(key)} onKeyDown={pick(key)}>
                  <rect width={WIDE} height={TALL} rx="7" />
                  <text class="kind" x="12" y="19">{plain(en, zh)}{link.missing ? ` · ${plain("missing", "缺失")}` : ""}</text>
                  <text class="name" x="12" y="38">{short(link.name)}</text>
                </g>
              );
            })}
          </svg>
        </div>
        <Detail link={shown.link} />
      </div>
    </Figure>
  );
}

function Detail({ link }: { link: Link }) {
  const told = Object.entries(link).filter(([name, value]) => !["kind", "name", "links", "missing", "missing_zh", "missing_links"].includes(name) && value !== null && value !== "");
  return (
    <aside class="detail" aria-live="polite">
      <h3>{word(KINDS, link.kind)}</h3>
      <p><code>{link.name}</code></p>
      {link.missing ? <p class="refusal"><Say en={link.missing} zh={link.missing_zh ?? link.missing} /></p> : null}
      <dl class="facts">{told.map(([name, value]) => [<dt key={name}>{word(DETAILS, name)}</dt>, <dd key={`${name}-told`}>{name === "valid_to" ? <Until end={String(value)} /> : shownAs(value)}</dd>])}</dl>
    </aside>
  );
}

function shownAs(value: unknown) {
  if (typeof value === "boolean") return value ? <Say en="yes" zh="是" /> : <Say en="no" zh="否" />;
  return Array.isArray(value) ? value.join(", ") : typeof value === "number" ? number(value) : String(value);
}

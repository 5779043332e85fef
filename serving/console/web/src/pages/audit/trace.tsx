// A decision's trace as a graph: model, run, commit, data and authorisations. Missing links are marked.

import { linkHorizontal } from "d3-shape";
import { useState } from "preact/hooks";
import { Figure } from "../../ui/chart/figure";
import { formatNumber } from "../../ui/format";
import { translate, Text, labelOf } from "../../ui/i18n";
import { ValidUntil } from "./grants";
import { DETAIL_LABELS, LINK_KINDS } from "./labels";

export interface TraceLink {
  kind: string;
  name: string;
  missing?: string;
  missing_zh?: string;
  links: TraceLink[];
  [detail: string]: unknown;
}

interface GraphNode {
  key: string;
  link: TraceLink;
  depth: number;
  row: number;
}

const NODE_WIDTH = 208, NODE_HEIGHT = 50, COLUMN_PITCH = 248, ROW_PITCH = 66, MAX_SIBLINGS = 6; // px; MAX_SIBLINGS: nodes drawn per kind
const MAX_LABEL_CHARS = 25;
const KIND_ORDER = ["decision", "slide", "override", "referral", "model", "authorisation", "run", "commit", "data"];

// Combines the siblings of a kind beyond MAX_SIBLINGS into one node.
function foldSiblings(links: TraceLink[]): TraceLink[] {
  const kinds = [...new Set(links.map((link) => link.kind))];
  return kinds.flatMap((kind) => {
    const siblings = links.filter((link) => link.kind === kind).sort((left, right) => Number(Boolean(right.missing)) - Number(Boolean(left.missing)));
    if (siblings.length <= MAX_SIBLINGS) return siblings;
    const rest = siblings.slice(MAX_SIBLINGS - 1);
    return [...siblings.slice(0, MAX_SIBLINGS - 1), { kind: "more", name: `${rest.length} × ${kind}`, links: [] }];
  });
}

// An object that is reached by several paths is one node, placed at its greatest depth.
export function layOut(root: TraceLink): { nodes: GraphNode[]; edges: [string, string][] } {
  const nodes = new Map<string, GraphNode>(), edges = new Map<string, [string, string]>();
  const visit = (link: TraceLink, depth: number, from: string | null) => {
    const key = link.kind === "more" ? `${from} ${link.name}` : `${link.kind} ${link.name}`;
    const existing = nodes.get(key);
    nodes.set(key, { key, link: existing?.link ?? link, depth: Math.max(existing?.depth ?? 0, depth), row: 0 });
    if (from) edges.set(`${from}\n${key}`, [from, key]);
    foldSiblings(link.links).forEach((child) => visit(child, depth + 1, key));
  };
  visit(root, 0, null);
  const lastRows: number[] = [];
  const ordered = [...nodes.values()].sort((left, right) => left.depth - right.depth || KIND_ORDER.indexOf(left.link.kind) - KIND_ORDER.indexOf(right.link.kind));
  for (const node of ordered) node.row = lastRows[node.depth] = (lastRows[node.depth] ?? -1) + 1;
  return { nodes: ordered, edges: [...edges.values()] };
}

// All missing links, including those in combined nodes.
function collectMissing(link: TraceLink, result = new Set<string>()): Set<string> {
  if (link.missing) result.add(`${link.kind} ${link.name}`);
  link.links.forEach((child) => collectMissing(child, result));
  return result;
}

const shorten = (text: string) => (text.length <= MAX_LABEL_CHARS ? text : `${text.slice(0, MAX_LABEL_CHARS - 9)}…${text.slice(-8)}`);

export function Trace({ root }: { root: TraceLink }) {
  const { nodes, edges } = layOut(root);
  const [selectedKey, setSelectedKey] = useState(nodes[0]!.key);
  const positions = Object.fromEntries(nodes.map((node) => [node.key, [10 + node.depth * COLUMN_PITCH, 10 + node.row * ROW_PITCH] as const]));
  const width = 20 + Math.max(...nodes.map((node) => node.depth)) * COLUMN_PITCH + NODE_WIDTH, height = 20 + Math.max(...nodes.map((node) => node.row)) * ROW_PITCH + NODE_HEIGHT;
  const missingCount = collectMissing(root).size;
  const curve = linkHorizontal<unknown, readonly [number, number]>();
  const selected = nodes.find((node) => node.key === selectedKey) ?? nodes[0]!;
  const onKeyDown = (key: string) => (event: KeyboardEvent) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    setSelectedKey(key);
  };
  return (
    <Figure
      title={["Basis of the decision", "决定的依据"]}
      note={missingCount ? [`${missingCount} ${missingCount === 1 ? "link is" : "links are"} missing, marked in red.`, `缺失 ${missingCount} 个环节，已用红色标出。`] : ["No links are missing.", "环节完整，无缺失。"]}
      table={{
        headers: [["Kind", "类别"], ["Name", "名称"], ["Missing", "缺失"]],
        rows: nodes.map(({ link }) => [labelOf(LINK_KINDS, link.kind), <code>{link.name}</code>, link.missing ? <Text en={link.missing} zh={link.missing_zh ?? link.missing} /> : "–"]),
      }}
    >
      <div class="trace">
        <div class="scroll" tabindex={0}>
          <svg width={width} height={height} viewBox={`0 0 ${width} ${height}`} role="group" aria-label={translate("Trace of the decision", "决定的溯源图")}>
            {edges.map(([from, to]) => {
              const [x0, y0] = positions[from]!, [x1, y1] = positions[to]!;
              const target = nodes.find((node) => node.key === to)!;
              return <path key={`${from}>${to}`} class={target.link.missing ? "edge missing" : "edge"} d={curve({ source: [x0 + NODE_WIDTH, y0 + NODE_HEIGHT / 2], target: [x1, y1 + NODE_HEIGHT / 2] }) ?? ""} />;
            })}
            {nodes.map(({ key, link }) => {
              const [x, y] = positions[key]!;
              const [en, zh] = LINK_KINDS[link.kind] ?? [link.kind, link.kind];
              return (
                <g key={key} class={`node ${link.kind}${link.missing ? " missing" : ""}`} transform={`translate(${x} ${y})`} role="button" tabindex={0} aria-pressed={key === selected.key}
                  onClick={() => setSelectedKey(key)} onKeyDown={onKeyDown(key)}>
                  <rect width={NODE_WIDTH} height={NODE_HEIGHT} rx="7" />
                  <text class="kind" x="12" y="19">{translate(en, zh)}{link.missing ? ` · ${translate("missing", "缺失")}` : ""}</text>
                  <text class="name" x="12" y="38">{shorten(link.name)}</text>
                </g>
              );
            })}
          </svg>
        </div>
        <LinkDetails link={selected.link} />
      </div>
    </Figure>
  );
}

function LinkDetails({ link }: { link: TraceLink }) {
  const details = Object.entries(link).filter(([name, value]) => !["kind", "name", "links", "missing", "missing_zh", "missing_links"].includes(name) && value !== null && value !== "");
  return (
    <aside class="detail" aria-live="polite">
      <h3>{labelOf(LINK_KINDS, link.kind)}</h3>
      <p><code>{link.name}</code></p>
      {link.missing ? <p class="refusal"><Text en={link.missing} zh={link.missing_zh ?? link.missing} /></p> : null}
      <dl class="facts">{details.map(([name, value]) => [<dt key={name}>{labelOf(DETAIL_LABELS, name)}</dt>, <dd key={`${name}-value`}>{name === "valid_to" ? <ValidUntil end={String(value)} /> : formatValue(value)}</dd>])}</dl>
    </aside>
  );
}

function formatValue(value: unknown) {
  if (typeof value === "boolean") return value ? <Text en="yes" zh="是" /> : <Text en="no" zh="否" />;
  return Array.isArray(value) ? value.join(", ") : typeof value === "number" ? formatNumber(value) : String(value);
}

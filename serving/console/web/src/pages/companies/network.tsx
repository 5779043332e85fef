// The network of a company: a force-directed graph, navigable with the arrow keys, with its data as a table.

import { forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from "d3-force";
import { useLocation } from "preact-iso";
import { useMemo, useRef, useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { Figure } from "../../ui/chart/figure";
import { formatNumber } from "../../ui/format";
import { Empty, ResourceView } from "../../ui/feedback";
import { translate, Text } from "../../ui/i18n";
import { TIE_LABELS, type Edge, type Network, type Node } from "./types";

const WIDTH = 960, HEIGHT = 480;

interface Position {
  x: number;
  y: number;
}

export function NetworkCard({ id }: { id: string }) {
  const resource = useResource<Network>(`/v1/companies/${encodeURIComponent(id)}/network`);
  return (
    <section class="card">
      <ResourceView resource={resource}>{(network) => network.nodes.length > 1 ? <NetworkGraph network={network} /> : (
        <>
          <h2><Text en="Company network" zh="关联网络" /></h2>
          {network.month === null
            ? <Empty en="The register of this company contains no officers, addresses, shareholders or invoices." zh="载入该企业的名录不含高管、地址、股东或开票信息。" />
            : <Empty en="The company has no links to and no trade with other companies in the register." zh="该企业与名录内其他企业无关联、无交易。" />}
        </>
      )}</ResourceView>
    </section>
  );
}

function NetworkGraph({ network }: { network: Network }) {
  const { nodes, edges } = network;
  const positions = useMemo(() => layOut(nodes, edges), [network]);
  const [focused, setFocused] = useState(0);
  const shapes = useRef<(SVGElement | null)[]>([]);
  const { route } = useLocation();
  const neighbours = new Set([focused, ...edges.flatMap((edge) => (edge.from === focused ? [edge.to] : edge.to === focused ? [edge.from] : []))]);
  const onKeyDown = (event: KeyboardEvent) => {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Home") shapes.current[0]?.focus();
    else if (event.key === "Enter") openCompany(focused);
    else if (direction) shapes.current[nearestTowards(positions, focused, direction[0]!, direction[1]!)]?.focus();
    else return;
    event.preventDefault();
  };
  const openCompany = (index: number) => {
    const company = nodes[index]!.company_id;
    if (index && company) route(`/console/companies/company/${encodeURIComponent(company)}`);
  };
  const loops = edges.some((edge) => edge.loop);
  const companies = nodes.filter((node) => node.kind === "company").length - 1;
  const empty = nodes.filter((node, index) => index && node.insures_nobody).length;
  const note: [string, string] = [
    `${formatNumber(companies)} companies are shown, within two steps or in a common invoice loop; of those accessible to you, ${formatNumber(empty)} have no insured staff${loops ? "; invoices form a loop" : ""}${network.left_out ? `; ${formatNumber(network.left_out)} more directly related companies are not shown` : ""}. Register of ${network.month}. People and addresses are not named.`,
    `显示 ${formatNumber(companies)} 家企业（两步之内或同一循环开票），可查看者中 ${formatNumber(empty)} 家无参保人员${loops ? "；存在循环开票" : ""}${network.left_out ? `；另有 ${formatNumber(network.left_out)} 家直接关联企业未显示` : ""}。名录月份 ${network.month}。不显示人名与地址。`,
  ];
  const table = {
    headers: [["Company", "企业"], ["No insured staff", "无参保人员"], ["Relation", "关联方式"]] as [string, string][],
    rows: nodes.flatMap((node, index) => index && node.kind === "company" ? [[
      node.company_id ? <a href={`/console/companies/company/${encodeURIComponent(node.company_id)}`}>{node.company_id}</a> : <Text en="outside the register, erased or not accessible" zh="名录外、已删除或无权查看" />,
      node.insures_nobody === null || node.insures_nobody === undefined ? "–" : node.insures_nobody ? <Text en="yes" zh="是" /> : <Text en="no" zh="否" />,
      <Text en={describeTies(network, index, 0).join("; ")} zh={describeTies(network, index, 1).join("；")} />,
    ]] : []),
  };
  return (
    <Figure title={["Company network", "关联网络"]} note={note} table={table}>
      <svg class="network" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="group" aria-label={translate("Network; arrow keys move, Enter opens a company", "关联网络：方向键移动，回车打开企业")} onKeyDown={onKeyDown}>
        <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" /></marker></defs>
        {edges.map((edge, index) => {
          const [from, to] = [positions[edge.from]!, positions[edge.to]!];
          const distance = Math.hypot(to.x - from.x, to.y - from.y) || 1, inset = (index: number) => (index ? 11 : 15) / distance;
          const highlighted = edge.from === focused || edge.to === focused;
          return <line key={index} class={`tie ${edge.kind}${edge.loop ? " loop" : ""}${highlighted ? " highlighted" : ""}`} x1={from.x + inset(edge.from) * (to.x - from.x)} y1={from.y + inset(edge.from) * (to.y - from.y)} x2={to.x - inset(edge.to) * (to.x - from.x)} y2={to.y - inset(edge.to) * (to.y - from.y)} marker-end={edge.kind === "invoice" ? "url(#arrow)" : undefined} />;
        })}
        {nodes.map((node, index) => {
          const { x, y } = positions[index]!;
          const variant = node.kind !== "company" ? node.kind : index === 0 ? "centre" : node.company_id === null ? "inaccessible" : node.insures_nobody ? "no-staff" : "company";
          return (
            <g key={index} ref={(shape) => void (shapes.current[index] = shape)} class={`node ${variant}${neighbours.has(index) ? " connected" : ""}${index === focused ? " focused" : ""}`} transform={`translate(${x} ${y})`}
              role={index && node.company_id ? "link" : "img"} tabindex={index === focused ? 0 : -1} aria-label={translate(describeNode(network, index, 0), describeNode(network, index, 1))}
              onFocus={() => setFocused(index)} onMouseEnter={() => setFocused(index)} onClick={() => openCompany(index)}>
              <Shape kind={node.kind} centre={index === 0} />
              {node.kind !== "company" ? <text class="count" y="3.5" text-anchor="middle">{node.companies}</text> : null}
              {node.kind === "company" && (index === 0 || index === focused || nodes.length < 24) ? <text class="name" y={index === 0 ? 26 : 21} text-anchor="middle">{node.company_id ?? "…"}</text> : null}
            </g>
          );
        })}
      </svg>
      <p class="focused-node" aria-live="polite"><Text en={describeNode(network, focused, 0)} zh={describeNode(network, focused, 1)} /></p>
      <ul class="legend marks" aria-hidden="true">
        {([["centre", "this company", "本企业"], ["company", "company", "企业"], ["no-staff", "no insured staff", "无参保人员"], ["inaccessible", "outside the register, erased or not accessible", "名录外、已删除或无权查看"], ["officer", "officer", "高管"], ["address", "address", "地址"], ["owner", "owner", "股东"]] as const).map(([variant, en, zh]) => (
          <li key={variant}><svg class="network" viewBox="-11 -11 22 22"><g class={`node connected ${variant}`}><Shape kind={variant in TIE_LABELS ? variant : "company"} centre={false} /></g></svg><Text en={en} zh={zh} /></li>
        ))}
        <li><svg class="network" viewBox="-11 -11 22 22"><line class="tie invoice highlighted" x1="-10" x2="10" y1="0" y2="0" /></svg><Text en="invoices" zh="开票" /></li>
        {loops ? <li><svg class="network" viewBox="-11 -11 22 22"><line class="tie invoice loop highlighted" x1="-10" x2="10" y1="0" y2="0" /></svg><Text en="in a loop" zh="循环开票" /></li> : null}
      </ul>
    </Figure>
  );
}

function Shape({ kind, centre }: { kind: string; centre: boolean }) {
  if (kind === "officer") return <path d="M0 -11L10 8L-10 8z" />;
  if (kind === "address") return <rect x="-9" y="-9" width="18" height="18" rx="2" />;
  if (kind === "owner") return <path d="M0 -11L11 0L0 11L-11 0z" />;
  return <circle r={centre ? 13 : 9} />;
}

// Deterministic: the start positions are fixed and d3's simulation uses no randomness here.
function layOut(nodes: Node[], edges: Edge[]): Position[] {
  const bodies = nodes.map((_, index) => ({ index, x: WIDTH / 2 + (index ? 140 * Math.cos(2.4 * index) * Math.sqrt(index / 8) : 0), y: HEIGHT / 2 + (index ? 110 * Math.sin(2.4 * index) * Math.sqrt(index / 8) : 0) }));
  const first = bodies[0] as { fx?: number; fy?: number };
  [first.fx, first.fy] = [WIDTH / 2, HEIGHT / 2];
  forceSimulation(bodies)
    .force("tie", forceLink(edges.map((edge) => ({ source: edge.from, target: edge.to }))).distance(62).strength(0.35))
    .force("apart", forceManyBody().strength(-190).distanceMax(300))
    .force("room", forceCollide(19))
    .force("x", forceX(WIDTH / 2).strength(0.045))
    .force("y", forceY(HEIGHT / 2).strength(0.11))
    .stop()
    .tick(260);
  const [x, y] = [fitScale(bodies.map((body) => body.x), WIDTH, 56), fitScale(bodies.map((body) => body.y), HEIGHT, 30)];
  return bodies.map((body) => ({ x: x(body.x), y: y(body.y) }));
}

// Scales to the whole width or height, but does not enlarge a small graph too much.
function fitScale(values: number[], size: number, edge: number): (value: number) => number {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const scale = Math.min(1.9, (size - 2 * edge) / Math.max(1, high - low));
  return (value) => size / 2 + scale * (value - (low + high) / 2);
}

// The nearest node in a direction, with sideways distance weighted double; the node itself if there is none.
function nearestTowards(positions: Position[], start: number, dx: number, dy: number): number {
  const origin = positions[start]!;
  let best = start, minDistance = Infinity;
  positions.forEach((position, index) => {
    const along = (position.x - origin.x) * dx + (position.y - origin.y) * dy;
    const sideways = Math.abs((position.x - origin.x) * dy) + Math.abs((position.y - origin.y) * dx);
    if (index !== start && along > 1 && along + 2 * sideways < minDistance) [best, minDistance] = [index, along + 2 * sideways];
  });
  return best;
}

// Describes a node in English (0) or Chinese (1).
function describeNode(network: Network, index: number, languageIndex: 0 | 1): string {
  const node = network.nodes[index]!;
  if (node.kind !== "company") {
    const [en, zh] = TIE_LABELS[node.kind]!;
    return languageIndex ? `${zh}：关联 ${node.companies} 家企业` : `${en[0]!.toUpperCase()}${en.slice(1)} of ${node.companies} ${node.companies === 1 ? "company" : "companies"}`;
  }
  const name = node.company_id ?? (languageIndex ? "名录外、已删除或无权查看的企业" : "A company outside the register, erased or not accessible");
  const suffix = node.insures_nobody ? (languageIndex ? "；无参保人员" : "; no insured staff") : "";
  if (!index) return languageIndex ? `${name}：本企业${suffix}` : `${name}: this company${suffix}`;
  return `${name}${suffix}${languageIndex ? "；" : "; "}${describeTies(network, index, languageIndex).join(languageIndex ? "；" : "; ")}`;
}

// How a company is related to the one in the centre.
function describeTies({ nodes, edges }: Network, index: number, languageIndex: 0 | 1): string[] {
  const descriptions: string[] = [];
  for (const edge of edges) {
    if (edge.kind === "invoice" && edge.from === index && edge.to === 0) descriptions.push(languageIndex ? "向其开票" : "sells to it");
    if (edge.kind === "invoice" && edge.from === 0 && edge.to === index) descriptions.push(languageIndex ? "从其购货" : "buys from it");
    if (edge.kind === "owner" && edge.from === 0 && edge.to === index) descriptions.push(languageIndex ? "为其股东" : "owns it");
    if (edge.kind === "owner" && edge.from === index && edge.to === 0) descriptions.push(languageIndex ? "由其持股" : "is owned by it");
  }
  const sharedNodes = (company: number) => edges.filter((edge) => edge.from === company && nodes[edge.to]!.kind !== "company").map((edge) => edge.to);
  const own = new Set(sharedNodes(0));
  for (const shared of sharedNodes(index)) if (own.has(shared)) descriptions.push(languageIndex ? `共用${TIE_LABELS[nodes[shared]!.kind]![1]}` : `same ${TIE_LABELS[nodes[shared]!.kind]![0]}`);
  return descriptions.length ? [...new Set(descriptions)] : [languageIndex ? "经由其他企业" : "indirectly related"];
}

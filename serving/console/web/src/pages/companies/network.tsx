// What lies around a company: drawn by forces, walked by arrow keys, and as a table behind.

import { forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from "d3-force";
import { useLocation } from "preact-iso";
import { useMemo, useRef, useState } from "preact/hooks";
import { useAsk } from "../../ui/api";
import { Figure } from "../../ui/chart/figure";
import { number } from "../../ui/format";
import { Empty, Shown } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import { TIES, type Edge, type Network, type Node } from "./types";

const WIDE = 960, TALL = 480;

interface Placed {
  x: number;
  y: number;
}

export function Around({ id }: { id: string }) {
  const found = useAsk<Network>(`/v1/companies/${encodeURIComponent(id)}/network`);
  return (
    <section class="card">
      <Shown of={found}>{(network) => network.nodes.length > 1 ? <Graph network={network} /> : (
        <>
          <h2><Say en="What lies around it" zh="关联网络" /></h2>
          {network.month === null
            ? <Empty en="The register that brought this company told of no officers, addresses, owners or invoices." zh="载入该企业的名录不含高管、地址、股东或开票信息。" />
            : <Empty en="It shares nothing with any other company of the register and trades with none." zh="该企业与名录内其他企业无共用、无交易。" />}
        </>
      )}</Shown>
    </section>
  );
}

function Graph({ network }: { network: Network }) {
  const { nodes, edges } = network;
  const places = useMemo(() => placed(nodes, edges), [network]);
  const [at, setAt] = useState(0);
  const shapes = useRef<(SVGElement | null)[]>([]);
  const { route } = useLocation();
  const near = new Set([at, ...edges.flatMap((edge) => (edge.from === at ? [edge.to] : edge.to === at ? [edge.from] : []))]);
  const keys = (event: KeyboardEvent) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Home") shapes.current[0]?.focus();
    else if (event.key === "Enter") open(at);
    else if (way) shapes.current[towards(places, at, way[0]!, way[1]!)]?.focus();
    else return;
    event.preventDefault();
  };
  const open = (place: number) => {
    const company = nodes[place]!.company_id;
    if (place && company) route(`/console/companies/company/${encodeURIComponent(company)}`);
  };
  const loops = edges.some((edge) => edge.loop);
  const companies = nodes.filter((node) => node.kind === "company").length - 1;
  const empty = nodes.filter((node, place) => place && node.insures_nobody).length;
  const note: [string, string] = [
    `${number(companies)} companies are shown, within two steps or in one loop of invoices with it; of those you may read ${number(empty)} insure nobody${loops ? "; invoices run in a loop" : ""}${network.left_out ? `; ${number(network.left_out)} more that are tied to it directly are not shown` : ""}. Register of ${network.month}. People and places are not named.`,
    `显示 ${number(companies)} 家企业（两步之内或同一循环开票），可查看者中 ${number(empty)} 家无参保人员${loops ? "；存在循环开票" : ""}${network.left_out ? `；另有 ${number(network.left_out)} 家直接关联企业未显示` : ""}。名录月份 ${network.month}。不显示人名与地址。`,
  ];
  const behind = {
    heads: [["Company", "企业"], ["Insures nobody", "无参保人员"], ["How it is tied", "关联方式"]] as [string, string][],
    rows: nodes.flatMap((node, place) => place && node.kind === "company" ? [[
      node.company_id ? <a href={`/console/companies/company/${encodeURIComponent(node.company_id)}`}>{node.company_id}</a> : <Say en="outside, erased or not yours to read" zh="名录外、已删除或未授权" />,
      node.insures_nobody === null || node.insures_nobody === undefined ? "–" : node.insures_nobody ? <Say en="yes" zh="是" /> : <Say en="no" zh="否" />,
      <Say en={ties(network, place, 0).join("; ")} zh={ties(network, place, 1).join("；")} />,
    ]] : []),
  };
  return (
    <Figure title={["What lies around it", "关联网络"]} note={note} behind={behind}>
      <svg class="network" viewBox={`0 0 ${WIDE} ${TALL}`} role="group" aria-label={plain("Network; arrow keys move, Enter opens a company", "关联网络：方向键移动，回车打开企业")} onKeyDown={keys}>
        <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" /></marker></defs>
        {edges.map((edge, place) => {
          const [from, to] = [places[edge.from]!, places[edge.to]!];
          const far = Math.hypot(to.x - from.x, to.y - from.y) || 1, cut = (place: number) => (place ? 11 : 15) / far;
          const on = edge.from === at || edge.to === at;
          return <line key={place} class={`tie ${edge.kind}${edge.loop ? " loop" : ""}${on ? " on" : ""}`} x1={from.x + cut(edge.from) * (to.x - from.x)} y1={from.y + cut(edge.from) * (to.y - from.y)} x2={to.x - cut(edge.to) * (to.x - from.x)} y2={to.y - cut(edge.to) * (to.y - from.y)} marker-end={edge.kind === "invoice" ? "url(#arrow)" : undefined} />;
        })}
        {nodes.map((node, place) => {
          const { x, y } = places[place]!;
          const look = node.kind !== "company" ? node.kind : place === 0 ? "centre" : node.company_id === null ? "unread" : node.insures_nobody ? "nobody" : "company";
          return (
            <g key={place} ref={(shape) => void (shapes.current[place] = shape)} class={`node ${look}${near.has(place) ? " near" : ""}${place === at ? " at" : ""}`} transform={`translate(${x} ${y})`}
              role={place && node.company_id ? "link" : "img"} tabindex={place === at ? 0 : -1} aria-label={plain(called(network, place, 0), called(network, place, 1))}
              onFocus={() => setAt(place)} onMouseEnter={() => setAt(place)} onClick={() => open(place)}>
              <Shape kind={node.kind} centre={place === 0} />
              {node.kind !== "company" ? <text class="many" y="3.5" text-anchor="middle">{node.companies}</text> : null}
              {node.kind === "company" && (place === 0 || place === at || nodes.length < 24) ? <text class="name" y={place === 0 ? 26 : 21} text-anchor="middle">{node.company_id ?? "…"}</text> : null}
            </g>
          );
        })}
      </svg>
      <p class="told" aria-live="polite"><Say en={called(network, at, 0)} zh={called(network, at, 1)} /></p>
      <ul class="legend marks" aria-hidden="true">
        {([["centre", "this company", "本企业"], ["company", "company", "企业"], ["nobody", "insures nobody", "无参保人员"], ["unread", "outside, erased or not yours to read", "名录外、已删除或未授权"], ["officer", "officer", "高管"], ["address", "address", "地址"], ["owner", "owner", "股东"]] as const).map(([look, en, zh]) => (
          <li key={look}><svg class="network" viewBox="-11 -11 22 22"><g class={`node near ${look}`}><Shape kind={look in TIES ? look : "company"} centre={false} /></g></svg><Say en={en} zh={zh} /></li>
        ))}
        <li><svg class="network" viewBox="-11 -11 22 22"><line class="tie invoice on" x1="-10" x2="10" y1="0" y2="0" /></svg><Say en="invoices" zh="开票" /></li>
        {loops ? <li><svg class="network" viewBox="-11 -11 22 22"><line class="tie invoice loop on" x1="-10" x2="10" y1="0" y2="0" /></svg><Say en="in a loop" zh="循环开票" /></li> : null}
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

// The same picture each time: d3's forces begin without chance.
function placed(nodes: Node[], edges: Edge[]): Placed[] {
  const bodies = nodes.map((_, place) => ({ index: place, x: WIDE / 2 + (place ? 140 * Math.cos(2.4 * place) * Math.sqrt(place / 8) : 0), y: TALL / 2 + (place ? 110 * Math.sin(2.4 * place) * Math.sqrt(place / 8) : 0) }));
  const first = bodies[0] as { fx?: number; fy?: number };
  [first.fx, first.fy] = [WIDE / 2, TALL / 2];
  forceSimulation(bodies)
    .force("tie", forceLink(edges.map((edge) => ({ source: edge.from, target: edge.to }))).distance(62).strength(0.35))
    .force("apart", forceManyBody().strength(-190).distanceMax(300))
    .force("room", forceCollide(19))
    .force("x", forceX(WIDE / 2).strength(0.045))
    .force("y", forceY(TALL / 2).strength(0.11))
    .stop()
    .tick(260);
  const [x, y] = [fit(bodies.map((body) => body.x), WIDE, 56), fit(bodies.map((body) => body.y), TALL, 30)];
  return bodies.map((body) => ({ x: x(body.x), y: y(body.y) }));
}

// Onto the picture's whole width or height, without blowing a few nodes up.
function fit(values: number[], size: number, edge: number): (value: number) => number {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const scale = Math.min(1.9, (size - 2 * edge) / Math.max(1, high - low));
  return (value) => size / 2 + scale * (value - (low + high) / 2);
}

// The nearest in that direction, what lies off to the side counting as farther; itself where there is none.
function towards(places: Placed[], at: number, dx: number, dy: number): number {
  const here = places[at]!;
  let best = at, least = Infinity;
  places.forEach((place, index) => {
    const along = (place.x - here.x) * dx + (place.y - here.y) * dy;
    const aside = Math.abs((place.x - here.x) * dy) + Math.abs((place.y - here.y) * dx);
    if (index !== at && along > 1 && along + 2 * aside < least) [best, least] = [index, along + 2 * aside];
  });
  return best;
}

// A node in words; `way`: 0 English, 1 Chinese.
function called(network: Network, place: number, way: 0 | 1): string {
  const node = network.nodes[place]!;
  if (node.kind !== "company") {
    const [en, zh] = TIES[node.kind]!;
    return way ? `${zh}：关联 ${node.companies} 家企业` : `${en[0]!.toUpperCase()}${en.slice(1)} of ${node.companies} ${node.companies === 1 ? "company" : "companies"}`;
  }
  const name = node.company_id ?? (way ? "名录外、已删除或未授权查看的企业" : "A company outside the register, erased or not yours to read");
  const nobody = node.insures_nobody ? (way ? "；无参保人员" : "; insures nobody") : "";
  if (!place) return way ? `${name}：本企业${nobody}` : `${name}: this company${nobody}`;
  return `${name}${nobody}${way ? "；" : "; "}${ties(network, place, way).join(way ? "；" : "; ")}`;
}

// How a company is tied to the one in the middle.
function ties({ nodes, edges }: Network, place: number, way: 0 | 1): string[] {
  const told: string[] = [];
  for (const edge of edges) {
    if (edge.kind === "invoice" && edge.from === place && edge.to === 0) told.push(way ? "向其开票" : "sells to it");
    if (edge.kind === "invoice" && edge.from === 0 && edge.to === place) told.push(way ? "从其购货" : "buys from it");
    if (edge.kind === "owner" && edge.from === 0 && edge.to === place) told.push(way ? "为其股东" : "owns it");
    if (edge.kind === "owner" && edge.from === place && edge.to === 0) told.push(way ? "由其持股" : "is owned by it");
  }
  const tied = (whose: number) => edges.filter((edge) => edge.from === whose && nodes[edge.to]!.kind !== "company").map((edge) => edge.to);
  const ours = new Set(tied(0));
  for (const shared of tied(place)) if (ours.has(shared)) told.push(way ? `共用${TIES[nodes[shared]!.kind]![1]}` : `same ${TIES[nodes[shared]!.kind]![0]}`);
  return told.length ? [...new Set(told)] : [way ? "经由其他企业" : "through others"];
}

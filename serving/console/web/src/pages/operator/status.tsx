// How the service is: what needs looking at, what it holds, what it answered. Asked again every ten seconds.

import { useEffect } from "preact/hooks";
import { Refused, useAsk, type Asked } from "../../ui/api";
import { moment, number } from "../../ui/format";
import { Empty, Shown } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { Say, word } from "../../ui/i18n";
import { PRODUCTS } from "../audit/labels";

interface Alarm {
  what: string;
  name: string;
  version: string;
  why: string;
  why_zh: string;
  since: string;
}

interface Model {
  name: string;
  product: string;
  version: string;
  bundle: string;
  simulated: boolean;
  created: string;
}

interface Ready {
  status: string;
  store?: string;
  log?: string;
  models?: Record<string, string>;
}

const EVERY = 10_000; // ms
const ALARMS: Record<string, readonly [string, string]> = { bundle: ["Model bundle", "模型包"], store: ["Store", "存储"], log: ["Audit log", "审计日志"], counts: ["Counts", "计数"] };

function useEach<T>(address: string): Asked<T> {
  const asked = useAsk<T>(address);
  useEffect(() => {
    const timer = setInterval(asked.again, EVERY);
    return () => clearInterval(timer);
  }, [asked.again]);
  return asked;
}

// 503 of the readiness address is its answer too: what is not ready.
function told({ error, ...asked }: Asked<Ready>): Asked<Ready> {
  const answer = error instanceof Refused ? (error.problem as Ready) : null;
  return answer?.status === "not_ready" ? { ...asked, value: answer } : { ...asked, error };
}

export function Now() {
  const alarms = useEach<{ alarms: Alarm[] }>("/v1/alarms");
  const ready = told(useEach<Ready>("/healthz/ready"));
  const models = useAsk<{ models: Model[] }>("/v1/models");
  return (
    <div class="stack">
      <section class="card stack">
        <h2><Say en="Needs looking at" zh="待处理" /></h2>
        <Shown of={alarms}>{(told) => told.alarms.length ? (
          <Table caption={["Alarms, the oldest first", "告警，最早在前"]} rows={told.alarms} keyOf={(one) => `${one.what} ${one.name}`} columns={[
            { en: "What", zh: "类别", cell: (one) => <span class="chip bad">{word(ALARMS, one.what)}</span> },
            { en: "Name", zh: "名称", cell: (one) => (one.name === one.what ? "–" : `${one.name} ${one.version}`) },
            { en: "Why", zh: "原因", cell: (one) => <Say en={one.why} zh={one.why_zh} /> },
            { en: "Since", zh: "始于", cell: (one) => moment(one.since) },
          ]} />
        ) : <p class="all-well"><span aria-hidden="true">✓</span> <Say en="Nothing. No bundle is refused, the store takes records, the audit log goes on where it was signed." zh="无。模型包正常，存储可写，审计日志衔接完好。" /></p>}</Shown>
      </section>
      <section class="card stack">
        <h2><Say en="Service" zh="服务" /></h2>
        <Shown of={ready}>{(told) => (
          <dl class="tiles">
            <Tile en="Service" zh="服务" good={told.status === "ready"} told={told.status === "ready" ? ["ready", "就绪"] : ["not ready", "未就绪"]} />
            <Tile en="Store" zh="存储" good={told.store === "ok"} told={told.store === "ok" ? ["takes records", "可写"] : ["takes no records", "不可写"]} />
            <Tile en="Audit log" zh="审计日志" good={told.log === "ok"} told={told.log === "ok" ? ["goes on as signed", "与已签署处衔接"] : ["does not go on as signed", "与已签署处不衔接"]} />
            <Tile en="Models held" zh="在用模型" good={Object.keys(told.models ?? {}).length > 0} told={[number(Object.keys(told.models ?? {}).length), number(Object.keys(told.models ?? {}).length)]} />
          </dl>
        )}</Shown>
      </section>
      <section class="card stack">
        <h2><Say en="Models that answer" zh="在用模型" /></h2>
        <Shown of={models}>{(told) => told.models.length ? (
          <Table caption={["Models", "模型"]} rows={told.models} keyOf={(one) => one.name} columns={[
            { en: "Model", zh: "模型", cell: (one) => <>{one.name} {one.version} {one.simulated ? <span class="chip warn"><Say en="Simulated data" zh="模拟数据" /></span> : null}</> },
            { en: "Product", zh: "产品", cell: (one) => word(PRODUCTS, one.product) },
            { en: "Made", zh: "生成时间", cell: (one) => moment(one.created) },
            { en: "Bundle", zh: "模型包", cell: (one) => <code>{one.bundle.slice(0, 16)}…</code> },
          ]} />
        ) : <Empty en="No model is held." zh="没有在用模型。" />}</Shown>
      </section>
    </div>
  );
}

function Tile({ en, zh, good, told }: { en: string; zh: string; good: boolean; told: readonly [string, string] }) {
  return <div class="tile"><dt><Say en={en} zh={zh} /></dt><dd class={good ? "good-text" : "bad-text"}><Say en={told[0]} zh={told[1]} /></dd></div>;
}

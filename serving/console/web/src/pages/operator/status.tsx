// The state of the service: alarms, readiness, deployed models. Polled every ten seconds.

import { useEffect } from "preact/hooks";
import { ApiError, useResource, type Resource } from "../../ui/api";
import { formatTimestamp, formatNumber } from "../../ui/format";
import { Empty, ResourceView } from "../../ui/feedback";
import { findForced, ForcedChip, ForcedPromotions, useModelsOnDisk } from "../../ui/forced-versions";
import { Table } from "../../ui/table";
import { Text, labelOf, type Bilingual, type Labels } from "../../ui/i18n";
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

const POLL_MS = 10_000;
const ALARMS: Labels = { bundle: ["Model bundle", "模型包"], store: ["Store", "存储"], log: ["Audit log", "审计日志"], counts: ["Counts", "计数"] };

function usePolledResource<T>(address: string): Resource<T> {
  const resource = useResource<T>(address);
  useEffect(() => {
    const timer = setInterval(resource.reload, POLL_MS);
    return () => clearInterval(timer);
  }, [resource.reload]);
  return resource;
}

// A 503 of the readiness endpoint is a valid response too: it says what is not ready.
function acceptNotReady({ error, ...rest }: Resource<Ready>): Resource<Ready> {
  const body = error instanceof ApiError ? (error.problem as Ready) : null;
  return body?.status === "not_ready" ? { ...rest, value: body } : { ...rest, error };
}

export function Status() {
  const alarms = usePolledResource<{ alarms: Alarm[] }>("/v1/alarms");
  const ready = acceptNotReady(usePolledResource<Ready>("/healthz/ready"));
  const models = useResource<{ models: Model[] }>("/v1/models");
  const onDisk = useModelsOnDisk();
  return (
    <div class="stack">
      <section class="card stack">
        <h2><Text en="Needs attention" zh="待处理" /></h2>
        <ResourceView resource={alarms}>{(value) => value.alarms.length ? (
          <Table caption={["Alarms, oldest first", "告警（按时间顺序）"]} rows={value.alarms} keyOf={(row) => `${row.what} ${row.name}`} columns={[
            { en: "Kind", zh: "类别", cell: (row) => <span class="chip bad">{labelOf(ALARMS, row.what)}</span> },
            { en: "Name", zh: "名称", cell: (row) => (row.name === row.what ? "–" : `${row.name} ${row.version}`) },
            { en: "Cause", zh: "原因", cell: (row) => <Text en={row.why} zh={row.why_zh} /> },
            { en: "Since", zh: "始于", cell: (row) => formatTimestamp(row.since) },
          ]} />
        ) : <p class="no-alarms"><span aria-hidden="true">✓</span> <Text en="No alarms. All bundles are loaded, the store is writable, and the audit log continues from its last checkpoint." zh="无告警。模型包均已加载，存储可写，审计日志与最近的检查点衔接。" /></p>}</ResourceView>
      </section>
      <ResourceView resource={onDisk}>{(value) => <ForcedPromotions models={value.models} />}</ResourceView>
      <section class="card stack">
        <h2><Text en="Service" zh="服务" /></h2>
        <ResourceView resource={ready}>{(value) => (
          <dl class="tiles">
            <Tile en="Service" zh="服务" ok={value.status === "ready"} text={value.status === "ready" ? ["ready", "就绪"] : ["not ready", "未就绪"]} />
            <Tile en="Store" zh="存储" ok={value.store === "ok"} text={value.store === "ok" ? ["writable", "可写"] : ["not writable", "不可写"]} />
            <Tile en="Audit log" zh="审计日志" ok={value.log === "ok"} text={value.log === "ok" ? ["continues from its checkpoint", "与检查点衔接"] : ["does not continue from its checkpoint", "与检查点不衔接"]} />
            <Tile en="Deployed models" zh="在用模型" ok={Object.keys(value.models ?? {}).length > 0} text={[formatNumber(Object.keys(value.models ?? {}).length), formatNumber(Object.keys(value.models ?? {}).length)]} />
          </dl>
        )}</ResourceView>
      </section>
      <section class="card stack">
        <h2><Text en="Deployed models" zh="在用模型" /></h2>
        <ResourceView resource={models}>{(value) => value.models.length ? (
          <Table caption={["Models", "模型"]} rows={value.models} keyOf={(row) => row.name} columns={[
            { en: "Model", zh: "模型", cell: (row) => <>{row.name} {row.version} {findForced(onDisk.value?.models, row.name, row.version) ? <ForcedChip /> : null} {row.simulated ? <span class="chip warn"><Text en="Simulated data" zh="模拟数据" /></span> : null}</> },
            { en: "Product", zh: "产品", cell: (row) => labelOf(PRODUCTS, row.product) },
            { en: "Created", zh: "生成时间", cell: (row) => formatTimestamp(row.created) },
            { en: "Bundle", zh: "模型包", cell: (row) => <code>{row.bundle.slice(0, 16)}…</code> },
          ]} />
        ) : <Empty en="No models are deployed." zh="暂无在用模型。" />}</ResourceView>
      </section>
    </div>
  );
}

function Tile({ en, zh, ok, text }: { en: string; zh: string; ok: boolean; text: Bilingual }) {
  return <div class="tile"><dt><Text en={en} zh={zh} /></dt><dd class={ok ? "good-text" : "bad-text"}><Text en={text[0]} zh={text[1]} /></dd></div>;
}

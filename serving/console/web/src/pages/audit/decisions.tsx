// Search of the tenant's decisions, or direct access by the id on the letter.

import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { fetchJson, useResource } from "../../ui/api";
import { Field } from "../../ui/field";
import { formatMoney, formatTimestamp, formatPercent } from "../../ui/format";
import { Empty, ErrorMessage, ResourceView } from "../../ui/feedback";
import { findForced, ForcedChip, type ModelOnDisk, useModelsOnDisk } from "../../ui/forced-versions";
import { Table, type Column } from "../../ui/table";
import { translate, Text, labelOf } from "../../ui/i18n";
import { DECISIONS, PRODUCTS } from "./labels";

export interface Row {
  decision_id: string;
  created: string;
  model: string;
  version: string;
  decision: string;
  limit: number | null;
  currency: string | null;
  pd: number | null;
  grade: string | null;
  simulated: boolean | null;
  override: { decision: string; limit: number | null; reason: string; by: string; at: string } | null;
  referral: { to: string; note: string; at: string } | null;
}

export interface Page {
  decisions: Row[];
  next: string | null;
}

const columnsFor = (models: ModelOnDisk[] | undefined): Column<Row>[] => [
  { en: "Decided", zh: "时间", cell: (row) => <time dateTime={row.created}>{formatTimestamp(row.created)}</time> },
  { en: "Decision", zh: "编号", cell: (row) => <a href={`/console/audit/decisions/${row.decision_id}`}><code>{row.decision_id.slice(0, 12)}…{row.decision_id.slice(-4)}</code></a> },
  { en: "Model", zh: "模型", cell: (row) => <>{row.model} {row.version} {findForced(models, row.model, row.version) ? <ForcedChip /> : null}</> },
  { en: "Conclusion", zh: "结论", cell: (row) => <span class={`chip ${row.decision === "approve" ? "good" : "warn"}`}>{labelOf(DECISIONS, row.decision)}</span> },
  { en: "Limit", zh: "额度", number: true, cell: (row) => formatMoney(row.limit, row.currency ?? "RMB") },
  { en: "PD", zh: "违约概率", number: true, cell: (row) => (row.pd === null ? "–" : formatPercent(row.pd, 2)) },
  { en: "Human decision", zh: "人工决定", cell: (row) => (row.override ? <span class="chip other">{labelOf(DECISIONS, row.override.decision)}</span> : row.referral ? <span class="chip"><Text en={`with ${row.referral.to}`} zh={`已转 ${row.referral.to}`} /></span> : "–") },
];
const NO_FILTERS = { product: "", subject: "", decision: "", model: "", since: "", until: "" };

export function Decisions() {
  const { query, route } = useLocation();
  const filters = { ...NO_FILTERS, ...query } as typeof NO_FILTERS;
  const [form, setForm] = useState(filters);
  const params = new URLSearchParams(Object.entries(filters).filter(([name, value]) => value && name in NO_FILTERS));
  const page = useResource<Page>(`/v1/decisions?${params}`);
  const models = useModelsOnDisk();
  useEffect(() => setForm(filters), [params.toString()]); // the browser's Back button only changes the address
  const setField = (name: keyof typeof NO_FILTERS) => (event: Event) => setForm({ ...form, [name]: (event.currentTarget as HTMLInputElement).value });
  const search = (event: Event) => {
    event.preventDefault();
    route(`/console/audit?${new URLSearchParams(Object.entries(form).filter(([name, value]) => value && name in NO_FILTERS))}`);
  };
  return (
    <div class="stack">
      <div class="split search">
        <form class="card" onSubmit={search} aria-label={translate("Search decisions", "查询决定")}>
          <div class="fields">
            <Field label={{ en: "Product", zh: "产品" }}>{(control) => <select {...control} value={form.product} onChange={setField("product")}><option value="">{translate("All", "全部")}</option>{["credit_limit", "scitech_risk"].map((code) => <option key={code} value={code}>{translate(...PRODUCTS[code]!)}</option>)}</select>}</Field>
            <Field label={{ en: "Conclusion", zh: "结论" }}>{(control) => <select {...control} value={form.decision} onChange={setField("decision")}><option value="">{translate("All", "全部")}</option>{["approve", "refer"].map((code) => <option key={code} value={code}>{translate(...DECISIONS[code]!)}</option>)}</select>}</Field>
            <Field label={{ en: "From", zh: "自" }} unit={{ en: "UTC day", zh: "UTC 日期" }}>{(control) => <input {...control} type="date" value={form.since} onInput={setField("since")} />}</Field>
            <Field label={{ en: "Up to", zh: "至" }} unit={{ en: "UTC day", zh: "UTC 日期" }}>{(control) => <input {...control} type="date" value={form.until} onInput={setField("until")} />}</Field>
            <Field label={{ en: "Model", zh: "模型" }}>{(control) => <input {...control} value={form.model} onInput={setField("model")} />}</Field>
            <Field label={{ en: "Applicant's id", zh: "申请人编号" }} unit={{ en: "household id if no product is selected", zh: "未选产品时按农户查询" }}>{(control) => <input {...control} value={form.subject} autocomplete="off" onInput={setField("subject")} />}</Field>
          </div>
          <div class="actions search-actions"><button class="main" type="submit"><Text en="Search" zh="查询" /></button><button type="button" onClick={() => { setForm(NO_FILTERS); route("/console/audit"); }}><Text en="Clear" zh="清除" /></button></div>
        </form>
        <OpenById />
      </div>
      <ResourceView resource={page}>{(value) => <Results first={value} params={params} models={models.value?.models} />}</ResourceView>
    </div>
  );
}

function OpenById() {
  const { route } = useLocation();
  const [id, setId] = useState("");
  return (
    <form class="card stack" aria-label={translate("Open by its id", "按编号打开")} onSubmit={(event) => { event.preventDefault(); route(`/console/audit/decisions/${encodeURIComponent(id.trim())}`); }}>
      <Field label={{ en: "Open by its id", zh: "按编号打开" }} hint={{ en: "The id of a decision, a batch row (…-17) or a slide, as printed on the letter or returned with the answer.", zh: "决定编号、批次行编号（…-17）或切片编号，见告知书或服务返回的结果。" }}>
        {(control) => <input {...control} required spellcheck={false} autocomplete="off" value={id} onInput={(event) => setId(event.currentTarget.value)} />}
      </Field>
      <div class="actions"><button type="submit"><Text en="Open" zh="打开" /></button></div>
    </form>
  );
}

function Results({ first, params, models }: { first: Page; params: URLSearchParams; models: ModelOnDisk[] | undefined }) {
  const [rows, setRows] = useState(first.decisions);
  const [next, setNext] = useState(first.next);
  const [failure, setFailure] = useState<unknown>(null);
  const loadMore = async () => {
    setFailure(null);
    try {
      const page = await fetchJson<Page>(`/v1/decisions?${new URLSearchParams([...params, ["before", next!]])}`);
      setRows([...rows, ...page.decisions]);
      setNext(page.next);
    } catch (error) {
      setFailure(error);
    }
  };
  if (!rows.length && !next) return <Empty en="No decision matches. To find rows of batches, search by row id or by applicant." zh="没有符合条件的决定。批次中的行可按其编号或申请人编号查询。" />;
  return (
    <section class="card stack">
      {rows.some((row) => row.simulated) ? <p class="quiet"><span class="chip warn"><Text en="Simulated data" zh="模拟数据" /></span></p> : null}
      {rows.length ? <Table caption={["Decisions, newest first", "决定（按时间倒序）"]} columns={columnsFor(models)} rows={rows} keyOf={(row) => row.decision_id} />
        : <p class="quiet"><Text en="No match among the decisions searched so far." zh="已检索的部分中无符合条件的决定。" /></p>}
      {failure ? <ErrorMessage error={failure} retry={loadMore} /> : next ? <div class="actions"><button type="button" onClick={loadMore}><Text en="Show older" zh="查看更早记录" /></button></div> : null}
    </section>
  );
}

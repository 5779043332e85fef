// The tenant's decisions, searched; or one opened by the id that stands on its letter.

import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { ask, useAsk } from "../../ui/api";
import { Field } from "../../ui/field";
import { money, moment, percent } from "../../ui/format";
import { Empty, Failed, Shown } from "../../ui/feedback";
import { Table, type Column } from "../../ui/table";
import { plain, Say, word } from "../../ui/i18n";
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

const COLUMNS: Column<Row>[] = [
  { en: "Decided", zh: "时间", cell: (row) => <time dateTime={row.created}>{moment(row.created)}</time> },
  { en: "Decision", zh: "编号", cell: (row) => <a href={`/console/audit/decisions/${row.decision_id}`}><code>{row.decision_id.slice(0, 12)}…{row.decision_id.slice(-4)}</code></a> },
  { en: "Model", zh: "模型", cell: (row) => `${row.model} ${row.version}` },
  { en: "Said", zh: "结论", cell: (row) => <span class={`chip ${row.decision === "approve" ? "good" : "warn"}`}>{word(DECISIONS, row.decision)}</span> },
  { en: "Limit", zh: "额度", number: true, cell: (row) => money(row.limit, row.currency ?? "RMB") },
  { en: "PD", zh: "违约概率", number: true, cell: (row) => (row.pd === null ? "–" : percent(row.pd, 2)) },
  { en: "By a person", zh: "人工", cell: (row) => (row.override ? <span class="chip other">{word(DECISIONS, row.override.decision)}</span> : row.referral ? <span class="chip"><Say en={`with ${row.referral.to}`} zh={`已转 ${row.referral.to}`} /></span> : "–") },
];
const EMPTY = { product: "", subject: "", decision: "", model: "", since: "", until: "" };

export function Decisions() {
  const { query, route } = useLocation();
  const asked = { ...EMPTY, ...query } as typeof EMPTY;
  const [form, setForm] = useState(asked);
  const told = new URLSearchParams(Object.entries(asked).filter(([name, value]) => value && name in EMPTY));
  const page = useAsk<Page>(`/v1/decisions?${told}`);
  useEffect(() => setForm(asked), [told.toString()]); // Back changes the address alone
  const set = (name: keyof typeof EMPTY) => (event: Event) => setForm({ ...form, [name]: (event.currentTarget as HTMLInputElement).value });
  const search = (event: Event) => {
    event.preventDefault();
    route(`/console/audit?${new URLSearchParams(Object.entries(form).filter(([name, value]) => value && name in EMPTY))}`);
  };
  return (
    <div class="stack">
      <div class="split search">
        <form class="card" onSubmit={search} aria-label={plain("Search decisions", "查询决定")}>
          <div class="fields">
            <Field label={{ en: "Product", zh: "产品" }}>{(control) => <select {...control} value={form.product} onChange={set("product")}><option value="">{plain("Each", "全部")}</option>{["credit_limit", "scitech_risk"].map((one) => <option key={one} value={one}>{plain(...PRODUCTS[one]!)}</option>)}</select>}</Field>
            <Field label={{ en: "Conclusion", zh: "结论" }}>{(control) => <select {...control} value={form.decision} onChange={set("decision")}><option value="">{plain("Each", "全部")}</option>{["approve", "refer"].map((one) => <option key={one} value={one}>{plain(...DECISIONS[one]!)}</option>)}</select>}</Field>
            <Field label={{ en: "From", zh: "自" }} unit={{ en: "UTC day", zh: "UTC 日期" }}>{(control) => <input {...control} type="date" value={form.since} onInput={set("since")} />}</Field>
            <Field label={{ en: "Up to", zh: "至" }} unit={{ en: "UTC day", zh: "UTC 日期" }}>{(control) => <input {...control} type="date" value={form.until} onInput={set("until")} />}</Field>
            <Field label={{ en: "Model", zh: "模型" }}>{(control) => <input {...control} value={form.model} onInput={set("model")} />}</Field>
            <Field label={{ en: "Applicant's id", zh: "申请人编号" }} unit={{ en: "a household's where no product is chosen", zh: "未选产品时按农户查询" }}>{(control) => <input {...control} value={form.subject} autocomplete="off" onInput={set("subject")} />}</Field>
          </div>
          <div class="actions search-actions"><button class="main" type="submit"><Say en="Search" zh="查询" /></button><button type="button" onClick={() => { setForm(EMPTY); route("/console/audit"); }}><Say en="Clear" zh="清除" /></button></div>
        </form>
        <ById />
      </div>
      <Shown of={page}>{(value) => <Found key={told.toString()} first={value} asked={told} />}</Shown>
    </div>
  );
}

function ById() {
  const { route } = useLocation();
  const [id, setId] = useState("");
  return (
    <form class="card stack" aria-label={plain("Open by its id", "按编号打开")} onSubmit={(event) => { event.preventDefault(); route(`/console/audit/decisions/${encodeURIComponent(id.trim())}`); }}>
      <Field label={{ en: "Open by its id", zh: "按编号打开" }} hint={{ en: "A decision's, a batch row's (…-17) or a slide's, as a letter or an answer tells it.", zh: "决定、批次行（…-17）或切片编号，见通知书或答复。" }}>
        {(control) => <input {...control} required spellcheck={false} autocomplete="off" value={id} onInput={(event) => setId(event.currentTarget.value)} />}
      </Field>
      <div class="actions"><button type="submit"><Say en="Open" zh="打开" /></button></div>
    </form>
  );
}

function Found({ first, asked }: { first: Page; asked: URLSearchParams }) {
  const [rows, setRows] = useState(first.decisions);
  const [next, setNext] = useState(first.next);
  const [failed, setFailed] = useState<unknown>(null);
  const more = async () => {
    setFailed(null);
    try {
      const page = await ask<Page>(`/v1/decisions?${new URLSearchParams([...asked, ["before", next!]])}`);
      setRows([...rows, ...page.decisions]);
      setNext(page.next);
    } catch (error) {
      setFailed(error);
    }
  };
  if (!rows.length && !next) return <Empty en="No decision fits. Rows of batches are found by their id or the applicant's." zh="没有符合条件的决定。批次中的行可按其编号或申请人编号查询。" />;
  return (
    <section class="card stack">
      {rows.some((row) => row.simulated) ? <p class="quiet"><span class="chip warn"><Say en="Simulated data" zh="模拟数据" /></span></p> : null}
      {rows.length ? <Table caption={["Decisions, the newest first", "决定，最新在前"]} columns={COLUMNS} rows={rows} keyOf={(row) => row.decision_id} />
        : <p class="quiet"><Say en="None among those looked through so far." zh="已查阅的部分中没有。" /></p>}
      {failed ? <Failed error={failed} again={more} /> : next ? <div class="actions"><button type="button" onClick={more}><Say en="Older ones" zh="更早的" /></button></div> : null}
    </section>
  );
}

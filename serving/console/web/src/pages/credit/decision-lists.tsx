// Decisions as rows: all of them, those about one stored household, those that wait for me.

import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { useAsk } from "../../ui/api";
import { Lines } from "../../ui/chart/line-chart";
import { moment, money, number, percent, unitOf } from "../../ui/format";
import { useOnce } from "../../ui/idempotent";
import { Empty, Failed, Shown } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { plain, Say } from "../../ui/i18n";
import { session, type Session } from "../../session";
import { MODEL, ROUTE, VERDICT, waits, type Answer, type Listed, type Page } from "./types";

export function Decisions() {
  const [decision, setDecision] = useState("");
  const [before, setBefore] = useState<string[]>([]);
  const at = before[before.length - 1];
  const page = useAsk<Page>(`/v1/decisions?product=credit_limit&limit=25${decision ? `&decision=${decision}` : ""}${at ? `&before=${at}` : ""}`);
  return (
    <div class="stack">
      <div class="actions">
        <label for="which"><Say en="Show" zh="显示" /></label>
        <select id="which" class="short" value={decision} onChange={(event) => (setBefore([]), setDecision(event.currentTarget.value))}>
          <option value="">{plain("all", "全部")}</option>
          <option value="approve">{plain("approved", "通过")}</option>
          <option value="refer">{plain("a person decides", "转人工")}</option>
        </select>
      </div>
      <Shown of={page}>{(found) => found.decisions.length ? <Rows rows={found.decisions} /> : found.next ? <Empty en="None among the newest; older ones are a step away." zh="最近的决定中没有，请查看较早的。" /> 
        : decision || at ? <Empty en="None here." zh="此处没有决定。" />
        : <Empty en="No single decisions yet; rows of batches stand under Batches." zh="暂无单笔决定；批次中的行见“批量”。"><a class="button main" href="/console/credit"><Say en="Enter a household" zh="录入农户" /></a></Empty>}</Shown>
      <div class="actions">
        <button type="button" disabled={!before.length} onClick={() => setBefore(before.slice(0, -1))}><Say en="Newer" zh="较新" /></button>
        <button type="button" disabled={!page.value?.next} onClick={() => setBefore([...before, page.value!.next!])}><Say en="Older" zh="较早" /></button>
      </div>
    </div>
  );
}

export function Inbox() {
  const who = (session.value as Session).who;
  const page = useAsk<Page>(`/v1/decisions?referred=${encodeURIComponent(who)}`);
  return (
    <div class="stack">
      <p class="quiet"><Say en={`What colleagues asked ${who} to look at, until a person decides.`} zh={`同事转交给 ${who} 的事项，决定后自动移除。`} /></p>
      <Shown of={page}>{(found) => found.decisions.length ? <Rows rows={found.decisions} notes /> : <Empty en="Nothing waits for you." zh="暂无待办。" />}</Shown>
    </div>
  );
}

// One stored household: what was decided before, and the question asked anew.
export function Household({ id }: { id: string }) {
  const page = useAsk<Page>(`/v1/decisions?product=credit_limit&subject=${encodeURIComponent(id)}&limit=100`);
  const [failed, setFailed] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const once = useOnce();
  const { route } = useLocation();
  const decide = async () => {
    setBusy(true);
    setFailed(null);
    try {
      const answer = await once<Answer>(ROUTE, { subject_id: id });
      route(`/console/credit/decisions/${answer.decision_id}`);
    } catch (error) {
      setFailed(error);
      setBusy(false);
    }
  };
  return (
    <div class="stack">
      <section class="card">
        <h2><Say en="Household" zh="农户" /> <code>{id}</code></h2>
        <div class="actions">
          <button type="button" class="main" disabled={busy} onClick={decide}><Say en="Ask for a decision now" zh="立即申请决定" /></button>
          <p class="quiet"><Say en="Read from the store under live authorisations; recorded, with a receipt." zh="依有效授权读取库内指标，留存记录并出具回执。" /></p>
        </div>
        {failed ? <Failed error={failed} /> : null}
      </section>
      <Shown of={page}>{(found) => (
        <>
          {found.decisions.length > 1 ? <section class="card"><Course rows={found.decisions} /></section> : null}
          {found.decisions.length ? <Rows rows={found.decisions} /> : <Empty en="Your institution has asked for none under this number." zh="贵机构尚未按该编号申请过决定。" />}
        </>
      )}</Shown>
    </div>
  );
}

function Course({ rows }: { rows: Listed[] }) {
  const unit = unitOf(rows.find((row) => row.currency)?.currency);
  const points = rows.map((row) => ({ x: Date.parse(row.created), y: row.limit ?? row.indicative_limit ?? 0 })).reverse();
  return (
    <Lines title={["The limit over time", "额度变化"]} lines={[{ key: "limit", en: "limit", zh: "额度", points }]}
      x={{ en: "decided", zh: "决定时间", told: (value) => new Date(value).toISOString().slice(5, 16).replace("T", " "), ticks: 4 }}
      y={{ en: unit[0], zh: unit[1], told: (value) => number(value), domain: [0, 1.1 * Math.max(1, ...points.map((point) => point.y))] }} />
  );
}

function Rows({ rows, notes }: { rows: Listed[]; notes?: boolean }) {
  return (
    <Table caption={["Decisions", "决定"]} rows={rows} keyOf={(row) => row.decision_id} columns={[
      { en: "Made", zh: "时间", cell: (row) => <a href={`/console/${row.product === MODEL ? "credit" : "companies"}/decisions/${row.decision_id}`}>{moment(row.created)}</a> },
      { en: "Decision", zh: "决定", cell: (row) => <Verdict row={row} /> },
      { en: "Limit", zh: "额度", number: true, cell: (row) => money(row.override ? row.override.limit : (row.limit ?? row.indicative_limit), row.currency) },
      { en: "Default", zh: "违约概率", number: true, cell: (row) => (row.pd === null ? "–" : percent(row.pd, 2)) },
      { en: "Grade", zh: "等级", cell: (row) => row.grade ?? "–" },
      { en: "Household", zh: "农户", cell: (row) => (row.stored ? <Say en="stored" zh="库内" /> : <Say en="entered" zh="录入" />) },
      notes ? { en: "Note", zh: "说明", cell: (row) => `${row.referral?.by}: ${row.referral?.note}` }
        : { en: "Waits for", zh: "待处理人", cell: (row) => (row.referral && waits(row) ? row.referral.to : "") },
    ]} />
  );
}

function Verdict({ row }: { row: Listed }) {
  const [en, zh, look] = VERDICT[row.override?.decision ?? row.decision]!;
  return <span class={`chip ${look}`}>{row.override?.decision === "approve" ? <Say en="Approved by a person" zh="人工通过" /> : <Say en={en} zh={zh} />}</span>;
}

// Lists of decisions: all, those about one stored household, those referred to the user.

import { useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { useResource } from "../../ui/api";
import { LineChart } from "../../ui/chart/line-chart";
import { formatTimestamp, formatMoney, formatNumber, formatPercent, unitOf } from "../../ui/format";
import { useIdempotentPost } from "../../ui/idempotent";
import { Empty, ErrorMessage, ResourceView } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { translate, Text } from "../../ui/i18n";
import { session, type Session } from "../../session";
import { MODEL, ROUTE, VERDICTS, awaitsColleague, type Answer, type DecisionRow, type DecisionsPage } from "./types";

export function DecisionList() {
  const [decision, setDecision] = useState("");
  const [cursors, setCursors] = useState<string[]>([]);
  const cursor = cursors[cursors.length - 1];
  const page = useResource<DecisionsPage>(`/v1/decisions?product=credit_limit&limit=25${decision ? `&decision=${decision}` : ""}${cursor ? `&before=${cursor}` : ""}`);
  return (
    <div class="stack">
      <div class="actions">
        <label for="which"><Text en="Show" zh="显示" /></label>
        <select id="which" class="short" value={decision} onChange={(event) => (setCursors([]), setDecision(event.currentTarget.value))}>
          <option value="">{translate("all", "全部")}</option>
          <option value="approve">{translate("approved", "通过")}</option>
          <option value="refer">{translate("human decision", "转人工")}</option>
        </select>
      </div>
      <ResourceView resource={page}>{(value) => value.decisions.length ? <DecisionTable rows={value.decisions} /> : value.next ? <Empty en="No match among the latest decisions; go to older ones." zh="最近的决定中无符合条件者，请查看较早的决定。" /> 
        : decision || cursor ? <Empty en="No decisions." zh="暂无决定。" />
        : <Empty en="No single decisions yet. Rows of batches are listed under Batches." zh="暂无单笔决定。批次中的行见“批量”。"><a class="button main" href="/console/credit"><Text en="Enter a household" zh="录入农户" /></a></Empty>}</ResourceView>
      <div class="actions">
        <button type="button" disabled={!cursors.length} onClick={() => setCursors(cursors.slice(0, -1))}><Text en="Newer" zh="较新" /></button>
        <button type="button" disabled={!page.value?.next} onClick={() => setCursors([...cursors, page.value!.next!])}><Text en="Older" zh="较早" /></button>
      </div>
    </div>
  );
}

export function Inbox() {
  const user = (session.value as Session).who;
  const page = useResource<DecisionsPage>(`/v1/decisions?referred=${encodeURIComponent(user)}`);
  return (
    <div class="stack">
      <p class="quiet"><Text en={`Decisions that colleagues referred to ${user}, until a human decision is recorded.`} zh={`同事转交 ${user} 处理的决定，人工决定后自动移除。`} /></p>
      <ResourceView resource={page}>{(value) => value.decisions.length ? <DecisionTable rows={value.decisions} showNotes /> : <Empty en="Nothing to do." zh="暂无待办。" />}</ResourceView>
    </div>
  );
}

// One stored household: earlier decisions, and a button for a new one.
export function HouseholdPage({ id }: { id: string }) {
  const page = useResource<DecisionsPage>(`/v1/decisions?product=credit_limit&subject=${encodeURIComponent(id)}&limit=100`);
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const post = useIdempotentPost();
  const { route } = useLocation();
  const decide = async () => {
    setBusy(true);
    setFailure(null);
    try {
      const answer = await post<Answer>(ROUTE, { subject_id: id });
      route(`/console/credit/decisions/${answer.decision_id}`);
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    <div class="stack">
      <section class="card">
        <h2><Text en="Household" zh="农户" /> <code>{id}</code></h2>
        <div class="actions">
          <button type="button" class="main" disabled={busy} onClick={decide}><Text en="Request a decision now" zh="立即申请决定" /></button>
          <p class="quiet"><Text en="Uses stored indicators under valid authorisations. The decision is recorded and receives a receipt." zh="依据有效授权读取库内指标；决定将留存记录并出具凭证。" /></p>
        </div>
        {failure ? <ErrorMessage error={failure} /> : null}
      </section>
      <ResourceView resource={page}>{(value) => (
        <>
          {value.decisions.length > 1 ? <section class="card"><LimitChart rows={value.decisions} /></section> : null}
          {value.decisions.length ? <DecisionTable rows={value.decisions} /> : <Empty en="Your institution has not requested a decision for this number yet." zh="贵机构尚未就该编号申请过决定。" />}
        </>
      )}</ResourceView>
    </div>
  );
}

function LimitChart({ rows }: { rows: DecisionRow[] }) {
  const unit = unitOf(rows.find((row) => row.currency)?.currency);
  const points = rows.map((row) => ({ x: Date.parse(row.created), y: row.limit ?? row.indicative_limit ?? 0 })).reverse();
  return (
    <LineChart title={["The limit over time", "额度变化"]} lines={[{ key: "limit", en: "limit", zh: "额度", points }]}
      x={{ en: "decided", zh: "决定时间", format: (value) => new Date(value).toISOString().slice(5, 16).replace("T", " "), ticks: 4 }}
      y={{ en: unit[0], zh: unit[1], format: (value) => formatNumber(value), domain: [0, 1.1 * Math.max(1, ...points.map((point) => point.y))] }} />
  );
}

function DecisionTable({ rows, showNotes }: { rows: DecisionRow[]; showNotes?: boolean }) {
  return (
    <Table caption={["Decisions", "决定"]} rows={rows} keyOf={(row) => row.decision_id} columns={[
      { en: "Created", zh: "时间", cell: (row) => <a href={`/console/${row.product === MODEL ? "credit" : "companies"}/decisions/${row.decision_id}`}>{formatTimestamp(row.created)}</a> },
      { en: "Decision", zh: "决定", cell: (row) => <DecisionChip row={row} /> },
      { en: "Limit", zh: "额度", number: true, cell: (row) => <ListedLimit row={row} /> },
      { en: "PD", zh: "违约概率", number: true, cell: (row) => (row.pd === null ? "–" : formatPercent(row.pd, 2)) },
      { en: "Grade", zh: "等级", cell: (row) => row.grade ?? "–" },
      { en: "Household", zh: "农户", cell: (row) => (row.stored ? <Text en="stored" zh="库内" /> : <Text en="entered" zh="录入" />) },
      showNotes ? { en: "Note", zh: "说明", cell: (row) => `${row.referral?.by}: ${row.referral?.note}` }
        : { en: "Waits for", zh: "待处理人", cell: (row) => (row.referral && awaitsColleague(row) ? row.referral.to : "") },
    ]} />
  );
}

// An indicative limit is muted, and one that rests on what is not confirmed is "at most".
function ListedLimit({ row }: { row: DecisionRow }) {
  if (row.override || row.limit !== null) return <>{formatMoney(row.override ? row.override.limit : row.limit, row.currency)}</>;
  const amount = formatMoney(row.indicative_limit, row.currency);
  return <span class="quiet">{row.indicative ? <Text en={`at most ${amount}`} zh={`至多 ${amount}`} /> : amount}</span>;
}

function DecisionChip({ row }: { row: DecisionRow }) {
  const [en, zh, variant] = VERDICTS[row.override?.decision ?? row.decision]!;
  return <span class={`chip ${variant}`}>{row.override?.decision === "approve" ? <Text en="Approved by a person" zh="人工通过" /> : <Text en={en} zh={zh} />}</span>;
}

// One company: its current assessment, monthly history, stress scenarios and network.

import { useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { LineChart } from "../../ui/chart/line-chart";
import { formatTimestamp, formatMoney, formatNumber, formatPercent } from "../../ui/format";
import { useIdempotentPost } from "../../ui/idempotent";
import { Empty, ErrorMessage, ResourceView } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { Text } from "../../ui/i18n";
import { AnswerDetails, AnswerHeadline, SimulatedBanner } from "../credit/answer";
import { NetworkCard } from "./network";
import { StressCard } from "./stress";
import { GATES, SCITECH_RISK, type CompanyAnswer, type History } from "./types";

export function CompanyPage({ id }: { id: string }) {
  const history = useResource<History>(`/v1/companies/${encodeURIComponent(id)}/history?limit=36`);
  const [answer, setAnswer] = useState<CompanyAnswer | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const post = useIdempotentPost();
  const decide = async () => {
    setBusy(true);
    setFailure(null);
    try {
      setAnswer(await post<CompanyAnswer>(SCITECH_RISK.route, { subject_id: id }));
      history.reload();
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="stack">
      <section class="card">
        <h2><Text en="Company" zh="企业" /> <code>{id}</code></h2>
        <div class="actions">
          <button type="button" class="main" disabled={busy} onClick={decide}><Text en="Assess it now" zh="立即评估" /></button>
          <p class="quiet"><Text en="Uses stored indicators under valid authorisations. The decision is recorded and receives a receipt." zh="依据有效授权读取库内指标；决定将留存记录并出具凭证。" /></p>
        </div>
        {failure ? <ErrorMessage error={failure} /> : null}
      </section>
      {answer ? <Assessment answer={answer} /> : null}
      <ResourceView resource={history}>{(value) => <><MonthlyHistory history={value} /><StressCard id={id} /><NetworkCard id={id} /></>}</ResourceView>
    </div>
  );
}

function Assessment({ answer }: { answer: CompanyAnswer }) {
  return (
    <>
      <SimulatedBanner visible={answer.simulated} />
      <div class="split">
        <div class="stack">
          <section class="card"><AnswerHeadline answer={answer} />
            <p class="actions"><a class="button" href={`/v1/decisions/${answer.decision_id}/receipt`} download={`receipt-${answer.decision_id}.json`}><Text en="Receipt" zh="凭证" /></a><a class="button" href={`/console/companies/decisions/${answer.decision_id}`}><Text en="Refer or override" zh="转交或改判" /></a></p>
          </section>
          <CompanyCards answer={answer} />
        </div>
        <div class="stack"><AnswerDetails answer={answer} /></div>
      </div>
    </>
  );
}

// The parts of a company's assessment that other products do not have.
export function CompanyCards({ answer }: { answer: CompanyAnswer }) {
  const [en, zh, variant] = GATES[answer.gate.verdict]!;
  return (
    <>
      <section class="card">
        <h2><Text en="Shell gate" zh="空壳闸门" /> <span class={`chip ${variant}`}><Text en={en} zh={zh} /></span></h2>
        <p><Text en={answer.gate.en} zh={answer.gate.zh} /></p>
        {answer.gate.evidence.length ? <ul class="sentences">{answer.gate.evidence.map((finding) => <li key={finding.code}><Text en={finding.en} zh={finding.zh} /> <span class="chip">{formatNumber(finding.points)} <Text en="points" zh="分" /></span></li>)}</ul> : null}
      </section>
      {answer.innovation ? (
        <section class="card">
          <h2><Text en="Innovation" zh="科创评分" /> {answer.innovation.score === null ? "" : formatNumber(answer.innovation.score, 1)}</h2>
          <p class="quiet"><Text en={answer.innovation.en} zh={answer.innovation.zh} /></p>
          <ul class="grades">{answer.innovation.parts.map((part) => (
            <li key={part.group}><span class="part"><Text en={part.en} zh={part.zh} /></span><svg viewBox="0 0 200 14" preserveAspectRatio="none" aria-hidden="true"><rect y="1" height="12" width={2 * (part.score ?? 0)} class="grade-A" /></svg><b>{part.weight === null ? "" : `× ${part.weight.toFixed(2)}`}</b></li>
          ))}</ul>
        </section>
      ) : null}
      <section class="card">
        <h2><Text en="Early warnings" zh="预警" /></h2>
        {answer.warnings.length ? <ul class="sentences">{answer.warnings.map((warning) => <li key={warning.code}><span class={`chip ${warning.severity === "human-action" ? "bad" : "warn"}`}>{warning.severity === "act" ? <Text en="act" zh="处置" /> : <Text en="watch" zh="关注" />}</span> <Text en={warning.en} zh={warning.zh} /></li>)}</ul> : <p class="quiet"><Text en="None at present." zh="目前无预警。" /></p>}
      </section>
    </>
  );
}

function MonthlyHistory({ history }: { history: History }) {
  const scored = history.months.filter((month) => month.pd !== null).reverse();
  const months = [...history.months].reverse();
  const max = Math.max(1, ...months.map((month) => month.warnings.length));
  const time = (month: string) => Date.parse(`${month}-01`);
  const axis = { en: "month", zh: "月份", format: (value: number) => new Date(value).toISOString().slice(0, 7), ticks: 6 };
  return (
    <div class="split">
      <section class="card">
        {months.length ? (
          <LineChart title={["Early warnings by month", "各月预警数"]} x={axis} y={{ en: "warnings", zh: "预警", domain: [0, max], format: (value) => (Number.isInteger(value) ? `${value}` : "") }}
            lines={[{ key: "warnings", en: "warnings", zh: "预警", variant: "second", points: months.map((month) => ({ x: time(month.month), y: month.warnings.length })) }]}
            table={{ headers: [["Month", "月份"], ["Warnings", "预警"]], rows: months.map((month) => [month.month, month.warnings.map((warning) => <p key={warning.code}><Text en={warning.en} zh={warning.zh} /></p>)]) }} />
        ) : <Empty en="No monthly data are loaded for this company." zh="未载入该企业的月度数据。" />}
        {scored.length > 1 ? <LineChart title={["Probability of default by month", "各月违约概率"]} x={axis} y={{ en: "default", zh: "违约概率", format: (value) => formatPercent(value) }} lines={[{ key: "pd", en: "default", zh: "违约概率", points: scored.map((month) => ({ x: time(month.month), y: month.pd! })) }]} /> : null}
      </section>
      <section class="card">
        <h2><Text en="Earlier decisions" zh="历史决定" /></h2>
        {history.decisions.length ? (
          <Table caption={["Earlier decisions", "历史决定"]} rows={history.decisions} keyOf={(row) => row.decision_id} columns={[
            { en: "Created", zh: "时间", cell: (row) => <a href={`/console/companies/decisions/${row.decision_id}`}>{formatTimestamp(row.created)}</a> },
            { en: "Grade", zh: "等级", cell: (row) => row.grade ?? "–" },
            { en: "PD", zh: "违约概率", number: true, cell: (row) => formatPercent(row.pd, 2) },
            { en: "Limit", zh: "额度", number: true, cell: (row) => formatMoney(row.limit, row.currency) },
            { en: "Gate", zh: "闸门", cell: (row) => <Text en={GATES[row.gate]![0]} zh={GATES[row.gate]![1]} /> },
          ]} />
        ) : <p class="quiet"><Text en="Your institution has not requested a decision for this number yet." zh="贵机构尚未就该编号申请过决定。" /></p>}
      </section>
    </div>
  );
}

// One company: what is answered now, its months, what would be answered under stress, and what lies around it.

import { useState } from "preact/hooks";
import { useAsk } from "../../ui/api";
import { Lines } from "../../ui/chart/line-chart";
import { moment, money, number, percent } from "../../ui/format";
import { useOnce } from "../../ui/idempotent";
import { Empty, Failed, Shown } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { Say } from "../../ui/i18n";
import { Details, Headline, Simulated } from "../credit/answer";
import { Around } from "./network";
import { Stress } from "./stress";
import { GATES, OF, type CompanyAnswer, type History } from "./types";

export function Company({ id }: { id: string }) {
  const history = useAsk<History>(`/v1/companies/${encodeURIComponent(id)}/history?limit=36`);
  const [answer, setAnswer] = useState<CompanyAnswer | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const once = useOnce();
  const decide = async () => {
    setBusy(true);
    setFailed(null);
    try {
      setAnswer(await once<CompanyAnswer>(OF.route, { subject_id: id }));
      history.again();
    } catch (error) {
      setFailed(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="stack">
      <section class="card">
        <h2><Say en="Company" zh="企业" /> <code>{id}</code></h2>
        <div class="actions">
          <button type="button" class="main" disabled={busy} onClick={decide}><Say en="Assess it now" zh="立即评估" /></button>
          <p class="quiet"><Say en="Read from the store under live authorisations; recorded, with a receipt." zh="依有效授权读取库内指标，留存记录并出具回执。" /></p>
        </div>
        {failed ? <Failed error={failed} /> : null}
      </section>
      {answer ? <Assessed answer={answer} /> : null}
      <Shown of={history}>{(found) => <><Months history={found} /><Stress id={id} /><Around id={id} /></>}</Shown>
    </div>
  );
}

function Assessed({ answer }: { answer: CompanyAnswer }) {
  return (
    <>
      <Simulated shown={answer.simulated} />
      <div class="split">
        <div class="stack">
          <section class="card"><Headline answer={answer} />
            <p class="actions"><a class="button" href={`/v1/decisions/${answer.decision_id}/receipt`} download={`receipt-${answer.decision_id}.json`}><Say en="Receipt" zh="回执" /></a><a class="button" href={`/console/companies/decisions/${answer.decision_id}`}><Say en="Refer or override" zh="转交或改判" /></a></p>
          </section>
          <Beside answer={answer} />
        </div>
        <div class="stack"><Details answer={answer} /></div>
      </div>
    </>
  );
}

// What is told of a company beside every product's answer.
export function Beside({ answer }: { answer: CompanyAnswer }) {
  const [en, zh, look] = GATES[answer.gate.verdict]!;
  return (
    <>
      <section class="card">
        <h2><Say en="Shell gate" zh="空壳闸门" /> <span class={`chip ${look}`}><Say en={en} zh={zh} /></span></h2>
        <p><Say en={answer.gate.en} zh={answer.gate.zh} /></p>
        {answer.gate.evidence.length ? <ul class="why">{answer.gate.evidence.map((piece) => <li key={piece.code}><Say en={piece.en} zh={piece.zh} /> <span class="chip">{number(piece.points)} <Say en="points" zh="分" /></span></li>)}</ul> : null}
      </section>
      {answer.innovation ? (
        <section class="card">
          <h2><Say en="Innovation" zh="科创评分" /> {answer.innovation.score === null ? "" : number(answer.innovation.score, 1)}</h2>
          <p class="quiet"><Say en={answer.innovation.en} zh={answer.innovation.zh} /></p>
          <ul class="grades">{answer.innovation.parts.map((part) => (
            <li key={part.group}><span class="part"><Say en={part.en} zh={part.zh} /></span><svg viewBox="0 0 200 14" preserveAspectRatio="none" aria-hidden="true"><rect y="1" height="12" width={2 * (part.score ?? 0)} class="grade-A" /></svg><b>{part.weight === null ? "" : `× ${part.weight.toFixed(2)}`}</b></li>
          ))}</ul>
        </section>
      ) : null}
      <section class="card">
        <h2><Say en="Early warnings" zh="预警" /></h2>
        {answer.warnings.length ? <ul class="why">{answer.warnings.map((one) => <li key={one.code}><span class={`chip ${one.severity === "act" ? "bad" : "warn"}`}>{one.severity === "act" ? <Say en="act" zh="处置" /> : <Say en="watch" zh="关注" />}</span> <Say en={one.en} zh={one.zh} /></li>)}</ul> : <p class="quiet"><Say en="None now." zh="目前没有。" /></p>}
      </section>
    </>
  );
}

function Months({ history }: { history: History }) {
  const told = history.months.filter((month) => month.pd !== null).reverse();
  const warned = [...history.months].reverse();
  const most = Math.max(1, ...warned.map((month) => month.warnings.length));
  const time = (month: string) => Date.parse(`${month}-01`);
  const axis = { en: "month", zh: "月份", told: (value: number) => new Date(value).toISOString().slice(0, 7), ticks: 6 };
  return (
    <div class="split">
      <section class="card">
        {warned.length ? (
          <Lines title={["Early warnings by month", "各月预警数"]} x={axis} y={{ en: "warnings", zh: "预警", domain: [0, most], told: (value) => (Number.isInteger(value) ? `${value}` : "") }}
            lines={[{ key: "warnings", en: "warnings", zh: "预警", look: "second", points: warned.map((month) => ({ x: time(month.month), y: month.warnings.length })) }]}
            behind={{ heads: [["Month", "月份"], ["Warnings", "预警"]], rows: warned.map((month) => [month.month, month.warnings.map((one) => <p key={one.code}><Say en={one.en} zh={one.zh} /></p>)]) }} />
        ) : <Empty en="No months of this company are loaded." zh="未载入该企业的月度数据。" />}
        {told.length > 1 ? <Lines title={["Chance of default by month", "各月违约概率"]} x={axis} y={{ en: "default", zh: "违约概率", told: (value) => percent(value) }} lines={[{ key: "pd", en: "default", zh: "违约概率", points: told.map((month) => ({ x: time(month.month), y: month.pd! })) }]} /> : null}
      </section>
      <section class="card">
        <h2><Say en="Earlier decisions" zh="历史决定" /></h2>
        {history.decisions.length ? (
          <Table caption={["Earlier decisions", "历史决定"]} rows={history.decisions} keyOf={(row) => row.decision_id} columns={[
            { en: "Made", zh: "时间", cell: (row) => <a href={`/console/companies/decisions/${row.decision_id}`}>{moment(row.created)}</a> },
            { en: "Grade", zh: "等级", cell: (row) => row.grade ?? "–" },
            { en: "Default", zh: "违约概率", number: true, cell: (row) => percent(row.pd, 2) },
            { en: "Limit", zh: "额度", number: true, cell: (row) => money(row.limit, row.currency) },
            { en: "Gate", zh: "闸门", cell: (row) => <Say en={GATES[row.gate]![0]} zh={GATES[row.gate]![1]} /> },
          ]} />
        ) : <p class="quiet"><Say en="Your institution has asked for none under this number." zh="贵机构尚未按该编号申请过决定。" /></p>}
      </section>
    </div>
  );
}

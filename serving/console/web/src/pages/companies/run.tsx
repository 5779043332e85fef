// One batch over the company register: all companies as rows, the grade distribution, and the migration since an earlier batch.

import { useEffect, useMemo, useState } from "preact/hooks";
import type { Batch, Form } from "../credit/types";
import { sendRequest, useResource } from "../../ui/api";
import { Figure } from "../../ui/chart/figure";
import { formatAmount, formatTimestamp, formatNumber, formatPercent, unitOf } from "../../ui/format";
import { TruncatedFaults, BatchState } from "../../ui/batches";
import { VirtualTable, type VirtualColumn } from "../../ui/virtual-table";
import { Empty, ErrorMessage, Loading } from "../../ui/feedback";
import { translate, Text, type Bilingual } from "../../ui/i18n";
import { SimulatedBanner } from "../credit/answer";
import { GATES, GRADES, SCITECH_RISK, parseRows, rowsAddress, type Row } from "./types";

const NO_GRADE = "–";

export function RunPage({ id }: { id: string }) {
  const batch = useResource<Batch>(`/v1/batches/${id}`);
  const form = useResource<Form>(batch.value ? `/v1/models/${batch.value.model}/form` : null); // for its currency
  const current = useRows(id);
  const [grade, setGrade] = useState("");
  const [gate, setGate] = useState("");
  const [text, setText] = useState("");
  const rows = useMemo(() => current.rows?.filter((row) => (!grade || (row.grade ?? NO_GRADE) === grade) && (!gate || row.gate === gate) && (!text || row.id.toLowerCase().includes(text.toLowerCase()))), [current.rows, grade, gate, text]);
  const columns = useMemo(() => columnsOf(form.value ? unitOf(form.value.currency) : null), [form.value]);
  if (current.error) return <ErrorMessage error={current.error} />;
  if (!current.rows || !rows) return <Loading en="Loading the batch" zh="正在加载批次" />;
  return (
    <div class="stack">
      <SimulatedBanner visible={batch.value?.simulated ?? false} />
      <p class="quiet">{batch.value ? `${formatTimestamp(batch.value.created)} · ${batch.value.model} ${batch.value.version}` : ""}</p>
      {batch.value && batch.value.state !== "done" ? <p class="refusal" role="status"><BatchState batch={batch.value} /> <Text en="Only the rows processed so far are shown, not the whole register." zh="以下仅为已处理的行，并非完整名录。" /></p> : null}
      {batch.value ? <TruncatedFaults batch={batch.value} /> : null}
      <div class="split">
        <section class="card"><GradeChart rows={current.rows} selected={grade} onSelect={(next) => setGrade(next === grade ? "" : next)} /></section>
        <section class="card"><GradeMigration id={id} rows={current.rows} /></section>
      </div>
      <section class="card">
        <div class="actions filters">
          <h2><Text en={`${formatNumber(rows.length)} of ${formatNumber(current.rows.length)} companies`} zh={`${formatNumber(current.rows.length)} 家企业中的 ${formatNumber(rows.length)} 家`} /></h2>
          <label for="find"><Text en="Company" zh="企业" /></label><input id="find" class="short" value={text} autocomplete="off" onInput={(event) => setText(event.currentTarget.value)} />
          <label for="grade"><Text en="Grade" zh="等级" /></label>
          <select id="grade" class="short" value={grade} onChange={(event) => setGrade(event.currentTarget.value)}><option value="">{translate("all", "全部")}</option>{[...GRADES, NO_GRADE].map((value) => <option key={value} value={value}>{value}</option>)}</select>
          <label for="gate"><Text en="Shell gate" zh="空壳闸门" /></label>
          <select id="gate" class="short" value={gate} onChange={(event) => setGate(event.currentTarget.value)}><option value="">{translate("all", "全部")}</option>{Object.entries(GATES).map(([code, [en, zh]]) => <option key={code} value={code}>{translate(en, zh)}</option>)}</select>
        </div>
        {rows.length ? <VirtualTable caption={["Companies", "企业"]} columns={columns} rows={rows} /> : <Empty en="No company matches." zh="没有符合条件的企业。" />}
      </section>
    </div>
  );
}

const columnsOf = (unit: Bilingual | null): VirtualColumn<Row>[] => [
  { key: "id", en: "Company", zh: "企业", width: "1.4fr", sortKey: (row) => row.id, cell: (row) => <a href={`/console/companies/company/${encodeURIComponent(row.id)}`}>{row.id}</a> },
  { key: "grade", en: "Grade", zh: "等级", width: "80px", sortKey: (row) => (row.grade ? GRADES.indexOf(row.grade) : null), cell: (row) => row.grade ?? NO_GRADE },
  { key: "pd", en: "PD", zh: "违约概率", width: "100px", number: true, sortKey: (row) => row.pd, cell: (row) => (row.pd === null ? NO_GRADE : formatPercent(row.pd, 2)) },
  { key: "limit", en: unit ? `Limit, ${unit[0]}` : "Limit", zh: unit ? `额度（${unit[1]}）` : "额度", width: "130px", number: true, sortKey: (row) => row.limit, cell: (row) => formatAmount(row.limit) },
  { key: "innovation", en: "Innovation", zh: "科创分", width: "110px", number: true, sortKey: (row) => row.innovation, cell: (row) => (row.innovation === null ? NO_GRADE : formatNumber(row.innovation, 1)) },
  { key: "gate", en: "Shell gate", zh: "空壳闸门", width: "110px", sortKey: (row) => row.gate, cell: (row) => { const verdict = GATES[row.gate ?? ""]; return verdict ? <span class={`chip ${verdict[2]}`}><Text en={verdict[0]} zh={verdict[1]} /></span> : NO_GRADE; } },
  { key: "warnings", en: "Warnings", zh: "预警", width: "100px", number: true, sortKey: (row) => countCodes(row.warnings), cell: (row) => countCodes(row.warnings) || "" },
  { key: "decision", en: "Decision", zh: "决定", width: "150px", sortKey: (row) => row.decision, cell: (row) => row.error ? <span class="chip bad" title={row.error}><Text en="faulty" zh="有误" /></span> : <span class={`chip ${row.decision === "approve" ? "good" : "warn"}`}>{row.decision === "approve" ? <Text en="Approved" zh="通过" /> : <Text en="Human decision" zh="转人工" />}</span> },
];

const countCodes = (codes: string | null) => (codes ? codes.split(";").length : 0);

function useRows(id: string | null): { rows?: Row[]; error?: unknown } {
  const [state, setState] = useState<{ rows?: Row[]; error?: unknown }>({});
  useEffect(() => {
    setState({});
    if (id === null) return;
    const controller = new AbortController();
    sendRequest(rowsAddress(id), { signal: controller.signal, headers: { Accept: "application/x-ndjson" } })
      .then((response) => response.text()).then(parseRows)
      .then((rows) => setState({ rows }), (error) => controller.signal.aborted || setState({ error }));
    return () => controller.abort();
  }, [id]);
  return state;
}

function GradeChart({ rows, selected, onSelect }: { rows: Row[]; selected: string; onSelect: (grade: string) => void }) {
  const counts = new Map<string, number>([...GRADES, NO_GRADE].map((grade) => [grade, 0]));
  for (const row of rows) counts.set(row.grade ?? NO_GRADE, (counts.get(row.grade ?? NO_GRADE) ?? 0) + 1);
  const max = Math.max(1, ...counts.values());
  return (
    <Figure title={["Grades", "等级分布"]} note={["Select a grade to filter the companies.", "点击等级以筛选企业。"]}>
      <ul class="grades">
        {[...counts].map(([grade, count]) => (
          <li key={grade}>
            <button type="button" aria-pressed={selected === grade} onClick={() => onSelect(grade)}>
              <span>{grade}</span>
              <svg viewBox="0 0 200 14" preserveAspectRatio="none" aria-hidden="true"><rect y="1" height="12" width={(200 * count) / max} class={`grade-${grade === NO_GRADE ? "none" : grade}`} /></svg>
              <b>{formatNumber(count)}</b>
            </button>
          </li>
        ))}
      </ul>
    </Figure>
  );
}

function GradeMigration({ id, rows }: { id: string; rows: Row[] }) {
  const earlierRuns = useResource<{ batches: Batch[] }>(`/v1/batches?product=${SCITECH_RISK.product}&limit=50&before=${id}`);
  const candidates = earlierRuns.value?.batches.filter((batch) => batch.state === "done") ?? [];
  const [comparedRun, setComparedRun] = useState("");
  const previous = useRows(comparedRun || null);
  const matrix = useMemo(() => (previous.rows ? gradeMigration(previous.rows, rows) : null), [previous.rows, rows]);
  const grades = [...GRADES, NO_GRADE];
  return (
    <div class="figure">
      <div class="actions"><strong><Text en="Grade migration since" zh="等级迁移，对比批次" /></strong>
        <select aria-label={translate("earlier batch", "对比批次")} class="short" value={comparedRun} onChange={(event) => setComparedRun(event.currentTarget.value)}>
          <option value="">{candidates.length ? translate("select an earlier batch", "选择较早批次") : translate("no earlier batch", "无更早批次")}</option>
          {candidates.map((batch) => <option key={batch.batch_id} value={batch.batch_id}>{formatTimestamp(batch.created)} · {formatNumber(batch.rows)}</option>)}
        </select>
      </div>
      {previous.error ? <ErrorMessage error={previous.error} /> : null}
      {comparedRun && !matrix && !previous.error ? <Loading /> : null}
      {matrix ? (
        <div class="scroll" tabindex={0}>
          <table class="matrix">
            <caption class="quiet"><Text en={`Rows: earlier grade; columns: current grade. ${formatNumber(matrix.compared)} companies have a grade in both batches; ${formatPercent(matrix.downgraded)} were downgraded, ${formatPercent(matrix.upgraded)} upgraded.`} zh={`行：原等级；列：现等级。两批均有等级的 ${formatNumber(matrix.compared)} 家；其中下调 ${formatPercent(matrix.downgraded)}，上调 ${formatPercent(matrix.upgraded)}。`} /></caption>
            <thead><tr><th scope="col"><span class="hidden"><Text en="before" zh="原等级" /></span></th>{grades.map((grade) => <th key={grade} scope="col" class="number">{grade}</th>)}</tr></thead>
            <tbody>{grades.map((from) => (
              <tr key={from}><th scope="row">{from}</th>{grades.map((to) => {
                const count = matrix.counts.get(`${from} ${to}`) ?? 0;
                const share = count / Math.max(1, matrix.totals.get(from) ?? 0);
                const [fromRank, toRank] = [grades.indexOf(from), grades.indexOf(to)];
                return <td key={to} class={`number ${toRank === fromRank ? "unchanged" : [from, to].includes(NO_GRADE) ? "" : toRank > fromRank ? "downgraded" : "upgraded"}`} style={{ "--share": `${Math.round(70 * Math.sqrt(share))}%` }}>{count || ""}</td>;
              })}</tr>
            ))}</tbody>
          </table>
        </div>
      ) : null}
    </div>
  );
}

function gradeMigration(earlier: Row[], later: Row[]) {
  const earlierGrades = new Map(earlier.map((row) => [row.id, row.grade ?? NO_GRADE]));
  const counts = new Map<string, number>(), totals = new Map<string, number>();
  let compared = 0, upgrades = 0, downgrades = 0;
  for (const row of later) {
    const from = earlierGrades.get(row.id);
    if (from === undefined) continue;
    const to = row.grade ?? NO_GRADE;
    if (from !== NO_GRADE && to !== NO_GRADE) {
      compared += 1;
      if (GRADES.indexOf(to) < GRADES.indexOf(from)) upgrades += 1;
      if (GRADES.indexOf(to) > GRADES.indexOf(from)) downgrades += 1;
    }
    counts.set(`${from} ${to}`, (counts.get(`${from} ${to}`) ?? 0) + 1);
    totals.set(from, (totals.get(from) ?? 0) + 1);
  }
  return { counts, totals, compared, upgraded: upgrades / Math.max(1, compared), downgraded: downgrades / Math.max(1, compared) };
}

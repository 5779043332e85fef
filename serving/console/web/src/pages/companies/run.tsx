// One run over a register: every company as a row, grades, and how they moved since another run.

import { useEffect, useMemo, useState } from "preact/hooks";
import type { Batch, Form } from "../credit/types";
import { send, useAsk } from "../../ui/api";
import { Figure } from "../../ui/chart/figure";
import { amount, moment, number, percent, unitOf } from "../../ui/format";
import { Cut, State } from "../../ui/batches";
import { Long, type LongColumn } from "../../ui/virtual-table";
import { Empty, Failed, Loading } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import { Simulated } from "../credit/answer";
import { GATES, GRADES, OF, read, rowsOf, type Row } from "./types";

const NONE = "–"; // without a grade

export function Run({ id }: { id: string }) {
  const batch = useAsk<Batch>(`/v1/batches/${id}`);
  const form = useAsk<Form>(batch.value ? `/v1/models/${batch.value.model}/form` : null); // for its currency
  const mine = useRows(id);
  const [grade, setGrade] = useState("");
  const [gate, setGate] = useState("");
  const [text, setText] = useState("");
  const rows = useMemo(() => mine.rows?.filter((row) => (!grade || (row.grade ?? NONE) === grade) && (!gate || row.gate === gate) && (!text || row.id.toLowerCase().includes(text.toLowerCase()))), [mine.rows, grade, gate, text]);
  const columns = useMemo(() => columnsOf(form.value ? unitOf(form.value.currency) : null), [form.value]);
  if (mine.error) return <Failed error={mine.error} />;
  if (!mine.rows || !rows) return <Loading en="Reading the run" zh="读取批次" />;
  return (
    <div class="stack">
      <Simulated shown={batch.value?.simulated ?? false} />
      <p class="quiet">{batch.value ? `${moment(batch.value.created)} · ${batch.value.model} ${batch.value.version}` : ""}</p>
      {batch.value && batch.value.state !== "done" ? <p class="refusal" role="status"><State of={batch.value} /> <Say en="What follows are the rows that were answered so far, not the whole register." zh="以下仅为已答复的行，并非完整名录。" /></p> : null}
      {batch.value ? <Cut of={batch.value} /> : null}
      <div class="split">
        <section class="card"><Grades rows={mine.rows} chosen={grade} choose={(next) => setGrade(next === grade ? "" : next)} /></section>
        <section class="card"><Migration id={id} rows={mine.rows} /></section>
      </div>
      <section class="card">
        <div class="actions filters">
          <h2><Say en={`${number(rows.length)} of ${number(mine.rows.length)} companies`} zh={`${number(mine.rows.length)} 家企业中的 ${number(rows.length)} 家`} /></h2>
          <label for="find"><Say en="Company" zh="企业" /></label><input id="find" class="short" value={text} autocomplete="off" onInput={(event) => setText(event.currentTarget.value)} />
          <label for="grade"><Say en="Grade" zh="等级" /></label>
          <select id="grade" class="short" value={grade} onChange={(event) => setGrade(event.currentTarget.value)}><option value="">{plain("all", "全部")}</option>{[...GRADES, NONE].map((each) => <option key={each} value={each}>{each}</option>)}</select>
          <label for="gate"><Say en="Shell gate" zh="空壳闸门" /></label>
          <select id="gate" class="short" value={gate} onChange={(event) => setGate(event.currentTarget.value)}><option value="">{plain("all", "全部")}</option>{Object.entries(GATES).map(([code, [en, zh]]) => <option key={code} value={code}>{plain(en, zh)}</option>)}</select>
        </div>
        {rows.length ? <Long caption={["Companies", "企业"]} columns={columns} rows={rows} /> : <Empty en="No company is like that." zh="没有符合条件的企业。" />}
      </section>
    </div>
  );
}

const columnsOf = (unit: readonly [string, string] | null): LongColumn<Row>[] => [
  { key: "id", en: "Company", zh: "企业", wide: "1.4fr", by: (row) => row.id, cell: (row) => <a href={`/console/companies/company/${encodeURIComponent(row.id)}`}>{row.id}</a> },
  { key: "grade", en: "Grade", zh: "等级", wide: "80px", by: (row) => (row.grade ? GRADES.indexOf(row.grade) : null), cell: (row) => row.grade ?? NONE },
  { key: "pd", en: "Default", zh: "违约概率", wide: "100px", number: true, by: (row) => row.pd, cell: (row) => (row.pd === null ? NONE : percent(row.pd, 2)) },
  { key: "limit", en: unit ? `Limit, ${unit[0]}` : "Limit", zh: unit ? `额度（${unit[1]}）` : "额度", wide: "130px", number: true, by: (row) => row.limit, cell: (row) => amount(row.limit) },
  { key: "innovation", en: "Innovation", zh: "科创分", wide: "110px", number: true, by: (row) => row.innovation, cell: (row) => (row.innovation === null ? NONE : number(row.innovation, 1)) },
  { key: "gate", en: "Shell gate", zh: "空壳闸门", wide: "110px", by: (row) => row.gate, cell: (row) => { const told = GATES[row.gate ?? ""]; return told ? <span class={`chip ${told[2]}`}><Say en={told[0]} zh={told[1]} /></span> : NONE; } },
  { key: "warnings", en: "Warnings", zh: "预警", wide: "100px", number: true, by: (row) => count(row.warnings), cell: (row) => count(row.warnings) || "" },
  { key: "decision", en: "Decision", zh: "决定", wide: "120px", by: (row) => row.decision, cell: (row) => row.error ? <span class="chip bad" title={row.error}><Say en="faulty" zh="有误" /></span> : <span class={`chip ${row.decision === "approve" ? "good" : "warn"}`}>{row.decision === "approve" ? <Say en="Approved" zh="通过" /> : <Say en="A person" zh="转人工" />}</span> },
];

const count = (codes: string | null) => (codes ? codes.split(";").length : 0);

function useRows(id: string | null): { rows?: Row[]; error?: unknown } {
  const [state, setState] = useState<{ rows?: Row[]; error?: unknown }>({});
  useEffect(() => {
    setState({});
    if (id === null) return;
    const ending = new AbortController();
    send(rowsOf(id), { signal: ending.signal, headers: { Accept: "application/x-ndjson" } })
      .then((answer) => answer.text()).then(read)
      .then((rows) => setState({ rows }), (error) => ending.signal.aborted || setState({ error }));
    return () => ending.abort();
  }, [id]);
  return state;
}

function Grades({ rows, chosen, choose }: { rows: Row[]; chosen: string; choose: (grade: string) => void }) {
  const counts = new Map<string, number>([...GRADES, NONE].map((grade) => [grade, 0]));
  for (const row of rows) counts.set(row.grade ?? NONE, (counts.get(row.grade ?? NONE) ?? 0) + 1);
  const most = Math.max(1, ...counts.values());
  return (
    <Figure title={["Grades", "等级分布"]} note={["Choose one to see its companies.", "点击等级以筛选企业。"]}>
      <ul class="grades">
        {[...counts].map(([grade, many]) => (
          <li key={grade}>
            <button type="button" aria-pressed={chosen === grade} onClick={() => choose(grade)}>
              <span>{grade}</span>
              <svg viewBox="0 0 200 14" preserveAspectRatio="none" aria-hidden="true"><rect y="1" height="12" width={(200 * many) / most} class={`grade-${grade === NONE ? "none" : grade}`} /></svg>
              <b>{number(many)}</b>
            </button>
          </li>
        ))}
      </ul>
    </Figure>
  );
}

function Migration({ id, rows }: { id: string; rows: Row[] }) {
  const runs = useAsk<{ batches: Batch[] }>(`/v1/batches?product=${OF.product}&limit=50&before=${id}`);
  const others = runs.value?.batches.filter((batch) => batch.state === "done") ?? [];
  const [other, setOther] = useState("");
  const before = useRows(other || null);
  const matrix = useMemo(() => (before.rows ? moved(before.rows, rows) : null), [before.rows, rows]);
  const all = [...GRADES, NONE];
  return (
    <div class="figure">
      <div class="actions"><strong><Say en="How grades moved since" zh="等级迁移，对比" /></strong>
        <select aria-label={plain("earlier run", "对比批次")} class="short" value={other} onChange={(event) => setOther(event.currentTarget.value)}>
          <option value="">{others.length ? plain("choose an earlier run", "选择较早批次") : plain("no earlier run", "无更早批次")}</option>
          {others.map((batch) => <option key={batch.batch_id} value={batch.batch_id}>{moment(batch.created)} · {number(batch.rows)}</option>)}
        </select>
      </div>
      {before.error ? <Failed error={before.error} /> : null}
      {other && !matrix && !before.error ? <Loading /> : null}
      {matrix ? (
        <div class="scroll" tabindex={0}>
          <table class="matrix">
            <caption class="quiet"><Say en={`Rows: the grade before; columns: now. ${number(matrix.same)} companies have a grade in both; of these ${percent(matrix.down)} fell, ${percent(matrix.up)} rose.`} zh={`行：原等级；列：现等级。两批均有等级的 ${number(matrix.same)} 家；其中下调 ${percent(matrix.down)}，上调 ${percent(matrix.up)}。`} /></caption>
            <thead><tr><th scope="col"><span class="hidden"><Say en="before" zh="原等级" /></span></th>{all.map((grade) => <th key={grade} scope="col" class="number">{grade}</th>)}</tr></thead>
            <tbody>{all.map((from) => (
              <tr key={from}><th scope="row">{from}</th>{all.map((to) => {
                const many = matrix.counts.get(`${from} ${to}`) ?? 0;
                const share = many / Math.max(1, matrix.of.get(from) ?? 0);
                const [was, is] = [all.indexOf(from), all.indexOf(to)];
                return <td key={to} class={`number ${is === was ? "stay" : [from, to].includes(NONE) ? "" : is > was ? "fell" : "rose"}`} style={{ "--share": `${Math.round(70 * Math.sqrt(share))}%` }}>{many || ""}</td>;
              })}</tr>
            ))}</tbody>
          </table>
        </div>
      ) : null}
    </div>
  );
}

function moved(before: Row[], now: Row[]) {
  const was = new Map(before.map((row) => [row.id, row.grade ?? NONE]));
  const counts = new Map<string, number>(), of = new Map<string, number>();
  let same = 0, up = 0, down = 0;
  for (const row of now) {
    const from = was.get(row.id);
    if (from === undefined) continue;
    const to = row.grade ?? NONE;
    if (from !== NONE && to !== NONE) {
      same += 1;
      if (GRADES.indexOf(to) < GRADES.indexOf(from)) up += 1;
      if (GRADES.indexOf(to) > GRADES.indexOf(from)) down += 1;
    }
    counts.set(`${from} ${to}`, (counts.get(`${from} ${to}`) ?? 0) + 1);
    of.set(from, (of.get(from) ?? 0) + 1);
  }
  return { counts, of, same, up: up / Math.max(1, same), down: down / Math.max(1, same) };
}

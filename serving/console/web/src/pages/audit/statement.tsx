// What the tenant used in a month and what it costs, line by line, each with its receipt.

import { useState } from "preact/hooks";
import { useAsk } from "../../ui/api";
import { Field } from "../../ui/field";
import { moment, number } from "../../ui/format";
import { Empty, Shown } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { Say, word } from "../../ui/i18n";
import { PRODUCTS, RULES } from "./labels";

interface Charged {
  product: string;
  units: number;
  rules: string;
  rule: string;
  fen: number;
}

interface Statement {
  tenant: string;
  month: string;
  lines: (Charged & { decision: string; at: string; leaf: number })[];
  totals: (Charged & { lines: number })[];
  fen: number;
}

const SHOWN = 200;
const yuan = (fen: number) => `RMB ${number(fen / 100, 2)}`;

export function StatementPage() {
  const [month, setMonth] = useState(new Date().toISOString().slice(0, 7));
  const fine = /^\d{4}-(0[1-9]|1[0-2])$/.test(month);
  const asked = useAsk<Statement>(fine ? `/v1/statements/${month}` : null);
  return (
    <div class="stack">
      <div class="card statement-head">
        <Field label={{ en: "Month", zh: "月份" }} unit={{ en: "UTC", zh: "UTC" }} hint={{ en: "as 2026-11", zh: "如 2026-11" }} fault={fine ? null : { en: "A month is needed, as 2026-11.", zh: "请填写月份，如 2026-11。" }}>
          {(control) => <input {...control} type="month" value={month} onInput={(event) => setMonth(event.currentTarget.value)} />}
        </Field>
        {fine ? <a class="button" href={`/v1/statements/${month}?format=csv`} download={`statement-${month}.csv`}><Say en="Download as CSV" zh="下载 CSV" /></a> : null}
      </div>
      <Shown of={asked}>{(told) => (told.lines.length ? <Lines told={told} /> : <Empty en="Nothing was used in this month." zh="该月没有使用记录。" />)}</Shown>
    </div>
  );
}

function Lines({ told }: { told: Statement }) {
  return (
    <>
      <section class="card stack">
        <p class="headline">{yuan(told.fen)} <small class="quiet"><Say en={`${told.tenant}, ${told.month}, ${number(told.lines.length)} lines`} zh={`${told.tenant}，${told.month}，${number(told.lines.length)} 条`} /></small></p>
        <Table caption={["Totals", "合计"]} rows={told.totals} keyOf={(one) => `${one.product} ${one.rules} ${one.rule}`} columns={[
          { en: "Product", zh: "产品", cell: (one) => word(PRODUCTS, one.product) },
          { en: "Price rule", zh: "计价规则", cell: (one) => <>{word(RULES, one.rule)} ({one.rules})</> },
          { en: "Lines", zh: "条数", number: true, cell: (one) => number(one.lines) },
          { en: "Answers", zh: "答复数", number: true, cell: (one) => number(one.units) },
          { en: "Price", zh: "金额", number: true, cell: (one) => yuan(one.fen) },
        ]} />
      </section>
      <section class="card stack">
        <Table caption={["Lines", "明细"]} rows={told.lines.slice(-SHOWN).reverse()} keyOf={(one) => one.decision} columns={[
          { en: "Time", zh: "时间", cell: (one) => moment(one.at) },
          { en: "Decision", zh: "决定", cell: (one) => <a href={`/console/audit/decisions/${one.decision}`}><code>{one.decision}</code></a> },
          { en: "Product", zh: "产品", cell: (one) => word(PRODUCTS, one.product) },
          { en: "Answers", zh: "答复数", number: true, cell: (one) => number(one.units) },
          { en: "Price", zh: "金额", number: true, cell: (one) => yuan(one.fen) },
          { en: "Record in the log", zh: "日志序号", number: true, cell: (one) => one.leaf },
        ]} />
        {told.lines.length > SHOWN ? <p class="quiet"><Say en={`The last ${SHOWN} of ${number(told.lines.length)}; all are in the CSV.`} zh={`显示最后 ${SHOWN} 条，共 ${number(told.lines.length)} 条；全部见 CSV。`} /></p> : null}
      </section>
    </>
  );
}

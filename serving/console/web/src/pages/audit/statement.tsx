// The monthly statement: usage and price, line by line, each with its receipt.

import { useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { Field } from "../../ui/field";
import { formatTimestamp, formatNumber } from "../../ui/format";
import { Empty, ResourceView } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { Text, labelOf } from "../../ui/i18n";
import { PRODUCTS, PRICE_RULES } from "./labels";

interface Charge {
  product: string;
  units: number;
  rules: string;
  rule: string;
  fen: number;
}

interface Statement {
  tenant: string;
  month: string;
  lines: (Charge & { decision: string; at: string; leaf: number })[];
  totals: (Charge & { lines: number })[];
  fen: number;
}

const MAX_LINES = 200;
const yuan = (fen: number) => `RMB ${formatNumber(fen / 100, 2)}`;

export function StatementPage() {
  const [month, setMonth] = useState(new Date().toISOString().slice(0, 7));
  const valid = /^\d{4}-(0[1-9]|1[0-2])$/.test(month);
  const statement = useResource<Statement>(valid ? `/v1/statements/${month}` : null);
  return (
    <div class="stack">
      <div class="card statement-head">
        <Field label={{ en: "Month", zh: "月份" }} unit={{ en: "UTC", zh: "UTC" }} hint={{ en: "such as 2026-11", zh: "如 2026-11" }} fault={valid ? null : { en: "Enter a month, such as 2026-11.", zh: "请填写月份，如 2026-11。" }}>
          {(control) => <input {...control} type="month" value={month} onInput={(event) => setMonth(event.currentTarget.value)} />}
        </Field>
        {valid ? <a class="button" href={`/v1/statements/${month}?format=csv`} download={`statement-${month}.csv`}><Text en="Download as CSV" zh="下载 CSV" /></a> : null}
      </div>
      <ResourceView resource={statement}>{(value) => (value.lines.length ? <StatementLines statement={value} /> : <Empty en="No usage in this month." zh="该月无使用记录。" />)}</ResourceView>
    </div>
  );
}

function StatementLines({ statement }: { statement: Statement }) {
  return (
    <>
      <section class="card stack">
        <p class="headline">{yuan(statement.fen)} <small class="quiet"><Text en={`${statement.tenant}, ${statement.month}, ${formatNumber(statement.lines.length)} lines`} zh={`${statement.tenant}，${statement.month}，${formatNumber(statement.lines.length)} 条`} /></small></p>
        <Table caption={["Totals", "合计"]} rows={statement.totals} keyOf={(row) => `${row.product} ${row.rules} ${row.rule}`} columns={[
          { en: "Product", zh: "产品", cell: (row) => labelOf(PRODUCTS, row.product) },
          { en: "Price rule", zh: "计价规则", cell: (row) => <>{labelOf(PRICE_RULES, row.rule)} ({row.rules})</> },
          { en: "Lines", zh: "条数", number: true, cell: (row) => formatNumber(row.lines) },
          { en: "Decisions", zh: "决定数", number: true, cell: (row) => formatNumber(row.units) },
          { en: "Price", zh: "金额", number: true, cell: (row) => yuan(row.fen) },
        ]} />
      </section>
      <section class="card stack">
        <Table caption={["Lines", "明细"]} rows={statement.lines.slice(-MAX_LINES).reverse()} keyOf={(row) => row.decision} columns={[
          { en: "Time", zh: "时间", cell: (row) => formatTimestamp(row.at) },
          { en: "Decision", zh: "决定", cell: (row) => <a href={`/console/audit/decisions/${row.decision}`}><code>{row.decision}</code></a> },
          { en: "Product", zh: "产品", cell: (row) => labelOf(PRODUCTS, row.product) },
          { en: "Decisions", zh: "决定数", number: true, cell: (row) => formatNumber(row.units) },
          { en: "Price", zh: "金额", number: true, cell: (row) => yuan(row.fen) },
          { en: "Log entry", zh: "日志序号", number: true, cell: (row) => row.leaf },
        ]} />
        {statement.lines.length > MAX_LINES ? <p class="quiet"><Text en={`Showing the last ${MAX_LINES} of ${formatNumber(statement.lines.length)}; the CSV contains all.`} zh={`仅显示最后 ${MAX_LINES} 条，共 ${formatNumber(statement.lines.length)} 条；完整明细见 CSV。`} /></p> : null}
      </section>
    </>
  );
}

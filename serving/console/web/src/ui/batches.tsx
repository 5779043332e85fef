// Many applicants at once: a file sent, followed while it is answered, and its answers taken home.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { Batch, Form } from "../pages/credit/types";
import { ask, newKey, Refused, send, useAsk } from "./api";
import { Field } from "./field";
import { moment, number } from "./format";
import { Empty, Failed, Shown } from "./feedback";
import { Table } from "./table";
import { Say, word } from "./i18n";

const TYPES: Record<string, string> = { csv: "text/csv", ndjson: "application/x-ndjson", jsonl: "application/x-ndjson", parquet: "application/vnd.apache.parquet" };
const STATES: Record<string, readonly [string, string]> = { running: ["Under way", "处理中"], done: ["Done", "已完成"], broken: ["Broken off", "已中断"] };
const EVERY = 400; // ms between two looks at how far it is

export interface Of {
  product: string;
  route: string;
  model: string;
}

// `named`: how a batch is led to, where it has a page of its own.
export function Batches({ of, named = (row) => moment(row.created) }: { of: Of; named?: (row: Batch) => ComponentChildren }) {
  const page = useAsk<{ batches: Batch[] }>(`/v1/batches?product=${of.product}`);
  return (
    <div class="side">
      <Upload of={of} done={page.again} />
      <section class="card">
        <h2><Say en="Batches" zh="批次" /></h2>
        <Shown of={page}>{(found) => found.batches.length ? (
          <Table caption={["Batches", "批次"]} rows={found.batches} keyOf={(row) => row.batch_id} columns={[
            { en: "Sent", zh: "提交时间", cell: named },
            { en: "State", zh: "状态", cell: (row) => <State of={row} /> },
            { en: "Rows", zh: "行数", number: true, cell: (row) => number(row.rows) },
            { en: "Faulty", zh: "有误", number: true, cell: (row) => number(row.faulty) },
            { en: "Model", zh: "模型", cell: (row) => `${row.model} ${row.version}` },
            { en: "Answers", zh: "答复", cell: (row) => <span class="actions">{["csv", "parquet"].map((format) => <a key={format} href={`/v1/batches/${row.batch_id}/rows?format=${format}`} download={`${row.batch_id}.${format}`}>{format.toUpperCase()}</a>)}</span> },
          ]} />
        ) : <Empty en="No batches yet." zh="暂无批次。" />}</Shown>
      </section>
    </div>
  );
}

export function State({ of: { state } }: { of: Batch }) {
  return <span class={`chip ${state === "done" ? "good" : state === "broken" ? "bad" : "warn"}`}>{word(STATES, state)}</span>;
}

// Where the summary does not name every faulty row.
export function Cut({ of }: { of: Batch }) {
  if (!of.faults_cut) return null;
  return <p class="quiet"><Say en={`${number(of.faulty)} rows are faulty; the batch's own list names the first of them alone. Each faulty row of the answers tells its own error.`} zh={`共有 ${number(of.faulty)} 行有误，批次摘要仅列出最前面的一部分；答复中每一有误行均写明其错误。`} /></p>;
}

function Upload({ of, done }: { of: Of; done: () => void }) {
  const form = useAsk<Form>(`/v1/models/${of.model}/form`);
  const [file, setFile] = useState<File | null>(null);
  const [keep, setKeep] = useState("");
  const [total, setTotal] = useState<number | null>(null);
  const [far, setFar] = useState<Batch | null>(null);
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState<unknown>(null);
  const [over, setOver] = useState(false);
  const key = useMemo(newKey, [file, keep]); // the same file again, after the network was gone, is the same batch
  const input = useRef<HTMLInputElement>(null);
  const kind = TYPES[file?.name.split(".").pop()?.toLowerCase() ?? ""];
  const chosen = async (next: File | undefined) => {
    if (!next) return;
    setFile(next);
    setFar(null);
    setFailed(null);
    setTotal(null);
    if (/\.csv$/i.test(next.name)) {
      const head = (await next.slice(0, 65_536).text()).split(/\r?\n/, 1)[0] ?? "";
      const known = new Set(["subject_id", ...(form.value?.fields ?? []).map((field) => field.name)]);
      setKeep(head.split(",").map((name) => name.trim().replace(/^"|"$/g, "")).filter((name) => name && !known.has(name)).join(","));
      setTotal(Math.max(0, (await lines(next)) - 1));
    }
  };
  const go = async (event: Event) => {
    event.preventDefault();
    if (!file || !kind) return;
    setBusy(true);
    setFailed(null);
    try {
      const answer = await send(`${of.route}/batch${keep ? `?keep=${encodeURIComponent(keep)}` : ""}`, { body: file, headers: { "Content-Type": kind, Accept: "text/csv", "Idempotency-Key": key } });
      const id = answer.headers.get("Batch-Id")!;
      const look = setInterval(() => void ask<Batch>(`/v1/batches/${id}`).then(setFar, () => undefined), EVERY); // a look that fails is followed by the next
      try {
        const reader = answer.body!.getReader();
        while (!(await reader.read()).done); // kept by the service: taken home from the list
      } finally {
        clearInterval(look);
      }
      setFar(await ask<Batch>(`/v1/batches/${id}`));
      done();
    } catch (error) {
      setFailed(error);
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => {
    if (file && !kind) setFailed(new Refused(0, { title: "This kind of file cannot be sent", title_zh: "不支持的文件类型", detail: "CSV, NDJSON or Parquet is needed.", detail_zh: "请使用 CSV、NDJSON 或 Parquet。" }));
  }, [file, kind]);
  return (
    <section class="card">
      <h2><Say en="Send a file" zh="上传文件" /></h2>
      <form class="stack" onSubmit={go}>
        <label class={`drop${over ? " over" : ""}`} onDragOver={(event) => (event.preventDefault(), setOver(true))} onDragLeave={() => setOver(false)}
          onDrop={(event) => (event.preventDefault(), setOver(false), void chosen(event.dataTransfer?.files[0]))}>
          <input ref={input} class="hidden" type="file" accept=".csv,.ndjson,.jsonl,.parquet" onChange={(event) => void chosen(event.currentTarget.files?.[0])} />
          <b>{file ? file.name : <Say en="Drop a table here, or choose one" zh="将表格拖到此处，或点击选择" />}</b>
          <span class="quiet">CSV, NDJSON, Parquet</span>
        </label>
        <Field label={{ en: "Columns to keep beside the answers", zh: "随答复保留的列" }} hint={{ en: "Commas between, such as the household's number. Other unknown columns are refused. A file of subject_id alone, and what is kept, is read from the store under live authorisations.", zh: "用逗号分隔，如户号；其他未知列将被拒绝。仅含 subject_id（及保留列）的文件，依有效授权读取库内指标。" }}>
          {(control) => <input {...control} value={keep} autocomplete="off" onInput={(event) => setKeep(event.currentTarget.value)} />}
        </Field>
        <div class="actions"><button class="main" type="submit" disabled={!file || !kind || busy}><Say en="Send" zh="上传" /></button></div>
        <div role="status" aria-live="polite">
          {busy || far ? (
            <>
              <progress max={total ?? undefined} value={far ? (total === null && busy ? undefined : far.rows) : undefined} aria-label="progress 进度" />
              <p><Say en={`${number(far?.rows ?? 0)} rows answered${total === null ? "" : ` of ${number(total)}`}, ${number(far?.faulty ?? 0)} faulty`} zh={`已答复 ${number(far?.rows ?? 0)} 行${total === null ? "" : `，共 ${number(total)} 行`}，有误 ${number(far?.faulty ?? 0)} 行`} /></p>
              {far && !busy ? <Cut of={far} /> : null}
              {!busy && far?.state === "broken" ? <p><State of={far} /> <Say en="Not every row was answered. Press Send again without choosing the file anew: what the same model, policy and inputs answered before is not charged again." zh="未答复全部行。请勿重新选择文件，直接再次点击“上传”：此前由同一模型与政策、依据相同输入答复的行不再计费。" /></p> : null}
            </>
          ) : null}
        </div>
        {failed ? <Failed error={failed} /> : null}
      </form>
    </section>
  );
}

// Counted in pieces, so that a large file is never whole in memory.
async function lines(file: File): Promise<number> {
  const reader = file.stream().getReader();
  let found = 0, last = 10;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return found + (last === 10 ? 0 : 1);
    for (const byte of value) if (byte === 10) found += 1;
    last = value[value.length - 1] ?? last;
  }
}

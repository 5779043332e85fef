// Batches: upload a file of applicants, follow its progress, download the results.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import type { Batch, Form } from "../pages/credit/types";
import { fetchJson, newIdempotencyKey, ApiError, sendRequest, useResource } from "./api";
import { Field } from "./field";
import { formatTimestamp, formatNumber } from "./format";
import { Empty, ErrorMessage, ResourceView } from "./feedback";
import { Table } from "./table";
import { Text, labelOf, type Labels } from "./i18n";

const XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const TYPES: Record<string, string> = { csv: "text/csv", tsv: "text/csv", txt: "text/csv", xlsx: XLSX, xls: XLSX, ndjson: "application/x-ndjson", jsonl: "application/x-ndjson", parquet: "application/vnd.apache.parquet" };
const STATES: Labels = { running: ["In progress", "处理中"], done: ["Done", "已完成"], broken: ["Interrupted", "已中断"] };
const POLL_MS = 400; // ms between two requests for the batch's progress

// The beginning of a text file: UTF-8, else GB18030, in which Excel saves a Chinese CSV. It may end within a character.
function decodeText(bytes: ArrayBuffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
  } catch {
    return new TextDecoder("gb18030").decode(bytes);
  }
}

export interface ProductApi {
  product: string;
  route: string;
  model: string;
}

// `renderCreated`: renders the time of creation, as a link where batches have a page of their own.
export function Batches({ api, renderCreated = (row) => formatTimestamp(row.created) }: { api: ProductApi; renderCreated?: (row: Batch) => ComponentChildren }) {
  const page = useResource<{ batches: Batch[] }>(`/v1/batches?product=${api.product}`);
  return (
    <div class="side-layout">
      <BatchUpload api={api} onDone={page.reload} />
      <section class="card">
        <h2><Text en="Batches" zh="批次" /></h2>
        <ResourceView resource={page}>{(list) => list.batches.length ? (
          <Table caption={["Batches", "批次"]} rows={list.batches} keyOf={(row) => row.batch_id} columns={[
            { en: "Sent", zh: "提交时间", cell: renderCreated },
            { en: "State", zh: "状态", cell: (row) => <BatchState batch={row} /> },
            { en: "Rows", zh: "行数", number: true, cell: (row) => formatNumber(row.rows) },
            { en: "Faulty", zh: "有误", number: true, cell: (row) => formatNumber(row.faulty) },
            { en: "Model", zh: "模型", cell: (row) => `${row.model} ${row.version}` },
            { en: "Results", zh: "结果", cell: (row) => <span class="actions">{["csv", "xlsx", "parquet"].map((format) => <a key={format} href={`/v1/batches/${row.batch_id}/rows?format=${format}`} download={`${row.batch_id}.${format}`}>{format.toUpperCase()}</a>)}</span> },
          ]} />
        ) : <Empty en="No batches yet." zh="暂无批次。" />}</ResourceView>
      </section>
    </div>
  );
}

export function BatchState({ batch: { state } }: { batch: Batch }) {
  return <span class={`chip ${state === "done" ? "good" : state === "broken" ? "bad" : "warn"}`}>{labelOf(STATES, state)}</span>;
}

// Shown where the batch's summary does not list every faulty row.
export function TruncatedFaults({ batch }: { batch: Batch }) {
  if (!batch.faults_cut) return null;
  return <p class="quiet"><Text en={`${formatNumber(batch.faulty)} rows have errors; the summary lists only the first ones. In the results, each faulty row states its own error.`} zh={`共有 ${formatNumber(batch.faulty)} 行有误，批次摘要仅列出前若干行；结果文件中每一有误行均注明错误原因。`} /></p>;
}

function BatchUpload({ api, onDone }: { api: ProductApi; onDone: () => void }) {
  const form = useResource<Form>(`/v1/models/${api.model}/form`);
  const [file, setFile] = useState<File | null>(null);
  const [keep, setKeep] = useState("");
  const [total, setTotal] = useState<number | null>(null);
  const [progress, setProgress] = useState<Batch | null>(null);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>(null);
  const [dragOver, setDragOver] = useState(false);
  const idempotencyKey = useMemo(newIdempotencyKey, [file, keep]); // the same file, sent again after a network failure, is the same batch
  const input = useRef<HTMLInputElement>(null);
  const contentType = TYPES[file?.name.split(".").pop()?.toLowerCase() ?? ""];
  const selectFile = async (selected: File | undefined) => {
    if (!selected) return;
    setFile(selected);
    setProgress(null);
    setFailure(null);
    setTotal(null);
    if (/\.(csv|tsv|txt)$/i.test(selected.name)) {
      const header = decodeText(await selected.slice(0, 65_536).arrayBuffer()).split(/\r?\n|\r/, 1)[0] ?? "";
      const delimiter = [",", ";", "\t"].sort((a, b) => header.split(b).length - header.split(a).length)[0]!;
      const knownColumns = new Set(["subject_id", ...(form.value?.fields ?? []).map((field) => field.name)]);
      setKeep(header.split(delimiter).map((name) => name.trim().replace(/^"|"$/g, "")).filter((name) => name && !knownColumns.has(name)).join(","));
      setTotal(Math.max(0, (await countLines(selected)) - 1));
    }
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    if (!file || !contentType) return;
    setBusy(true);
    setFailure(null);
    try {
      const response = await sendRequest(`${api.route}/batch${keep ? `?keep=${encodeURIComponent(keep)}` : ""}`, { body: file, headers: { "Content-Type": contentType, Accept: "text/csv", "Idempotency-Key": idempotencyKey } });
      const id = response.headers.get("Batch-Id")!;
      const timer = setInterval(() => void fetchJson<Batch>(`/v1/batches/${id}`).then(setProgress, () => undefined), POLL_MS); // a failed poll is followed by the next one
      try {
        const reader = response.body!.getReader();
        while (!(await reader.read()).done); // discarded: the service stores the results, which are downloaded from the list
      } finally {
        clearInterval(timer);
      }
      setProgress(await fetchJson<Batch>(`/v1/batches/${id}`));
      onDone();
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => {
    if (file && !contentType) setFailure(new ApiError(0, { title: "This file type is not supported", title_zh: "不支持的文件类型", detail: "Use CSV, Excel, NDJSON or Parquet.", detail_zh: "请使用 CSV、Excel、NDJSON 或 Parquet。" }));
  }, [file, contentType]);
  return (
    <section class="card">
      <h2><Text en="Send a file" zh="上传文件" /></h2>
      <form class="stack" onSubmit={submit}>
        <label class={`drop${dragOver ? " dragging" : ""}`} onDragOver={(event) => (event.preventDefault(), setDragOver(true))} onDragLeave={() => setDragOver(false)}
          onDrop={(event) => (event.preventDefault(), setDragOver(false), void selectFile(event.dataTransfer?.files[0]))}>
          <input ref={input} class="hidden" type="file" accept=".csv,.tsv,.txt,.xlsx,.xls,.ndjson,.jsonl,.parquet" onChange={(event) => void selectFile(event.currentTarget.files?.[0])} />
          <b>{file ? file.name : <Text en="Drop a table here, or choose one" zh="将表格拖到此处，或点击选择" />}</b>
          <span class="quiet">CSV, Excel, NDJSON, Parquet</span>
        </label>
        <Field label={{ en: "Columns to keep in the results", zh: "在结果中保留的列" }} hint={{ en: "Separated by commas, for example the household number. Other unknown columns are rejected. For a file with only subject_id and columns to keep, the indicators are read from the store under valid authorisations.", zh: "以逗号分隔，例如户号；其他未知列将被拒绝。文件仅含 subject_id 及保留列时，依据有效授权读取库内指标。" }}>
          {(control) => <input {...control} value={keep} autocomplete="off" onInput={(event) => setKeep(event.currentTarget.value)} />}
        </Field>
        <div class="actions"><button class="main" type="submit" disabled={!file || !contentType || busy}><Text en="Send" zh="上传" /></button></div>
        <div role="status" aria-live="polite">
          {busy || progress ? (
            <>
              <progress max={total ?? undefined} value={progress ? (total === null && busy ? undefined : progress.rows) : undefined} aria-label="progress 进度" />
              <p><Text en={`${formatNumber(progress?.rows ?? 0)} rows processed${total === null ? "" : ` of ${formatNumber(total)}`}, ${formatNumber(progress?.faulty ?? 0)} faulty`} zh={`已处理 ${formatNumber(progress?.rows ?? 0)} 行${total === null ? "" : `，共 ${formatNumber(total)} 行`}，有误 ${formatNumber(progress?.faulty ?? 0)} 行`} /></p>
              {progress && !busy ? <TruncatedFaults batch={progress} /> : null}
              {!busy && progress?.state === "broken" ? <p><BatchState batch={progress} /> <Text en="Not all rows were processed. Press Send again without selecting the file again: rows already decided by the same model and policy on the same inputs are not charged twice." zh="部分行未处理。请勿重新选择文件，直接再次点击“上传”：此前由同一模型与政策依据相同输入处理的行不重复计费。" /></p> : null}
            </>
          ) : null}
        </div>
        {failure ? <ErrorMessage error={failure} /> : null}
      </form>
    </section>
  );
}

// Reads in chunks, so that a large file is never in memory as a whole.
async function countLines(file: File): Promise<number> {
  const reader = file.stream().getReader();
  let count = 0, lastByte = 10;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return count + (lastByte === 10 ? 0 : 1);
    for (const byte of value) if (byte === 10) count += 1;
    lastByte = value[value.length - 1] ?? lastByte;
  }
}

// The worklist, polled every few seconds, with the upload form for those who may send slides.

import { useEffect, useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { formatTimestamp } from "../../ui/format";
import { Empty, ErrorMessage, Loading } from "../../ui/feedback";
import { Table, type Column } from "../../ui/table";
import { translate, Text, labelOf, type Bilingual, type Labels } from "../../ui/i18n";
import { currentUser } from "../../session";
import { UploadForm } from "./upload-form";
import { TurnaroundCard, type Turnaround } from "./turnaround";
import { FAILED_STATES, READ_STATES, SPECIMENS, STATES, TRIAGE } from "./labels";
import type { Slide } from "./types";

const POLL_MS = 5_000, TURNAROUND_POLL_MS = 60_000; // of the list, and of the figures above it
const PAGE_SIZE = 100; // slides

export function Worklist() {
  const roles = currentUser()?.roles ?? [];
  const canUpload = roles.includes("clinic");
  const [stateFilter, setStateFilter] = useState(canUpload ? "open" : "review");
  const [specimen, setSpecimen] = useState("");
  const [accession, setAccession] = useState("");
  const [cursors, setCursors] = useState<string[]>([]); // the last slide of each preceding page
  const applyFilter = (change: () => void) => (setCursors([]), change());
  const cursor = cursors[cursors.length - 1];
  const filters: Record<string, string> = accession ? { accession } : {
    ...(stateFilter === "review" ? { review: "true" } : stateFilter === "open" ? { signed: "false" } : stateFilter ? { state: stateFilter } : {}),
    ...(specimen ? { specimen } : {}),
  };
  const params = new URLSearchParams({ limit: String(PAGE_SIZE), ...filters, ...(cursor ? { after: cursor } : {}) });
  const list = useResource<{ slides: Slide[]; next: string | null }>(`/v1/slides?${params}`);
  const turnaround = useResource<Turnaround>("/v1/slides/turnaround");
  useEffect(() => {
    const whenVisible = (reload: () => void) => () => document.visibilityState === "visible" && reload();
    const timers = [setInterval(whenVisible(list.reload), POLL_MS), setInterval(whenVisible(turnaround.reload), TURNAROUND_POLL_MS)];
    return () => timers.forEach(clearInterval);
  }, [list.reload, turnaround.reload]);
  return (
    <main id="main" class="slides">
      <div class="page-head"><h1><Text en="Slides" zh="切片" /></h1></div>
      <div class={canUpload ? "worklist-layout" : "stack"}>
        <div class="stack">
          <TurnaroundCard resource={turnaround} />
          <section class="card" aria-labelledby="work">
            <div class="filters">
              <h2 id="work"><Text en="Worklist by priority" zh="工作列表（按优先级）" /></h2>
              <label><Text en="Show" zh="显示" />
                <select id="state-filter" value={stateFilter} disabled={!!accession} onChange={(event) => applyFilter(() => setStateFilter(event.currentTarget.value))}>
                  <option value="">{translate("All slides", "全部切片")}</option>
                  <option value="open">{translate("Not yet signed", "未签发")}</option>
                  <option value="review">{translate("To be reviewed by a pathologist", "待病理医师阅片")}</option>
                  {Object.entries(STATES).map(([state, names]) => <option key={state} value={state}>{translate(...names)}</option>)}
                </select></label>
              <label><Text en="Specimen" zh="标本" />
                <select id="specimen-filter" value={specimen} disabled={!!accession} onChange={(event) => applyFilter(() => setSpecimen(event.currentTarget.value))}>
                  <option value="">{translate("Any", "不限")}</option>
                  {Object.entries(SPECIMENS).map(([code, names]) => <option key={code} value={code}>{translate(...names)}</option>)}
                </select></label>
              <label><Text en="Accession" zh="病理号" />
                <input id="accession-filter" type="search" class="short" maxLength={64} autocomplete="off" onChange={(event) => applyFilter(() => setAccession(event.currentTarget.value.trim()))} /></label>
            </div>
            <div id="worklist" aria-live="polite">
              {list.error !== undefined ? <ErrorMessage error={list.error} retry={list.reload} />
                : !list.value ? <Loading />
                : <SlideTable slides={list.value.slides} hideAi={stateFilter === "review"} emptyMessage={(accession || cursor || specimen ? null : EMPTY_MESSAGES[stateFilter]) ?? ["No slides match.", "暂无符合条件的切片。"]} />}
            </div>
            {cursors.length || list.value?.next ? (
              <p class="actions">
                <button type="button" disabled={!cursors.length} onClick={() => setCursors(cursors.slice(0, -1))}><Text en="More urgent" zh="更紧急" /></button>
                <button type="button" disabled={!list.value?.next} onClick={() => setCursors([...cursors, list.value!.next!])}><Text en="Less urgent" zh="次紧急" /></button>
              </p>
            ) : null}
            <details class="explanation">
              <summary><Text en="How slides are ordered" zh="排序说明" /></summary>
              <p><Text en="The AI result and the risk from the request form give a priority from 0 to 100; slides of equal priority are ordered by time of arrival. A pathologist reviews every slide that the AI does not classify as negative, and a random sample of the negatives, selected with a secret key: one in ten unless your operator has set a different share. Sampled slides are ordered by priority like all others and are not marked, and the AI result is hidden in the list of slides to be reviewed, so that all are reviewed alike. Pathologists see which negatives were sampled after signing; senders see at once which were not."
                zh="优先级（0 至 100）由 AI 判读结果与申请单风险共同确定，同级按接收先后排列。凡 AI 未判为阴性的切片，均由病理医师阅片；AI 判为阴性的切片，以密钥随机抽取一部分（默认十分之一，可由管理员设定）一并阅片。抽中的切片按优先级混排且不作标记，待阅片列表亦不显示 AI 结果，以保证阅片标准一致。病理医师签发后方可查看哪些阴性切片属于抽检；送检方可即时查看哪些未被抽检。" /></p>
            </details>
          </section>
        </div>
        {canUpload ? <UploadForm onSent={() => { list.reload(); turnaround.reload(); }} /> : null}
      </div>
    </main>
  );
}

const COLUMNS: Column<Slide>[] = [
  { en: "Priority", zh: "优先级", cell: (slide) => <span class={slide.priority >= 70 ? "rank high" : "rank"}>{READ_STATES.includes(slide.state) ? slide.priority : "–"}</span> },
  { en: "Accession", zh: "病理号", cell: (slide) => <a href={`/console/slides/${slide.slide_id}`}>{slide.accession || slide.name || slide.slide_id.slice(0, 8)}</a> },
  { en: "Specimen", zh: "标本", cell: (slide) => slide.specimen ? labelOf(SPECIMENS, slide.specimen) : "–" },
  { en: "AI", zh: "AI", cell: (slide) => slide.triage ? <span class={`triage ${slide.triage}`}>{labelOf(TRIAGE, slide.triage)}</span> : "–" },
  { en: "State", zh: "状态", cell: (slide) => <StateCell slide={slide} /> },
  { en: "Received", zh: "接收时间", cell: (slide) => formatTimestamp(slide.created).slice(0, 16) },
];

// A negative that was not drawn for audit needs no pathologist. Senders see this; pathologists do not, as it would reveal which were drawn.
function StateCell({ slide: { state, code, progress, audit, to_review: awaitsReview } }: { slide: Slide }) {
  const notDrawn = state === "ready" && !awaitsReview && !currentUser()?.licence;
  if (notDrawn) return <span class="chip"><Text en="Negative, not sampled for audit" zh="阴性，未抽检" /></span>;
  return (
    <>
      <span class={`chip ${state}`}>{labelOf(STATES, state)}</span>
      {state === "inferring" && progress.total ? <progress max={progress.total} value={progress.done} aria-label={`${progress.done} / ${progress.total}`} /> : null}
      {audit ? <span class="chip sampled"><Text en="Negative, sampled for audit" zh="抽检阴性" /></span> : null}
      {FAILED_STATES.includes(state) && code ? <code> {code}</code> : null}
    </>
  );
}

// The message of an empty list, by filter.
const EMPTY_MESSAGES: Labels = {
  "": ["No slides yet.", "暂无切片。"],
  open: ["No unsigned slides.", "暂无未签发的切片。"],
};

function SlideTable({ slides, hideAi, emptyMessage: [en, zh] }: { slides: Slide[]; hideAi: boolean; emptyMessage: Bilingual }) {
  if (!slides.length) return <Empty en={en} zh={zh} />;
  const columns = hideAi ? COLUMNS.filter((column) => column.en !== "AI") : COLUMNS;
  return <Table caption={["Slides by priority", "切片（按优先级）"]} columns={columns} rows={slides} keyOf={(slide) => slide.slide_id} />;
}

// The worklist, looked at every few seconds, and beside it the upload of those who send.

import { useEffect, useState } from "preact/hooks";
import { useAsk } from "../../ui/api";
import { moment } from "../../ui/format";
import { Empty, Failed, Loading } from "../../ui/feedback";
import { Table, type Column } from "../../ui/table";
import { plain, Say, word } from "../../ui/i18n";
import { person } from "../../session";
import { Sender } from "./upload-form";
import { Figures, type Turnaround } from "./turnaround";
import { ENDED, READ, SPECIMENS, STATES, TRIAGE } from "./labels";
import type { Slide } from "./types";

const EVERY = 5_000, SELDOM = 60_000; // ms between two looks at the list, and at the figures above it
const PAGE = 100; // slides

export function Work() {
  const roles = person()?.roles ?? [];
  const sends = roles.includes("clinic");
  const [show, setShow] = useState(sends ? "open" : "review");
  const [specimen, setSpecimen] = useState("");
  const [sought, setSought] = useState("");
  const [pages, setPages] = useState<string[]>([]); // the last slide of each page before this one
  const narrow = (change: () => void) => (setPages([]), change());
  const after = pages[pages.length - 1];
  const filters: Record<string, string> = sought ? { accession: sought } : {
    ...(show === "review" ? { review: "true" } : show === "open" ? { signed: "false" } : show ? { state: show } : {}),
    ...(specimen ? { specimen } : {}),
  };
  const asked = new URLSearchParams({ limit: String(PAGE), ...filters, ...(after ? { after } : {}) });
  const list = useAsk<{ slides: Slide[]; next: string | null }>(`/v1/slides?${asked}`);
  const turnaround = useAsk<Turnaround>("/v1/slides/turnaround");
  useEffect(() => {
    const seen = (look: () => void) => () => document.visibilityState === "visible" && look();
    const looking = [setInterval(seen(list.again), EVERY), setInterval(seen(turnaround.again), SELDOM)];
    return () => looking.forEach(clearInterval);
  }, [list.again, turnaround.again]);
  return (
    <main id="main" class="slides">
      <div class="page-head"><h1><Say en="Slides" zh="切片" /></h1></div>
      <div class={sends ? "work" : "stack"}>
        <div class="stack">
          <Figures of={turnaround} />
          <section class="card" aria-labelledby="work">
            <div class="filters">
              <h2 id="work"><Say en="Worklist, most urgent first" zh="工作列表（按优先级）" /></h2>
              <label><Say en="Show" zh="显示" />
                <select id="show" value={show} disabled={!!sought} onChange={(event) => narrow(() => setShow(event.currentTarget.value))}>
                  <option value="">{plain("All slides", "全部切片")}</option>
                  <option value="open">{plain("Not yet signed", "未签发")}</option>
                  <option value="review">{plain("To be read by a pathologist", "待病理医师阅片")}</option>
                  {Object.entries(STATES).map(([state, names]) => <option key={state} value={state}>{plain(...names)}</option>)}
                </select></label>
              <label><Say en="Specimen" zh="标本" />
                <select id="only" value={specimen} disabled={!!sought} onChange={(event) => narrow(() => setSpecimen(event.currentTarget.value))}>
                  <option value="">{plain("Any", "不限")}</option>
                  {Object.entries(SPECIMENS).map(([code, names]) => <option key={code} value={code}>{plain(...names)}</option>)}
                </select></label>
              <label><Say en="Accession" zh="病理号" />
                <input id="sought" type="search" class="short" maxLength={64} autocomplete="off" onChange={(event) => narrow(() => setSought(event.currentTarget.value.trim()))} /></label>
            </div>
            <div id="worklist" aria-live="polite">
              {list.error !== undefined ? <Failed error={list.error} again={list.again} />
                : !list.value ? <Loading />
                : <List slides={list.value.slides} blind={show === "review"} none={(sought || after || specimen ? null : NONE[show]) ?? ["No slide here now.", "当前没有符合条件的切片。"]} />}
            </div>
            {pages.length || list.value?.next ? (
              <p class="actions">
                <button type="button" disabled={!pages.length} onClick={() => setPages(pages.slice(0, -1))}><Say en="More urgent" zh="更紧急" /></button>
                <button type="button" disabled={!list.value?.next} onClick={() => setPages([...pages, list.value!.next!])}><Say en="Less urgent" zh="次紧急" /></button>
              </p>
            ) : null}
            <details class="how">
              <summary><Say en="How this order comes about" zh="排序说明" /></summary>
              <p><Say en="The AI's result and the request form's risk give a priority from 0 to 100; equals stand by their arrival. Every slide that the AI does not call negative is read by a pathologist, and so is a share of its negatives, drawn by chance with a secret key: one in ten unless your operator set another share. Those drawn stand among the others by their priority and are not marked, nor is the AI's result shown in the list of slides to be read, so that each is read alike. Who may sign is shown which negatives were drawn once they are signed; who sends slides sees at once which were not."
                zh="AI 结果与申请单风险共同给出 0 至 100 的优先级，同级按到达先后排列。凡 AI 未判为阴性的切片均由病理医师阅片；AI 判为阴性者按密钥随机抽取一部分（默认十分之一，可由管理员设定）一并阅片。被抽中者按优先级混排且不作标记，待阅片列表也不显示 AI 结果，以保证阅片标准一致；有签发权者在签发后方可见哪些阴性属于抽检；送检方可即时看到哪些未被抽检。" /></p>
            </details>
          </section>
        </div>
        {sends ? <Sender sent={() => { list.again(); turnaround.again(); }} /> : null}
      </div>
    </main>
  );
}

const COLUMNS: Column<Slide>[] = [
  { en: "Priority", zh: "优先级", cell: (slide) => <span class={slide.priority >= 70 ? "rank high" : "rank"}>{READ.includes(slide.state) ? slide.priority : "–"}</span> },
  { en: "Accession", zh: "病理号", cell: (slide) => <a href={`/console/slides/${slide.slide_id}`}>{slide.accession || slide.name || slide.slide_id.slice(0, 8)}</a> },
  { en: "Specimen", zh: "标本", cell: (slide) => slide.specimen ? word(SPECIMENS, slide.specimen) : "–" },
  { en: "AI", zh: "AI", cell: (slide) => slide.triage ? <span class={`triage ${slide.triage}`}>{word(TRIAGE, slide.triage)}</span> : "–" },
  { en: "State", zh: "状态", cell: (slide) => <State slide={slide} /> },
  { en: "Received", zh: "接收时间", cell: (slide) => moment(slide.created).slice(0, 16) },
];

// A negative that was not drawn waits for nobody: told to who sends slides, and not to who may sign, who would know the drawn by it.
function State({ slide: { state, code, progress, audit, to_review: waits } }: { slide: Slide }) {
  const calm = state === "ready" && !waits && !person()?.licence;
  if (calm) return <span class="chip"><Say en="Negative, not drawn for audit" zh="阴性，未抽检" /></span>;
  return (
    <>
      <span class={`chip ${state}`}>{word(STATES, state)}</span>
      {state === "inferring" && progress.total ? <progress max={progress.total} value={progress.done} aria-label={`${progress.done} / ${progress.total}`} /> : null}
      {audit ? <span class="chip drawn"><Say en="Negative drawn for audit" zh="抽检阴性" /></span> : null}
      {ENDED.includes(state) && code ? <code> {code}</code> : null}
    </>
  );
}

// By what is shown: what an empty list means.
const NONE: Record<string, readonly [string, string]> = {
  "": ["No slides yet.", "暂无切片。"],
  open: ["No slide waits to be signed.", "没有未签发的切片。"],
};

function List({ slides, blind, none: [en, zh] }: { slides: Slide[]; blind: boolean; none: readonly [string, string] }) {
  if (!slides.length) return <Empty en={en} zh={zh} />;
  const columns = blind ? COLUMNS.filter((column) => column.en !== "AI") : COLUMNS;
  return <Table caption={["Slides, most urgent first", "切片，按优先级"]} columns={columns} rows={slides} keyOf={(slide) => slide.slide_id} />;
}

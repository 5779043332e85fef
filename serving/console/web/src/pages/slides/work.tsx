// The worklist, looked at every few seconds, and beside it the upload of those who send.

import { useEffect } from "preact/hooks";
import { useAsk } from "../../kit/api";
import { moment } from "../../kit/format";
import { Empty, Failed, Loading } from "../../kit/state";
import { Table, type Column } from "../../kit/table";
import { plain, Say, word } from "../../kit/words";
import { session } from "../../session";
import { Sender } from "./sender";
import { ENDED, READ, SPECIMENS, STATES, TRIAGE } from "./words";

export interface Slide {
  slide_id: string;
  state: string;
  code: string | null;
  name: string;
  accession: string | null;
  specimen: string | null;
  progress: { done: number; total: number };
  priority: number;
  triage: string | null;
  created: string;
}

const EVERY = 5_000; // ms between two looks

export function Work() {
  const who = session.value;
  const sends = !!who && !(who instanceof Error) && who.roles.includes("clinic");
  const list = useAsk<{ slides: Slide[] }>("/v1/slides");
  useEffect(() => {
    document.title = plain("Slides", "切片") + " · Yuheng 玉衡";
    const looking = setInterval(() => document.visibilityState === "visible" && list.again(), EVERY);
    return () => clearInterval(looking);
  }, [list.again]);
  return (
    <main id="main" class="slides">
      <div class="page-head"><h1><Say en="Slides" zh="切片" /></h1></div>
      <div class={sends ? "work" : "stack"}>
        <section class="card" aria-labelledby="work">
          <h2 id="work"><Say en="Worklist, most urgent first" zh="工作列表（按优先级）" /></h2>
          <div id="worklist" aria-live="polite">
            {list.error !== undefined ? <Failed error={list.error} again={list.again} />
              : !list.value ? <Loading />
              : <List slides={list.value.slides} />}
          </div>
        </section>
        {sends ? <Sender sent={list.again} /> : null}
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

function State({ slide: { state, code, progress } }: { slide: Slide }) {
  return (
    <>
      <span class={`chip ${state}`}>{word(STATES, state)}</span>
      {state === "inferring" && progress.total ? <progress max={progress.total} value={progress.done} aria-label={`${progress.done} / ${progress.total}`} /> : null}
      {ENDED.includes(state) && code ? <code> {code}</code> : null}
    </>
  );
}

function List({ slides }: { slides: Slide[] }) {
  if (!slides.length) return <Empty en="No slides yet. Send the first one." zh="暂无切片，请先上传。" />;
  return <Table caption={["Slides, most urgent first", "切片，按优先级"]} columns={COLUMNS} rows={slides} keyOf={(slide) => slide.slide_id} />;
}

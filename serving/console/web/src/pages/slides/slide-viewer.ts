// The slide viewer, from the upload of a slide to its signed report.

import { fetchJson, ApiError } from "../../ui/api";
import { formatNumber } from "../../ui/format";
import { bilingual, bilingualLabel, byId, createElement, errorElement } from "./dom";
import { FAILED_STATES, READ_STATES, SPECIMENS, STATES } from "./labels";
import { FocusControl } from "./focus-control";
import { ReportForm } from "./report-form";
import { SlideImage } from "./slide-image";
import { failureCard, factsSection, patientRiskSection, progressCard, proofSection, provenanceSection, resultSection, scaleCard } from "./slide-panel";
import type { Reading, SlideDetail } from "./types";

// Shows a slide in the page of slide-page.tsx and follows its state. Returns a function that stops the viewer.
export function startViewer(id: string): () => void {
  const address = `/v1/slides/${id}`;
  let slide: SlideDetail | null = null;
  let image: SlideImage | null = null;
  let form: ReportForm | null = null;
  let focus: FocusControl | null = null;
  let readingVisible = false;
  let lastLoad: Promise<void> = Promise.resolve();
  let loadQueued = false;
  let source: EventSource | null = null;
  let stopped = false;
  const abort = new AbortController();

  bindKeys();
  void refresh().then(subscribe);
  return stop;

  function stop(): void {
    stopped = true;
    abort.abort();
    source?.close();
    image?.close();
  }

  // Loads run one at a time, however fast events arrive; a queued load serves all callers that come before it starts.
  function refresh(): Promise<void> {
    if (!loadQueued) {
      loadQueued = true;
      lastLoad = lastLoad.catch(() => {}).then(() => {
        loadQueued = false;
        return load();
      });
    }
    return lastLoad;
  }

  async function load(): Promise<void> {
    if (!slide) byId("waiting").replaceChildren(createElement("div.card.loading", {}, createElement("span.spinner", { "aria-hidden": "true" }), bilingual("Loading the slide …", "正在加载切片……")));
    try {
      slide = await fetchJson<SlideDetail>(address);
    } catch (error) {
      const status = error instanceof ApiError ? error.status : null;
      if (stopped || (slide && (status === 401 || status === 409))) return; // the shell reports it over the page
      showLoadError(error, status === 404);
      return;
    }
    if (stopped) return;
    renderHeader(slide);
    await renderStage(slide);
    if (!stopped) await renderPanel(slide);
  }

  function showLoadError(error: unknown, missing: boolean): void {
    const retry = createElement("button", { type: "button", onclick: () => location.reload() }, bilingual("Try again", "重试"));
    const back = createElement("a.button.main", { href: "/console/slides" }, bilingual("Back to the worklist", "返回工作列表"));
    byId("accession").textContent = missing ? "404" : "–";
    byId("waiting").hidden = false;
    byId("waiting").replaceChildren(createElement("div.card.bad", {}, errorElement(error), createElement("p.actions", {}, missing ? null : retry, back)));
  }

  function renderHeader({ accession, name, specimen, state, reading }: SlideDetail): void {
    byId("accession").textContent = accession || name || id.slice(0, 8);
    byId("specimen").replaceChildren(specimen ? bilingualLabel(SPECIMENS, specimen) : "");
    document.title = `${accession || id.slice(0, 8)} · Yuheng 玉衡`;
    const chip = byId("state");
    chip.className = `chip ${state}`;
    chip.replaceChildren(bilingualLabel(STATES, state));
    const banner = byId("simulated");
    banner.hidden = !reading?.simulated;
    if (reading?.simulated) {
      banner.replaceChildren(bilingual("SIMULATED: produced with a synthetic model or slide. Not for patient care.", "模拟数据：由虚构的模型或切片产生，不得用于临床诊疗。"));
    }
    const links = reading ? [["PDF", `${address}/report?format=pdf`], ["FHIR", `${address}/report?format=fhir`], ["GeoJSON", `${address}/annotations.geojson`]] as const : [];
    byId("downloads").replaceChildren(...links.map(([label, href]) => createElement("a", { href, target: "_blank", rel: "noopener" }, label)));
  }

  async function renderStage(slide: SlideDetail): Promise<void> {
    const waiting = byId("waiting");
    if (!READ_STATES.includes(slide.state)) {
      waiting.hidden = false;
      if (slide.state !== "awaiting_scale") {
        waiting.replaceChildren(FAILED_STATES.includes(slide.state) ? failureCard(slide) : progressCard(slide));
      } else if (!document.getElementById("scales")) { // what a person types outlives an event
        waiting.replaceChildren(scaleCard(slide, confirmScale));
      }
      return;
    }
    waiting.hidden = true;
    try {
      if (!image) {
        byId("evidence").hidden = !slide.reading?.evidence.length; // takes its space before the slide does
        image = new SlideImage(id, slide.reading, highlightEvidence);
        await image.open(byId("image"));
        if (stopped) return;
        bindTools(image);
      }
      if (slide.reading && !readingVisible) {
        readingVisible = true;
        focus = FocusControl.add(image, slide.reading, abort.signal);
        image.showReading(slide.reading);
        image.drawScaleBar();
        await renderEvidence(image, slide.reading);
      }
    } catch (error) {
      if (stopped) return;
      waiting.hidden = false;
      waiting.replaceChildren(createElement("div.card.bad", {}, bilingual("The slide image cannot be displayed: ", "无法显示切片图像："), error instanceof Error ? error.message : String(error)));
    }
  }

  async function confirmScale(mpp: number): Promise<void> {
    await fetchJson(`${address}/scale`, { body: { mpp } });
    await refresh();
  }

  // --- the panel beside the slide

  async function renderPanel(slide: SlideDetail): Promise<void> {
    const panel = byId("panel");
    const { reading } = slide;
    const proof = () => slide.proof ? proofSection(slide.proof, panel.querySelector<HTMLDetailsElement>("#proof")?.open ?? false) : "";
    if (!reading) {
      panel.replaceChildren(factsSection(slide), proof(), FAILED_STATES.includes(slide.state) ? "" : createElement("p.empty", {}, bilingual("The reading will appear here when it is complete.", "判读完成后将在此显示。")));
      return;
    }
    form ??= new ReportForm(address, refresh);
    const report = await form.render(slide);
    if (stopped) return;
    panel.replaceChildren(resultSection(reading), patientRiskSection(reading), report, provenanceSection(reading, id), proof());
  }

  // --- evidence

  async function renderEvidence(image: SlideImage, { evidence }: Reading): Promise<void> {
    const thumbnails = evidence.map((region) => ({ region, canvas: createElement("canvas", { width: 120, height: 120, "aria-hidden": "true" }) }));
    byId("evidence-list").replaceChildren(...thumbnails.map(({ region: { x, y, code, probability }, canvas }, index) =>
      createElement("li", {}, createElement("button", { type: "button", onclick: () => image.select(index), "data-index": index, title: `x ${formatNumber(x)}  y ${formatNumber(y)}` },
        canvas, createElement("span", {}, createElement("i.key", { "data-class": code }), `${index + 1} ${code} ${probability.toFixed(2)}`)))));
    await Promise.all(thumbnails.map(({ region, canvas }) => image.drawThumbnail(region, canvas).catch(() => canvas.classList.add("missing"))));
  }

  function highlightEvidence(selected: number): void {
    for (const button of document.querySelectorAll<HTMLElement>("#evidence-list button")) {
      const current = Number(button.dataset.index) === selected;
      button.setAttribute("aria-current", String(current));
      if (current) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  // --- tools and keys

  function bindTools(image: SlideImage): void {
    byId("tools").hidden = false;
    byId("zoom-in").addEventListener("click", () => image.zoomBy(1.5));
    byId("zoom-out").addEventListener("click", () => image.zoomBy(1 / 1.5));
    byId("home").addEventListener("click", () => image.goHome());
    byId("heat").addEventListener("click", () => setHeatmap(image, !image.heatmapVisible));
    const opacity = byId<HTMLInputElement>("opacity");
    opacity.addEventListener("input", () => setHeatmap(image, true, opacity.valueAsNumber / 100));
  }

  function setHeatmap(image: SlideImage, visible: boolean, opacity = image.opacity): void {
    image.setHeatmap(visible, opacity);
    byId("heat").setAttribute("aria-pressed", String(visible));
    byId<HTMLInputElement>("opacity").valueAsNumber = Math.round(image.opacity * 100);
  }

  function openHelp(): void {
    byId<HTMLDialogElement>("help").showModal();
  }

  function bindKeys(): void {
    byId("help-button").addEventListener("click", openHelp);
    const actions: Record<string, (image: SlideImage) => void> = {
      "+": (image) => image.zoomBy(1.5), "=": (image) => image.zoomBy(1.5), "-": (image) => image.zoomBy(1 / 1.5), "_": (image) => image.zoomBy(1 / 1.5), "0": (image) => image.goHome(),
      ArrowLeft: (image) => image.panBy(-1, 0), ArrowRight: (image) => image.panBy(1, 0), ArrowUp: (image) => image.panBy(0, -1), ArrowDown: (image) => image.panBy(0, 1),
      h: (image) => setHeatmap(image, !image.heatmapVisible), "[": (image) => setHeatmap(image, true, image.opacity - 0.1), "]": (image) => setHeatmap(image, true, image.opacity + 0.1),
      PageUp: () => focus?.step(1), PageDown: () => focus?.step(-1), f: () => focus?.set(null),
      n: (image) => image.select(image.selected + 1), p: (image) => image.select(image.selected < 0 ? -1 : image.selected - 1),
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || (event.target as Element).closest("input, textarea, select, dialog[open], .panel")) return;
      if (event.key === "?") openHelp();
      else if (image?.tiledImage && Object.hasOwn(actions, event.key)) actions[event.key]!(image);
      else return;
      event.preventDefault();
    }, { signal: abort.signal });
  }

  // --- events of the service

  function finished(): boolean {
    return slide !== null && (READ_STATES.includes(slide.state) || FAILED_STATES.includes(slide.state));
  }

  function subscribe(): void {
    if (stopped || !slide || finished()) return;
    const events = new EventSource(address);
    source = events;
    events.addEventListener("progress", (event: MessageEvent<string>) => {
      const { done, total } = (JSON.parse(event.data) as { detail: SlideDetail["progress"] }).detail;
      slide!.progress = { done, total };
      const tiles = document.getElementById("tiles");
      if (!tiles) {
        void renderStage(slide!);
        return;
      }
      tiles.textContent = `${formatNumber(done)} / ${formatNumber(total)}`;
      document.querySelector<HTMLProgressElement>(".progress progress")!.value = total ? done / total : 0;
    });
    events.addEventListener("state", async () => {
      await refresh();
      if (!stopped && finished()) events.close();
    });
  }
}

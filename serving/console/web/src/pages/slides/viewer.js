// One slide, from its upload to the signed report.

import { $, ask, failure, make, number, say, word } from "./common.js";
import { SlideImage } from "./image.js";
import { ended, facts, origin, patient, progress, result } from "./panel.js";
import { ReportForm } from "./report.js";
import { ENDED, READ, SPECIMENS, STATES } from "./words";

// Shows a slide in the page of slide.tsx and follows it; what it returns ends that.
export function start(id) {
  const address = `/v1/slides/${id}`;
  let slide = null;
  let image = null;
  let form = null;
  let shownReading = false;
  let looking = Promise.resolve();
  let waits = false;
  let source = null;
  let stopped = false;
  const ending = new AbortController();

  keys();
  show().then(listen);
  return stop;

  function stop() {
    stopped = true;
    ending.abort();
    if (source) source.close();
    if (image) image.close();
  }

  // One look at a time, however fast events come; one that waits to begin stands for all that ask meanwhile.
  function show() {
    if (!waits) {
      waits = true;
      looking = looking.catch(() => {}).then(() => {
        waits = false;
        return look();
      });
    }
    return looking;
  }

  async function look() {
    if (!slide) $("#waiting").replaceChildren(make("div.card.loading", {}, make("span.spinner", { "aria-hidden": "true" }), say("Loading the slide …", "正在加载切片……")));
    try {
      slide = await ask(address);
    } catch (error) {
      if (stopped || (slide && [401, 409].includes(error.status))) return; // the shell tells of it, over what is shown
      const again = make("button", { type: "button", onclick: () => location.reload() }, say("Try again", "重试"));
      const back = make("a.button.main", { href: "/console/slides" }, say("To the worklist", "返回工作列表"));
      $("#accession").textContent = error.status === 404 ? "404" : "–";
      $("#waiting").hidden = false;
      $("#waiting").replaceChildren(make("div.card.bad", {}, failure(error), make("p.actions", {}, error.status === 404 ? null : again, back)));
      return;
    }
    if (stopped) return;
    head();
    await stage();
    if (!stopped) await panel();
  }

  function head() {
    $("#accession").textContent = slide.accession || slide.name || id.slice(0, 8);
    $("#specimen").replaceChildren(slide.specimen ? word(SPECIMENS, slide.specimen) : "");
    document.title = `${slide.accession || id.slice(0, 8)} · Yuheng 玉衡`;
    const state = $("#state");
    state.className = `chip ${slide.state}`;
    state.replaceChildren(word(STATES, slide.state));
    const simulated = Boolean(slide.reading && slide.reading.simulated);
    $("#simulated").hidden = !simulated;
    if (simulated) {
      $("#simulated").replaceChildren(say("SIMULATED: made with a model or a slide that was invented. Not for any patient.", "模拟数据：由虚构的模型或切片产生，不得用于任何患者。"));
    }
    const links = slide.reading ? [["PDF", `${address}/report?format=pdf`], ["FHIR", `${address}/report?format=fhir`], ["GeoJSON", `${address}/annotations.geojson`]] : [];
    $("#downloads").replaceChildren(...links.map(([name, href]) => make("a", { href, target: "_blank", rel: "noopener" }, name)));
  }

  async function stage() {
    const waiting = $("#waiting");
    if (READ.includes(slide.state)) {
      waiting.hidden = true;
      try {
        if (!image) {
          $("#evidence").hidden = !(slide.reading && slide.reading.evidence.length); // takes its place before the slide does
          image = new SlideImage(id, slide.reading, { spotted: mark });
          await image.open($("#image"));
          if (stopped) return;
          tools();
        }
        if (slide.reading && !shownReading) {
          shownReading = true;
          image.showReading(slide.reading);
          image.drawBar();
          await strip();
        }
      } catch (error) {
        if (stopped) return;
        waiting.hidden = false;
        waiting.replaceChildren(make("div.card.bad", {}, say("The picture of the slide cannot be shown: ", "无法显示切片图像："), String(error.message)));
      }
      return;
    }
    waiting.hidden = false;
    waiting.replaceChildren(ENDED.includes(slide.state) ? ended(slide) : progress(slide));
  }

  // --- beside the slide

  async function panel() {
    const aside = $("#panel");
    const reading = slide.reading;
    if (!reading) {
      aside.replaceChildren(facts(slide), ENDED.includes(slide.state) ? "" : make("p.empty", {}, say("The reading appears here when it is done.", "判读完成后在此显示。")));
      return;
    }
    const parts = [result(reading), patient(reading)];
    form = form || new ReportForm(address, show);
    parts.push(await form.section(slide));
    if (stopped) return;
    parts.push(origin(reading, id));
    aside.replaceChildren(...parts);
  }

  // --- evidence

  async function strip() {
    const spots = slide.reading.evidence;
    const canvases = [];
    $("#strip").replaceChildren(...spots.map((spot, at) => {
      const canvas = make("canvas", { width: 120, height: 120, "aria-hidden": "true" });
      canvases.push(canvas);
      return make("li", {}, make("button", { type: "button", onclick: () => image.jump(at), "data-at": at, title: `x ${number(spot.x)}  y ${number(spot.y)}` },
        canvas, make("span", {}, make("i.key", { "data-class": spot.code }), `${at + 1} ${spot.code} ${spot.probability.toFixed(2)}`)));
    }));
    await Promise.all(spots.map((spot, at) => image.picture(spot, canvases[at]).catch(() => canvases[at].classList.add("missing"))));
  }

  function mark(chosen) {
    for (const button of document.querySelectorAll("#strip button")) {
      const mine = Number(button.dataset.at) === chosen;
      button.setAttribute("aria-current", String(mine));
      if (mine) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  // --- what is done by hand

  function tools() {
    $("#tools").hidden = false;
    $("#zoom-in").addEventListener("click", () => image.zoom(1.5));
    $("#zoom-out").addEventListener("click", () => image.zoom(1 / 1.5));
    $("#home").addEventListener("click", () => image.home());
    $("#heat").addEventListener("click", () => heat(!image.heatOn));
    $("#opacity").addEventListener("input", (event) => heat(true, event.target.value / 100));
  }

  function heat(on, opacity = image.opacity) {
    image.setHeat(on, opacity);
    $("#heat").setAttribute("aria-pressed", String(on));
    $("#opacity").value = Math.round(image.opacity * 100);
  }

  function help() {
    $("#help").showModal();
  }

  function keys() {
    $("#help-button").addEventListener("click", help);
    const doing = {
      "+": () => image.zoom(1.5), "=": () => image.zoom(1.5), "-": () => image.zoom(1 / 1.5), "_": () => image.zoom(1 / 1.5), "0": () => image.home(),
      ArrowLeft: () => image.move(-1, 0), ArrowRight: () => image.move(1, 0), ArrowUp: () => image.move(0, -1), ArrowDown: () => image.move(0, 1),
      h: () => heat(!image.heatOn), "[": () => heat(true, image.opacity - 0.1), "]": () => heat(true, image.opacity + 0.1),
      n: () => image.jump(image.chosen + 1), p: () => image.jump(image.chosen < 0 ? -1 : image.chosen - 1),
    };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog[open], .panel")) return;
      if (event.key === "?") help();
      else if (image && image.image && doing[event.key]) doing[event.key]();
      else return;
      event.preventDefault();
    }, { signal: ending.signal });
  }

  // --- live

  function listen() {
    if (stopped || !slide || READ.includes(slide.state) || ENDED.includes(slide.state)) return;
    source = new EventSource(address);
    source.addEventListener("progress", (event) => {
      const { done, total } = JSON.parse(event.data).detail;
      slide.progress = { done, total };
      if ($("#tiles")) {
        $("#tiles").textContent = `${number(done)} / ${number(total)}`;
        $(".progress progress").value = total ? done / total : 0;
      } else stage();
    });
    source.addEventListener("state", async () => {
      await show();
      if (!stopped && slide && (READ.includes(slide.state) || ENDED.includes(slide.state))) source.close();
    });
  }
}

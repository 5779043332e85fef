// One slide, from its upload to the signed report.

import { $, ENDED, LEVELS, READ, SPECIMENS, STATES, STEPS, TRIAGE, UNFIT, ask, failure, languages, make, moment, number, percent, say, stranger, word } from "./common.js";
import { SlideImage } from "./image.js";
import { ReportForm } from "./report.js";

const id = location.pathname.split("/").at(-1);
const address = `/v1/slides/${id}`;
let slide = null;
let image = null;
let form = null;
let shownReading = false;
let looking = Promise.resolve();
let waits = false;

languages();
await show();
listen();
keys();

// One look at a time, however fast events come; one that waits to begin stands for all that ask meanwhile.
function show() {
  if (!waits) {
    waits = true;
    looking = looking.then(() => {
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
    const again = make("button", { type: "button", onclick: () => location.reload() }, say("Try again", "重试"));
    const back = make("a.button", { href: "/slides" }, say("To the worklist", "返回工作列表"));
    $("#accession").textContent = error.status === 404 ? "404" : "–";
    $("#waiting").hidden = false;
    if (error.status === 401) {
      $("#waiting").replaceChildren(stranger());
      return;
    }
    $("#waiting").replaceChildren(make("div.card.bad", {}, failure(error), make("p.actions", {}, error.status === 404 ? null : again, back)));
    return;
  }
  head();
  await stage();
  await panel();
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
        tools();
      }
      if (slide.reading && !shownReading) {
        shownReading = true;
        image.showReading(slide.reading);
        image.drawBar();
        await strip();
      }
    } catch (error) {
      waiting.hidden = false;
      waiting.replaceChildren(make("div.card.bad", {}, say("The picture of the slide cannot be shown: ", "无法显示切片图像："), String(error.message)));
    }
    return;
  }
  waiting.hidden = false;
  waiting.replaceChildren(ENDED.includes(slide.state) ? ended() : progress());
}

function progress() {
  const at = STEPS.indexOf(slide.state);
  const steps = STEPS.map((name, step) =>
    make(`li.${step < at ? "done" : step === at ? "now" : "later"}`, step === at ? { "aria-current": "step" } : {}, word(STATES, name)));
  const share = slide.progress.total ? slide.progress.done / slide.progress.total : null;
  return make("div.card", {},
    make("h2", {}, say("This slide is on its way", "切片处理中")),
    make("ol.steps", {}, steps),
    slide.state === "inferring" ? make("div.progress", {},
      make("progress", { max: 1, ...(share === null ? {} : { value: share }), "aria-label": "Tiles read 已判读图块" }),
      make("span", { id: "tiles" }, share === null ? "" : `${number(slide.progress.done)} / ${number(slide.progress.total)}`)) : null,
    make("p.quiet", {}, say("This page follows by itself; you may close it and come back.", "页面会自动更新，可关闭后再打开。")));
}

function ended() {
  const titles = {
    failed: ["This slide could not be read", "该切片无法判读"],
    quality_failed: ["This scan is not fit to be read", "该扫描不可判读"],
    cancelled: ["This slide was cancelled", "该切片已取消"],
  };
  const reasons = (slide.reasons || []).map((why) => make("li", {}, say(why.en || why.code, why.zh || why.code), make("code", {}, why.code || "")));
  return make("div.card.bad", { role: "alert" },
    make("h2", {}, say(...titles[slide.state])),
    reasons.length ? make("ul.reasons", {}, reasons) : make("p", {}, slide.code || ""),
    make("p.actions", {}, make("a.button", { href: "/slides" }, say("Send it again", "重新上传"))));
}

// --- beside the slide

async function panel() {
  const aside = $("#panel");
  const reading = slide.reading;
  if (!reading) {
    aside.replaceChildren(facts(), ENDED.includes(slide.state) ? "" : make("p.empty", {}, say("The reading appears here when it is done.", "判读完成后在此显示。")));
    return;
  }
  const parts = [result(reading), patient(reading)];
  form = form || new ReportForm(address, show);
  parts.push(await form.section(slide));
  parts.push(origin(reading));
  aside.replaceChildren(...parts);
}

function result(reading) {
  const why = reading.abstained.map((each) => make("li", {}, say(each.en, each.zh)));
  const most = Math.max(...reading.classes.map((each) => each.probability), 0);
  return make("section", { "aria-labelledby": "result" },
    make("h2", { id: "result" }, say("Image result of the AI", "AI 图像结果")),
    make(`p.triage.${reading.triage}`, {}, word(TRIAGE, reading.triage)),
    reading.probability === null ? null : gauge(reading),
    why.length ? make("ul.abstained", {}, why) : null,
    make("ul.classes", {}, reading.classes.map((each) =>
      make(`li${each.probability === most ? ".most" : ""}`, { title: `${each.en} ${each.zh}` },
        make("b", {}, each.code), bar(each), make("span", {}, percent(each.probability)), make("small", {}, say(each.en, each.zh))))),
    make(`p.adequacy.${reading.adequacy.adequate ? "good" : "poor"}`, {}, say(reading.adequacy.en, reading.adequacy.zh), " ",
      make("small", {}, say(`${number(reading.adequacy.tiles)} fit tiles, ${number(reading.adequacy.needed)} needed`, `可判读图块 ${number(reading.adequacy.tiles)}，需要 ${number(reading.adequacy.needed)}`))));
}

function bar(each) {
  const inner = make("i", { "data-class": each.code });
  inner.style.width = percent(each.probability).replace(" ", "");
  return make("span.track", { "aria-hidden": "true" }, inner);
}

// The probability beside the operating point, which says what is sent to a person.
function gauge(reading) {
  const dot = make("i.dot");
  dot.style.left = `${100 * reading.probability}%`;
  const line = make("i.line");
  line.style.left = `${100 * reading.threshold}%`;
  return make("div.gauge", {},
    make("p", {},
      make("span", {}, say("Probability", "异常概率"), " ", make("b", {}, reading.probability.toFixed(3))),
      make("span", {}, say("Operating point", "工作点"), " ", make("b", {}, reading.threshold.toFixed(3)))),
    make("div.track", { "aria-hidden": "true" }, line, dot));
}

function patient(reading) {
  const risk = reading.patient;
  const inside = risk === null
    ? [make("p", {}, say("Not known: nothing in the form or the record counts.", "未知：申请单与档案中无可用信息。"))]
    : [make("p", {}, make(`b.level.${risk.level}`, {}, word(LEVELS, risk.level)), ` ${risk.points} `, say("points", "分")),
      make("ul", {}, risk.reasons.map((why) => make("li", {}, `+${why.points} `, say(why.en, why.zh)))),
      risk.unknown.length ? make("p.quiet", {}, say("Unknown: ", "未知："), risk.unknown.join(", ")) : null];
  return make("section.apart", { "aria-labelledby": "patient" },
    make("h2", { id: "patient" }, say("Patient-level risk, apart", "患者层面风险（独立）")), ...inside,
    make("p.quiet", {}, say("It may raise the priority; it never lowers the image result.", "可提高优先级，绝不降低图像结果。")));
}

function facts() {
  const rows = [
    [["File", "文件"], slide.name], [["Accession", "病理号"], slide.accession], [["Slide", "切片编号"], id],
    [["Received", "接收时间"], moment(slide.created)], [["SHA-256", "SHA-256"], slide.sha256],
  ];
  return make("section", { "aria-labelledby": "facts" }, make("h2", { id: "facts" }, say("Slide", "切片")), list(rows));
}

function list(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl.facts", {}, known.flatMap(([name, value]) => [make("dt", {}, say(...name)), make("dd", {}, value)]));
}

function origin(reading) {
  const scale = reading.slide.mpp ? `${reading.slide.mpp.join(" × ")} µm/px` : "–";
  const unfit = Object.entries(reading.tiles.unfit).flatMap(([name, count]) => [` ${number(count)} `, word(UNFIT, name)]);
  const from = { file: ["from the file", "取自文件"], operator: ["given by the operator", "由操作员给定"] };
  const rows = [
    [["Model", "模型"], `${reading.model.name} ${reading.model.version}`],
    [["Weights digest", "权重摘要"], reading.model.bundle],
    [["Policy", "策略版本"], reading.policy_version],
    [["Config digest", "配置摘要"], reading.config_sha256],
    [["Scale", "比例尺"], make("span", {}, `${scale} `, from[reading.slide.mpp_from] ? say(...from[reading.slide.mpp_from]) : "")],
    [["Tiles", "图块"], make("span", {}, `${number(reading.tiles.read)} / ${number(reading.tiles.grid)};`, ...unfit, "; ", say(`${number(reading.tiles.unknown)} unfamiliar`, `陌生 ${number(reading.tiles.unknown)}`))],
    [["Slide SHA-256", "切片 SHA-256"], reading.slide.sha256],
    [["Slide", "切片编号"], id], [["Read at", "判读时间"], moment(reading.created)],
  ];
  return make("details.origin", {},
    make("summary", {}, say("Where this comes from", "来源与版本")),
    make("p.claim", {}, say(reading.claim.en, reading.claim.zh)), list(rows),
    make("p.quiet", {}, say("The AI assists and never signs. A negative triage does not rule disease out.", "AI 仅作辅助，不签发报告；阴性分流不能排除疾病。")));
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
  });
}

// --- live

function listen() {
  if (!slide || READ.includes(slide.state) || ENDED.includes(slide.state)) return;
  const source = new EventSource(address);
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
    if (slide && (READ.includes(slide.state) || ENDED.includes(slide.state))) source.close();
  });
}

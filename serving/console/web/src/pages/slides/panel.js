// What is told beside the slide, and instead of it while there is none to see.

import { make, moment, number, percent, say, word } from "./common.js";
import { ASKED, LEVELS, STATES, STEPS, TRIAGE, UNFIT } from "./words";

export function progress(slide) {
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

export function ended(slide) {
  const titles = {
    failed: ["This slide could not be read", "该切片无法判读"],
    quality_failed: ["This scan is not fit to be read", "该扫描不可判读"],
    cancelled: ["This slide was cancelled", "该切片已取消"],
  };
  const reasons = (slide.reasons || []).map((why) => make("li", {}, say(why.en || why.code, why.zh || why.code), make("code", {}, why.code || "")));
  return make("div.card.bad", { role: "alert" },
    make("h2", {}, say(...titles[slide.state])),
    reasons.length ? make("ul.reasons", {}, reasons) : make("p", {}, slide.code || ""),
    make("p.actions", {}, make("a.button.main", { href: "/console/slides" }, say("Send it again", "重新上传"))));
}

export function result(reading) {
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

export function patient(reading) {
  const risk = reading.patient;
  const inside = risk === null
    ? [make("p", {}, say("Not known: nothing in the form or the record counts.", "未知：申请单与档案中无可用信息。"))]
    : [make("p", {}, make(`b.level.${risk.level}`, {}, word(LEVELS, risk.level)), ` ${risk.points} `, say("points", "分")),
      make("ul", {}, risk.reasons.map((why) => make("li", {}, `+${why.points} `, say(why.en, why.zh)))),
      risk.unknown.length ? make("p.quiet", {}, say("Unknown: ", "未知："), ...risk.unknown.flatMap((code, at) => [at ? " · " : "", word(ASKED, code)])) : null];
  return make("section.apart", { "aria-labelledby": "patient" },
    make("h2", { id: "patient" }, say("Patient-level risk, apart", "患者层面风险（独立）")), ...inside,
    make("p.quiet", {}, say("It may raise the priority; it never lowers the image result.", "可提高优先级，绝不降低图像结果。")));
}

export function facts(slide) {
  const rows = [
    [["File", "文件"], slide.name], [["Accession", "病理号"], slide.accession], [["Slide", "切片编号"], slide.slide_id],
    [["Received", "接收时间"], moment(slide.created)], [["SHA-256", "SHA-256"], slide.sha256],
  ];
  return make("section", { "aria-labelledby": "facts" }, make("h2", { id: "facts" }, say("Slide", "切片")), list(rows));
}

function list(rows) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl.facts", {}, known.flatMap(([name, value]) => [make("dt", {}, say(...name)), make("dd", {}, value)]));
}

export function origin(reading, id) {
  const scale = reading.slide.mpp ? `${reading.slide.mpp.join(" × ")} µm/px` : "–";
  const unfit = Object.entries(reading.tiles.unfit).flatMap(([name, count]) => [` ${number(count)} `, word(UNFIT, name)]);
  const from = { file: ["from the file", "取自文件"], operator: ["given by who sent it", "由送检方填写"] };
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

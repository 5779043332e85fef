// The panel beside the slide, and the cards in place of the image while there is none.

import { formatTimestamp, formatNumber, formatPercent } from "../../ui/format";
import { currentUser } from "../../session";
import { bilingual, bilingualLabel, createElement, errorElement, type Child } from "./dom";
import { REQUEST_FIELDS, RISK_LEVELS, STATES, PROCESSING_STATES, TRIAGE, UNFIT_REASONS } from "./labels";
import type { Proof, Reading, SlideDetail } from "./types";
import type { Bilingual, Labels } from "../../ui/i18n";

type Fact = [label: Bilingual, value: Child | Child[]];

export function progressCard(slide: SlideDetail): HTMLElement {
  const current = PROCESSING_STATES.indexOf(slide.state);
  const steps = PROCESSING_STATES.map((state, index) =>
    createElement(`li.${index < current ? "done" : index === current ? "current" : "pending"}`, index === current ? { "aria-current": "step" } : {}, bilingualLabel(STATES, state)));
  const { done, total } = slide.progress;
  return createElement("div.card", {},
    createElement("h2", {}, bilingual("Slide in progress", "切片处理中")),
    createElement("ol.steps", {}, steps),
    slide.state === "inferring" ? createElement("div.progress", {},
      createElement("progress", { max: 1, ...(total ? { value: done / total } : {}), "aria-label": "Tiles read 已判读图块" }),
      createElement("span", { id: "tiles" }, total ? `${formatNumber(done)} / ${formatNumber(total)}` : "")) : null,
    createElement("p.quiet", {}, bilingual("This page updates automatically. You can close it and come back later.", "本页自动更新，可关闭后再查看。")));
}

export function failureCard(slide: SlideDetail): HTMLElement {
  const titles: Labels = {
    failed: ["The slide could not be read", "该切片无法判读"],
    quality_failed: ["The scan quality is insufficient", "扫描质量不合格，无法判读"],
    cancelled: ["The slide was cancelled", "该切片已取消"],
  };
  const reasons = (slide.reasons ?? []).map(({ code = "", en, zh }) => createElement("li", {}, bilingual(en || code, zh || code), createElement("code", {}, code)));
  return createElement("div.card.bad", { role: "alert" },
    createElement("h2", {}, bilingualLabel(titles, slide.state)),
    reasons.length ? createElement("ul.reasons", {}, reasons) : createElement("p", {}, slide.code || ""),
    createElement("p.actions", {}, createElement("a.button.main", { href: "/console/slides" }, bilingual("Upload again", "重新上传"))));
}

// The statements about the scale that differ, and the form with which a person confirms a value.
export function scaleCard(slide: SlideDetail, confirm: (mpp: number) => Promise<void>): HTMLElement {
  const scales = (slide.reasons ?? []).flatMap(({ scales = [] }) => scales);
  const input = createElement("input", { type: "number", id: "mpp", step: "any", min: 0.02, max: 40, required: true, class: "short" });
  const message = createElement("div", { "aria-live": "polite" });
  const button = createElement("button.main", { type: "submit" }, bilingual("Confirm", "确认"));
  const rows = scales.map(({ source, x, y }) => createElement("li", {},
    createElement("button", { type: "button", onclick: () => { input.value = String(x); } }, x === y ? `${x} µm/px` : `${x} × ${y} µm/px`), ` ${source}`));
  const onsubmit = (event: SubmitEvent) => {
    event.preventDefault();
    button.disabled = true;
    confirm(input.valueAsNumber).catch((error: unknown) => message.replaceChildren(errorElement(error))).finally(() => { button.disabled = false; });
  };
  return createElement("div.card", { role: "alert" },
    createElement("h2", {}, slide.code === "no_scale" ? bilingual("What is the scale?", "请填写比例") : bilingual("Which scale is right?", "请确认比例")),
    createElement("p", {}, slide.code === "no_scale"
      ? bilingual("The file does not state how many microns a pixel is. Nothing is read before the scale is entered; look it up at the scanner.", "文件未记载每像素多少微米。填写前不会判读；请在扫描仪上查明。")
      : bilingual("The file, or its request form, states different scales. Nothing is read before one is confirmed; look it up at the scanner.", "文件或申请单中记载的比例不一致。确认前不会判读；请在扫描仪上查明。")),
    createElement("ul.reasons", { id: "scales" }, rows),
    currentUser()?.roles.includes("clinic") ? createElement("form", { onsubmit },
      createElement("label", {}, bilingual("Microns per pixel", "每像素微米数"), " ", input), " ", button, message) : null);
}

export function resultSection(reading: Reading): HTMLElement {
  const { adequacy, classes, triage } = reading;
  const reasons = reading.abstained.map(({ en, zh }) => createElement("li", {}, bilingual(en, zh)));
  const highest = Math.max(...classes.map(({ probability }) => probability), 0);
  return createElement("section", { "aria-labelledby": "result" },
    createElement("h2", { id: "result" }, bilingual("AI image result", "AI 图像判读结果")),
    createElement(`p.triage.${triage}`, {}, bilingualLabel(TRIAGE, triage)),
    reading.probability === null ? null : probabilityGauge(reading.probability, reading.threshold),
    reasons.length ? createElement("ul.abstained", {}, reasons) : null,
    createElement("ul.classes", {}, classes.map(({ code, en, zh, probability }) =>
      createElement(`li${probability === highest ? ".highest" : ""}`, { title: `${en} ${zh}` },
        createElement("b", {}, code), probabilityBar(code, probability), createElement("span", {}, formatPercent(probability)), createElement("small", {}, bilingual(en, zh))))),
    createElement(`p.adequacy.${adequacy.adequate ? "good" : "poor"}`, {}, bilingual(adequacy.en, adequacy.zh), " ",
      createElement("small", {}, bilingual(`${formatNumber(adequacy.tiles)} usable tiles, ${formatNumber(adequacy.needed)} required`, `可判读图块 ${formatNumber(adequacy.tiles)}，需要 ${formatNumber(adequacy.needed)}`))));
}

function probabilityBar(code: string, probability: number): HTMLElement {
  const fill = createElement("i", { "data-class": code });
  fill.style.width = formatPercent(probability).replace(" ", "");
  return createElement("span.track", { "aria-hidden": "true" }, fill);
}

// The probability and the operating point: from there on a slide is sent to a pathologist.
function probabilityGauge(probability: number, threshold: number): HTMLElement {
  const dot = createElement("i.dot");
  dot.style.left = `${100 * probability}%`;
  const line = createElement("i.line");
  line.style.left = `${100 * threshold}%`;
  return createElement("div.gauge", {},
    createElement("p", {},
      createElement("span", {}, bilingual("Probability", "异常概率"), " ", createElement("b", {}, probability.toFixed(3))),
      createElement("span", {}, bilingual("Operating point", "工作点"), " ", createElement("b", {}, threshold.toFixed(3)))),
    createElement("div.track", { "aria-hidden": "true" }, line, dot));
}

export function patientRiskSection({ patient: risk }: Reading): HTMLElement {
  const content = risk === null
    ? [createElement("p", {}, bilingual("Unknown: the request form and the record contain no relevant information.", "未知：申请单与档案中无相关信息。"))]
    : [createElement("p", {}, createElement(`b.level.${risk.level}`, {}, bilingualLabel(RISK_LEVELS, risk.level)), ` ${risk.points} `, bilingual("points", "分")),
      createElement("ul", {}, risk.reasons.map(({ points, en, zh }) => createElement("li", {}, `+${points} `, bilingual(en, zh)))),
      risk.unknown.length ? createElement("p.quiet", {}, bilingual("Unknown: ", "未知："), ...risk.unknown.flatMap((field, index) => [index ? " · " : "", bilingualLabel(REQUEST_FIELDS, field)])) : null];
  return createElement("section.separate", { "aria-labelledby": "patient" },
    createElement("h2", { id: "patient" }, bilingual("Patient-level risk (separate)", "患者层面风险（独立评估）")), ...content,
    createElement("p.quiet", {}, bilingual("It can raise the priority but never lowers the image result.", "仅可提高优先级，不会降低图像判读结果。")));
}

export function factsSection(slide: SlideDetail): HTMLElement {
  return createElement("section", { "aria-labelledby": "facts" }, createElement("h2", { id: "facts" }, bilingual("Slide", "切片")), factList([
    [["File", "文件"], slide.name], [["Accession", "病理号"], slide.accession], [["Slide", "切片编号"], slide.slide_id],
    [["Received", "接收时间"], formatTimestamp(slide.created)], [["SHA-256", "SHA-256"], slide.sha256],
  ]));
}

function factList(facts: Fact[]): HTMLElement {
  const known = facts.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return createElement("dl.facts", {}, known.flatMap(([[en, zh], value]) => [createElement("dt", {}, bilingual(en, zh)), createElement("dd", {}, value)]));
}

// What was proved of the de-identified copy before the uploaded file was removed. open: whether its details are shown.
export function proofSection(proof: Proof, open: boolean): HTMLElement {
  const readers = proof.readers.map(({ name, version }) => `${name} ${version}`.trim()).join(", ");
  const [words, bytes, tiles, regions] = [proof.words, proof.bytes, proof.tiles, proof.regions].map((count) => formatNumber(count));
  return createElement("details.origin", { id: "proof", open },
    createElement("summary", {}, bilingual("De-identification proved", "去标识已证明")),
    createElement("p", {}, bilingual("No label, no macro image and no name in this copy; the tissue is unchanged.", "本副本不含标签图、宏观图与姓名等标识；组织像素未变。")),
    factList([
      [["Readers that found nothing", "未检出标识的读取程序"], readers],
      [["Words searched for", "检索词数"], bilingual(`${words} in ${bytes} bytes`, `${words}（检索 ${bytes} 字节）`)],
      [["Tissue compared", "组织比对"], bilingual(`${tiles} tiles as stored, ${regions} decoded regions`, `存储图块 ${tiles} 个，解码区域 ${regions} 个`)],
      [["Original SHA-256", "原始文件 SHA-256"], proof.original_sha256],
      [["Copy SHA-256", "副本 SHA-256"], proof.copy_sha256],
      [["Proved at", "证明时间"], formatTimestamp(proof.at)],
    ]));
}

// Which focal planes were read; nothing of a slide with a single one.
function planesText({ planes = 1, plane_spacing: spacing, plane }: Reading["slide"]): Child {
  if (planes < 2) return null;
  const [apart, apartZh] = spacing ? [`, ${spacing} µm apart`, `，间距 ${spacing} µm`] : ["", ""];
  return plane
    ? bilingual(`plane ${plane} of ${planes}${apart}`, `第 ${plane} / ${planes} 平面${apartZh}`)
    : bilingual(`${planes}${apart}; each tile in the sharpest`, `${planes} 个${apartZh}；各图块取最清晰者`);
}

export function provenanceSection(reading: Reading, slideId: string): HTMLElement {
  const { model, slide, tiles } = reading;
  const scale = slide.mpp ? `${slide.mpp.join(" × ")} µm/px` : "–";
  const unfit = Object.entries(tiles.unfit).flatMap(([reason, count]) => [` ${formatNumber(count)} `, bilingualLabel(UNFIT_REASONS, reason)]);
  const scaleSources: Labels = { file: ["from the file", "取自文件"], operator: ["entered by the sender", "由送检方填写"] };
  return createElement("details.origin", {},
    createElement("summary", {}, bilingual("Provenance", "来源与版本")),
    createElement("p.claim", {}, bilingual(reading.claim.en, reading.claim.zh)),
    factList([
      [["Model", "模型"], `${model.name} ${model.version}`],
      [["Bundle digest", "模型包摘要"], model.bundle],
      [["Policy", "策略版本"], reading.policy_version],
      [["Config digest", "配置摘要"], reading.config_sha256],
      [["Scale", "比例尺"], createElement("span", {}, `${scale} `, scaleSources[slide.mpp_from] ? bilingualLabel(scaleSources, slide.mpp_from) : "")],
      [["Focal planes", "焦平面"], planesText(slide)],
      [["Tiles", "图块"], createElement("span", {}, `${formatNumber(tiles.read)} / ${formatNumber(tiles.grid)};`, ...unfit, "; ", bilingual(`${formatNumber(tiles.unknown)} unfamiliar`, `陌生 ${formatNumber(tiles.unknown)}`))],
      [["Slide SHA-256", "切片 SHA-256"], slide.sha256],
      [["Slide", "切片编号"], slideId], [["Read at", "判读时间"], formatTimestamp(reading.created)],
    ]),
    createElement("p.quiet", {}, bilingual("The AI assists and does not sign reports. A negative triage does not rule out disease.", "AI 仅供辅助，不签发报告；AI 判为阴性不能排除疾病。")));
}

// The worklist, and a slide sent in parts that survive a cut.

import { $, ENDED, READ, SPECIMENS, STATES, TBS, TRIAGE, Refused, ask, failure, languages, make, moment, plain, say, session, stranger, who, word } from "./common.js";

const CHOICES = {
  specimen: SPECIMENS,
  stain: { papanicolaou: ["Papanicolaou", "巴氏"], haematoxylin_eosin: ["Haematoxylin and eosin", "HE"], other: ["Other", "其他"] },
  preparation: {
    liquid_based: ["Liquid-based", "液基"], conventional_smear: ["Conventional smear", "传统涂片"],
    paraffin_section: ["Paraffin section", "石蜡切片"], frozen_section: ["Frozen section", "冰冻切片"], other: ["Other", "其他"],
  },
  menopause: { "": ["Unknown", "未知"], before: ["Before", "未绝经"], after: ["After", "已绝经"] },
  hpv_result: { "": ["Unknown", "未知"], positive: ["Positive", "阳性"], negative: ["Negative", "阴性"] },
  previous_result: { "": ["Unknown", "未知"], ...TBS },
};
const PART = 8 * 1024 * 1024;
const EVERY = 5_000; // ms between two looks at the worklist
let upload = null;

languages(() => {
  for (const [name, table] of Object.entries(CHOICES)) {
    const select = document.getElementById(name);
    const chosen = select.value;
    select.replaceChildren(...Object.entries(table).map(([code, names]) =>
      make("option", { value: code }, name === "previous_result" && code ? `${code} · ${plain(...names)}` : plain(...names))));
    if (chosen) select.value = chosen;
  }
});
await worklist();
if (!$("#token")) $(".downloads").replaceChildren(session(await who()) || "");
setInterval(() => document.visibilityState === "visible" && worklist(), EVERY);
dropping();
$("#form").addEventListener("submit", send);

async function worklist() {
  let slides;
  try {
    slides = (await ask("/v1/slides")).slides;
  } catch (error) {
    if (error.status !== 401) $("#worklist").replaceChildren(failure(error));
    else if (!$("#token")) $("#worklist").replaceChildren(stranger()); // once: what is typed into it stays
    return;
  }
  if (!slides.length) {
    $("#worklist").replaceChildren(make("p.empty", {}, say("No slides yet. Send the first one.", "暂无切片，请先上传。")));
    return;
  }
  const names = [["Priority", "优先级"], ["Accession", "病理号"], ["Specimen", "标本"], ["AI", "AI"], ["State", "状态"], ["Received", "接收时间"]];
  $("#worklist").replaceChildren(make("table", {},
    make("thead", {}, make("tr", {}, names.map((each) => make("th", { scope: "col" }, say(...each))))),
    make("tbody", {}, slides.map((slide) => make("tr", {},
      make("td", {}, make(`span.rank${slide.priority >= 70 ? ".high" : ""}`, {}, READ.includes(slide.state) ? String(slide.priority) : "–")),
      make("td", {}, make("a", { href: `/slides/${slide.slide_id}` }, slide.accession || slide.name || slide.slide_id.slice(0, 8))),
      make("td", {}, slide.specimen ? word(SPECIMENS, slide.specimen) : "–"),
      make("td", {}, slide.triage ? make(`span.triage.${slide.triage}`, {}, word(TRIAGE, slide.triage)) : "–"),
      make("td", {}, make(`span.chip.${slide.state}`, {}, word(STATES, slide.state)),
        slide.state === "inferring" && slide.progress.total ? make("progress", { max: slide.progress.total, value: slide.progress.done, "aria-label": `${slide.progress.done} / ${slide.progress.total}` }) : null,
        ENDED.includes(slide.state) && slide.code ? make("code", {}, ` ${slide.code}`) : null),
      make("td", {}, moment(slide.created).slice(0, 16)))))));
}

function dropping() {
  const drop = $("#drop");
  const file = $("#file");
  const told = () => file.files.length && $("#chosen").replaceChildren(`${file.files[0].name} · ${(file.files[0].size / 1e6).toFixed(1)} MB`);
  file.addEventListener("change", told);
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files.length) {
      file.files = event.dataTransfer.files;
      told();
    }
  });
}

function metadata(file, sha256) {
  const form = new FormData($("#form"));
  const told = { filename: file.name, sha256 };
  for (const name of ["accession", "specimen", "stain", "preparation", "mpp"]) {
    if (form.get(name)) told[name] = form.get(name).trim();
  }
  const request = {};
  for (const name of ["menopause", "hpv_result", "previous_result"]) if (form.get(name)) request[name] = form.get(name);
  if (form.get("age")) request.age = Number(form.get("age"));
  const types = form.get("hpv_genotype").split(/[ ,]+/).filter(Boolean);
  if (types.length) request.hpv_genotype = types;
  return { ...told, request: JSON.stringify(request) };
}

async function send(event) {
  event.preventDefault();
  const file = $("#file").files[0];
  $("#go").disabled = true;
  try {
    const sha256 = await digest(file);
    const slide = await put(file, metadata(file, sha256));
    show(say("Received; it is being verified.", "已接收，正在校验。"), 1, "SHA-256", sha256);
    await worklist();
    if (slide) $("#sending").append(make("p.actions", {}, make("a.button", { href: `/slides/${slide}` }, say("Open the slide", "打开切片"))));
  } catch (error) {
    $("#sending").replaceChildren(failure(error));
  } finally {
    $("#go").disabled = false;
    $("#pause").hidden = true;
  }
}

function digest(file) {
  return new Promise((resolve, reject) => {
    const worker = new Worker("/static/hash-worker.js");
    const end = (settle, value) => { worker.terminate(); settle(value); };
    worker.onmessage = ({ data }) => {
      if (data.error) end(reject, new Error(data.error));
      else if (data.sha256) end(resolve, data.sha256);
      else show(say("Working out the SHA-256 …", "正在计算 SHA-256……"), data.done / file.size);
    };
    worker.onerror = (error) => end(reject, new Error(error.message || "the worker failed"));
    worker.postMessage(file);
  });
}

// Resolves with the slide's id, where the service tells it.
function put(file, told) {
  return new Promise((resolve, reject) => {
    let slide = "";
    const pause = $("#pause");
    upload = new window.tus.Upload(file, {
      endpoint: "/v1/uploads", chunkSize: PART, metadata: told, retryDelays: [0, 1000, 3000, 10000, 30000],
      removeFingerprintOnSuccess: true,
      fingerprint: async () => `yuheng-${told.sha256}-${told.accession}`,
      onAfterResponse: (request, response) => { slide = response.getHeader("Slide-Id") || slide; },
      onProgress: (sent, all) => show(say("Sending …", "上传中……"), sent / all),
      onSuccess: () => resolve(slide),
      onError: (error) => reject(refusal(error)),
    });
    pause.hidden = false;
    let paused = false;
    pause.onclick = () => {
      paused = !paused;
      if (paused) upload.abort();
      else upload.start();
      pause.replaceChildren(paused ? say("Go on", "继续") : say("Pause", "暂停"));
    };
    // What a cut left behind goes on where it stood.
    upload.findPreviousUploads().then((before) => {
      if (before.length) upload.resumeFromPreviousUpload(before[0]);
      upload.start();
    }, reject);
  });
}

function refusal(error) {
  const answer = error.originalResponse;
  if (!answer) return error;
  try {
    return new Refused(answer.getStatus(), JSON.parse(answer.getBody()));
  } catch {
    return error;
  }
}

function show(what, share, ...more) {
  $("#sending").replaceChildren(make("p", {}, what), make("div.progress", {},
    make("progress", { max: 1, value: share, "aria-label": "Progress 进度" }), make("span", {}, `${Math.round(100 * share)} %`)),
  more.length ? make("p.quiet", {}, `${more[0]} `, make("code", { id: "sha256" }, more[1])) : "");
}

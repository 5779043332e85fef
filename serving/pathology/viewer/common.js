// What both pages share: two languages, requests, words.

export const TBS = {
  "NILM": ["Negative for intraepithelial lesion or malignancy", "未见上皮内病变或恶性病变"],
  "ASC-US": ["Atypical squamous cells of undetermined significance", "意义不明确的非典型鳞状细胞"],
  "LSIL": ["Low-grade squamous intraepithelial lesion", "低级别鳞状上皮内病变"],
  "ASC-H": ["Atypical squamous cells, cannot exclude HSIL", "非典型鳞状细胞，不除外高级别病变"],
  "HSIL": ["High-grade squamous intraepithelial lesion", "高级别鳞状上皮内病变"],
  "SCC": ["Squamous cell carcinoma", "鳞状细胞癌"],
  "AGC": ["Atypical glandular cells", "非典型腺细胞"],
  "UNSATISFACTORY": ["Unsatisfactory for evaluation", "标本不满意"],
};
export const STATES = {
  uploading: ["Being uploaded", "上传中"],
  verifying: ["Being verified", "校验中"],
  deidentified: ["Names removed", "已去标识"],
  quality_passed: ["Fit to be read", "质量合格"],
  quality_failed: ["Not fit: scan again", "质量不合格，请重扫"],
  queued: ["Waiting to be read", "等待判读"],
  inferring: ["Being read", "判读中"],
  aggregating: ["Being summed up", "汇总中"],
  ready: ["Awaits a pathologist", "待审核"],
  abstained: ["No AI answer; awaits a pathologist", "AI 不作判断，待审核"],
  in_review: ["With a pathologist", "审核中"],
  signed: ["Signed", "已签发"],
  amended: ["Amended", "已更正"],
  failed: ["Failed", "失败"],
  cancelled: ["Cancelled", "已取消"],
};
export const STEPS = [
  "uploading", "verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating", "ready",
];
export const READ = ["ready", "abstained", "in_review", "signed", "amended"];
export const ENDED = ["quality_failed", "failed", "cancelled"];
export const TRIAGE = {
  negative: ["Negative", "阴性"],
  review: ["Review", "需复核"],
  positive: ["Positive", "阳性"],
  abstained: ["No answer", "不作判断"],
};
export const LEVELS = { routine: ["Routine", "常规"], raised: ["Raised", "升高"], urgent: ["Urgent", "紧急"] };
export const SPECIMENS = {
  cervical_cytology: ["Cervical cytology", "宫颈细胞学"],
  breast_histology: ["Breast histology", "乳腺组织学"],
  lymph_node: ["Lymph node", "淋巴结"],
};
export const UNFIT = { blank: ["blank", "空白"], pen: ["pen", "笔迹"], focus: ["out of focus", "失焦"] };

export const $ = (selector, root = document) => root.querySelector(selector);

// An element: make("p.note", {title: "x"}, "text", child, ...). Text never becomes markup.
export function make(what, attributes = {}, ...children) {
  const [name, ...classes] = what.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Both languages; the style sheet shows the chosen one, or both.
export function say(en, zh) {
  return make("span.both", {}, make("span", { lang: "en" }, en), " ", make("span", { lang: "zh-CN" }, zh));
}

export const word = (table, code) => say(...(table[code] || [String(code), String(code)]));
export const plain = (en, zh) => (language() === "en" ? en : language() === "zh" ? zh : `${en} ${zh}`);
export const language = () => document.documentElement.dataset.language;

function remembered() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null; // storage is off: the choice lasts as long as the page
  }
}

export function languages(changed = () => {}) {
  const first = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
  const choose = (chosen) => {
    document.documentElement.dataset.language = chosen;
    document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
    for (const button of document.querySelectorAll("[data-choose]")) {
      button.setAttribute("aria-pressed", String(button.dataset.choose === chosen));
    }
    try {
      localStorage.setItem("language", chosen);
    } catch {
      // as above
    }
    changed();
  };
  for (const button of document.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => choose(button.dataset.choose));
  }
  // Chromium keeps some letters as it shaped them before the font came; another kerning has it shape them again.
  document.fonts.ready.then(() => document.documentElement.classList.add("lettered"));
  choose(["en", "zh", "both"].includes(remembered()) ? remembered() : first);
}

// What the service refused, in both languages, with its faults.
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
  }
  shown() {
    const { title, title_zh, detail, detail_zh, errors } = this.problem;
    const faults = (errors || []).map((each) =>
      make("li", {}, make("code", {}, each.field), ` ${each.found}: `, say(each.needed, each.needed_zh || each.needed)),
    );
    return make("div.refusal", { role: "alert" },
      make("strong", {}, say(title || this.message, title_zh || title || this.message)),
      make("p", {}, say(detail || this.message, detail_zh || detail || this.message)),
      faults.length ? make("ul", {}, faults) : null);
  }
}

export async function ask(address, { body, method } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address, {
      method: method || (body === undefined ? "GET" : "POST"),
      headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
    });
  } catch {
    throw new Refused(0, {
      title: "The service was not reached", title_zh: "无法连接服务",
      detail: "Check the network, then try again.", detail_zh: "请检查网络后重试。",
    });
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, told);
  return told;
}

// Who is signed in: { tenant, roles, name, licence }, or null.
export async function who() {
  try {
    return await ask("/v1/session");
  } catch (error) {
    if (error.status === 401) return null;
    throw error;
  }
}

// A form for a token, which goes into a cookie that no script reads. `then` gets who they are; what it throws is shown.
export function signIn(label, button, then) {
  const field = make("input", { type: "password", id: "token", autocomplete: "off", required: true, spellcheck: "false" });
  const message = make("div", { "aria-live": "polite" });
  const submit = async (event) => {
    event.preventDefault();
    const pressed = event.submitter;
    if (pressed) pressed.disabled = true;
    message.replaceChildren();
    try {
      await then(await ask("/v1/session", { body: { token: field.value.trim() } }));
    } catch (error) {
      message.replaceChildren(failure(error));
    } finally {
      if (pressed) pressed.disabled = false;
    }
  };
  return make("form.identify", { onsubmit: submit },
    make("label", { for: "token" }, say(...label)), field,
    make("button", { type: "submit" }, say(...button)),
    make("p.quiet", {}, say("Kept in a cookie that no script can read, until the token ends or you sign out.", "保存于脚本无法读取的 Cookie，直至令牌到期或退出登录。")),
    message);
}

// Instead of what a stranger may not see.
export const stranger = () => make("div.card", {},
  make("h2", {}, say("Sign in to see this", "请先登录")),
  signIn(["Token of your clinic or your own", "机构或本人令牌"], ["Sign in", "登录"], () => location.reload()));

// Whose session it is, and its end. A service without tokens has one that nobody began.
export function session(me) {
  if (!me || (me.tenant === "local" && !me.licence)) return null;
  const end = async () => {
    await ask("/v1/session", { method: "DELETE" });
    location.reload();
  };
  return make("p.quiet.session", {}, [me.tenant, me.name, me.licence].filter(Boolean).join(" · "), " ",
    make("button.quiet", { type: "button", onclick: end }, say("Sign out", "退出登录")));
}

export function failure(error) {
  if (error instanceof Refused) return error.shown();
  console.error(error);
  return new Refused(0, { title: "The page failed", title_zh: "页面出错", detail: String(error), detail_zh: String(error) }).shown();
}

export const percent = (value) => `${(100 * value).toFixed(1)} %`;
export const number = (value) => Number(value).toLocaleString("en-US");
export const moment = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?(Z|\+00:00)$/, " UTC") : "–");

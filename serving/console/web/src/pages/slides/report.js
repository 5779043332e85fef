// The report that a pathologist signs, who is known by the console's session.

import { newKey } from "../../kit/api";
import { session } from "../../session";
import { Refused, ask, failure, make, moment, plain, say } from "./common.js";
import { TBS } from "./words";

// What is written and not signed, by person and slide: it outlives a look at the worklist, in this tab's memory alone.
const drafts = new Map();

export class ReportForm {
  constructor(address, changed) {
    this.address = address;
    this.changed = changed;
    this.mine = `${session.value.tenant} ${session.value.who} ${address}`;
    this.amending = false;
    this.sent = {};
  }

  get draft() { return drafts.get(this.mine) ?? null; }
  set draft(written) { drafts.set(this.mine, written); }

  async section(slide) {
    this.slide = slide;
    const done = ["signed", "amended"].includes(slide.state);
    this.report = done ? await ask(`${this.address}/report?format=json`) : null;
    this.root = make("section.report", { "aria-labelledby": "report" });
    this.draw();
    return this.root;
  }

  draw() {
    const me = session.value;
    const parts = [make("h2", { id: "report" }, say("Pathologist's report", "病理医师报告"))];
    if (this.report) parts.push(this.signed());
    else parts.push(make("p.draft", {}, say("DRAFT - not signed", "草稿 - 未签发")));
    if (!me || !me.licence) parts.push(this.identify());
    else if (["ready", "abstained"].includes(this.slide.state)) parts.push(this.begin());
    else if (this.report && !this.amending) parts.push(this.offer());
    else parts.push(this.form());
    this.message = make("div", { "aria-live": "polite" });
    this.root.replaceChildren(...parts, this.message);
  }

  signed() {
    const { diagnosis, findings, signed_by: signer, signed_at: at, version, amends, reason } = this.report;
    const known = TBS[diagnosis];
    return make("div.signed", {},
      make(`p.stamp.${amends ? "amended" : "final"}`, {}, amends ? say(`AMENDED v${version}`, `已更正 v${version}`) : say(`SIGNED v${version}`, `已签发 v${version}`)),
      make("p.diagnosis", {}, known ? [make("b", {}, `${diagnosis} `), say(...known)] : diagnosis),
      findings ? make("p.findings", {}, findings) : null,
      amends ? make("p.quiet", {}, say(`Replaces v${amends}: `, `替代 v${amends}：`), reason) : null,
      make("p.quiet", {}, `${signer.name} · ${signer.licence} · ${moment(at)}`));
  }

  identify() {
    const field = make("input", { type: "password", id: "token", autocomplete: "off", required: true, spellcheck: "false" });
    const submit = (event) => {
      event.preventDefault();
      this.tell(event.submitter, async () => {
        const they = await ask("/v1/session", { body: { token: field.value.trim() } });
        if (!they.licence) {
          throw new Refused(403, {
            title: "Only a pathologist may do this", title_zh: "仅限病理医师操作",
            detail: "The token has no licence. Sign in with a pathologist's.", detail_zh: "该令牌没有执业证号，请使用病理医师令牌。",
          });
        }
        session.value = they;
        await this.open();
      });
    };
    return make("form.identify", { onsubmit: submit },
      make("label", { for: "token" }, say("Pathologist's token", "病理医师令牌")), field,
      make("button.main", { type: "submit" }, this.report ? say("Continue", "继续") : say("Open for review", "开始审核")),
      make("p.quiet", {}, say("Kept in a cookie that no script can read, until the token ends or you sign out.", "保存于脚本无法读取的 Cookie，直至令牌到期或退出登录。")));
  }

  begin() {
    const button = make("button.main", { type: "button", onclick: () => this.tell(button, () => this.open()) }, say("Open for review", "开始审核"));
    return make("p.actions", {}, button);
  }

  async open() {
    if (["ready", "abstained"].includes(this.slide.state)) {
      await ask(`${this.address}/review`, { method: "POST" });
      this.slide.state = "in_review";
    }
    await this.changed();
  }

  offer() {
    return make("p.actions", {}, make("button", { type: "button", onclick: () => {
      this.amending = true;
      this.draft ??= { diagnosis: TBS[this.report.diagnosis] ? this.report.diagnosis : "other", other: TBS[this.report.diagnosis] ? "" : this.report.diagnosis, findings: this.report.findings || "" };
      this.draw();
    } }, say("Amend", "更正")), this.signer());
  }

  // Whose name the report will bear.
  signer() {
    const { name, licence } = session.value;
    return make("span.signer.quiet", {}, say(`as ${name} · ${licence}`, `签发人：${name} · ${licence}`));
  }

  form() {
    const draft = (this.draft ??= { diagnosis: "", other: "", findings: "" });
    const other = make("input", { id: "other", type: "text", maxlength: 500, value: draft.other, "aria-label": "Diagnosis as text 诊断文本", hidden: draft.diagnosis !== "other" });
    const choose = make("select", { id: "diagnosis", required: true, onchange: () => {
      draft.diagnosis = choose.value;
      other.hidden = choose.value !== "other";
      other.required = !other.hidden;
    } },
    make("option", { value: "", disabled: true, selected: !draft.diagnosis }, plain("Choose …", "请选择……")),
    Object.entries(TBS).map(([code, names]) => make("option", { value: code, selected: draft.diagnosis === code }, `${code} · ${plain(...names)}`)),
    make("option", { value: "other", selected: draft.diagnosis === "other" }, plain("Other, as text", "其他（文本）")));
    other.addEventListener("input", () => { draft.other = other.value; });
    const findings = make("textarea", { id: "findings", rows: 5, required: true, maxlength: 20000, oninput: () => { draft.findings = findings.value; } });
    findings.value = draft.findings;
    const reason = this.amending ? make("textarea", { id: "reason", rows: 2, required: true, maxlength: 2000, oninput: () => { draft.reason = reason.value; } }) : null;
    if (reason) reason.value = draft.reason ?? "";
    const sure = make("input", { type: "checkbox", id: "sure", required: true });
    return make("form.sign", { onsubmit: (event) => this.send(event, choose, other, findings, reason) },
      make("label", { for: "diagnosis" }, say("Diagnosis (TBS)", "诊断（TBS）")), choose, other,
      make("label", { for: "findings" }, say("Findings", "所见")), findings,
      reason ? [make("label", { for: "reason" }, say("Reason of the amendment", "更正原因")), reason] : null,
      make("label.sure", { for: "sure" }, sure, say("I have looked at the slide myself; the diagnosis is mine.", "本人已亲自阅片，诊断由本人作出。")),
      make("p.actions", {},
        make("button.main", { type: "submit" }, this.amending ? say("Sign the amendment", "签发更正") : say("Sign", "签发")),
        this.amending ? make("button", { type: "button", onclick: () => { this.amending = false; this.draft = null; this.draw(); } }, say("Leave it", "取消")) : null,
        this.signer()));
  }

  async send(event, choose, other, findings, reason) {
    event.preventDefault();
    const diagnosis = choose.value === "other" ? other.value.trim() : choose.value;
    const body = { diagnosis, findings: findings.value.trim() };
    if (reason) body.reason = reason.value.trim();
    const said = JSON.stringify([this.address, body]);
    if (this.sent.said !== said) this.sent = { said, key: newKey() }; // pressed again after a lost answer, it is signed once
    await this.tell(event.submitter, async () => {
      await ask(`${this.address}/${reason ? "amend" : "sign"}`, { body, headers: { "Idempotency-Key": this.sent.key } });
      this.amending = false;
      this.draft = null;
      this.sent = {};
      await this.changed();
    });
  }

  // Does it with the button held; a refusal is shown beside it. Where the slide is no longer as shown, it is looked at anew.
  async tell(button, work) {
    if (button) button.disabled = true;
    this.message.replaceChildren();
    try {
      await work();
    } catch (error) {
      if (error.status === 409) await this.changed().catch(() => {});
      this.message.replaceChildren(failure(error));
    } finally {
      if (button) button.disabled = false;
    }
  }
}

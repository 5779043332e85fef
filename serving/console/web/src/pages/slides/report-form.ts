// The report that a pathologist signs. Who signs is known from the console's session.

import { fetchJson, newIdempotencyKey, ApiError } from "../../ui/api";
import { formatTimestamp } from "../../ui/format";
import { translate } from "../../ui/i18n";
import { currentUser, session, type Session } from "../../session";
import { bilingual, createElement, errorElement, type Child } from "./dom";
import { TBS } from "./labels";
import type { Report, SlideDetail } from "./types";

interface Draft {
  diagnosis: string;
  other: string;
  findings: string;
  reason?: string;
}

const OTHER = "other"; // a diagnosis given as text

// Reports that are not signed yet, by person and slide. They outlive a visit to the worklist, in this tab's memory only.
const drafts = new Map<string, Draft>();

export class ReportForm {
  private slide!: SlideDetail; // this and the next two: set by render()
  private root!: HTMLElement;
  private message!: HTMLElement;
  private report: Report | null = null;
  private amending = false;
  private lastRequest = { content: "", key: "" };
  private readonly draftKey: string;

  constructor(private readonly address: string, private readonly refresh: () => Promise<void>) {
    const { tenant, who } = currentUser()!;
    this.draftKey = `${tenant} ${who} ${address}`;
  }

  private get draft(): Draft | null { return drafts.get(this.draftKey) ?? null; }

  async render(slide: SlideDetail): Promise<HTMLElement> {
    this.slide = slide;
    const signed = ["signed", "amended"].includes(slide.state);
    this.report = signed ? await fetchJson<Report>(`${this.address}/report?format=json`) : null;
    this.root = createElement("section.report", { "aria-labelledby": "report" });
    this.draw();
    return this.root;
  }

  private draw(): void {
    const { report } = this;
    this.message = createElement("div", { "aria-live": "polite" });
    this.root.replaceChildren(
      createElement("h2", { id: "report" }, bilingual("Pathologist's report", "病理医师报告")),
      report ? this.signedReport(report) : createElement("p.draft", {}, bilingual("DRAFT – not signed", "草稿（未签发）")),
      !currentUser()?.licence ? this.signInForm()
        : this.awaitsReview() ? this.startReviewButton()
        : report && !this.amending ? this.amendButton(report)
        : this.signForm(),
      this.message);
  }

  private awaitsReview(): boolean {
    return ["ready", "abstained"].includes(this.slide.state);
  }

  private signedReport({ diagnosis, findings, signed_by: signer, signed_at: signedAt, version, amends, reason }: Report): HTMLElement {
    const category = TBS[diagnosis];
    return createElement("div.signed", {},
      createElement(`p.stamp.${amends ? "amended" : "final"}`, {}, amends ? bilingual(`AMENDED v${version}`, `已更正 v${version}`) : bilingual(`SIGNED v${version}`, `已签发 v${version}`)),
      createElement("p.diagnosis", {}, category ? [createElement("b", {}, `${diagnosis} `), bilingual(...category)] : diagnosis),
      findings ? createElement("p.findings", {}, findings) : null,
      amends ? createElement("p.quiet", {}, bilingual(`Replaces v${amends}: `, `替代 v${amends}：`), reason) : null,
      createElement("p.quiet", {}, `${signer.name} · ${signer.licence} · ${formatTimestamp(signedAt)}`));
  }

  private signInForm(): HTMLElement {
    const token = createElement("input", { type: "password", id: "token", autocomplete: "off", required: true, spellcheck: "false" });
    const onsubmit = (event: SubmitEvent) => {
      event.preventDefault();
      void this.run(event.submitter, async () => {
        const user = await fetchJson<Session>("/v1/session", { body: { token: token.value.trim() } });
        if (!user.licence) {
          throw new ApiError(403, {
            title: "Only a pathologist can do this", title_zh: "仅限病理医师操作",
            detail: "The token has no licence number. Sign in with a pathologist's token.", detail_zh: "该令牌没有执业证号，请使用病理医师令牌。",
          });
        }
        session.value = user;
        await this.startReview();
      });
    };
    return createElement("form.identify", { onsubmit },
      createElement("label", { for: "token" }, bilingual("Pathologist's token", "病理医师令牌")), token,
      createElement("button.main", { type: "submit" }, this.report ? bilingual("Continue", "继续") : bilingual("Open for review", "开始审核")),
      createElement("p.quiet", {}, bilingual("Stored in a cookie that scripts cannot read, until the token expires or you sign out.", "保存于脚本无法读取的 Cookie，直至令牌到期或退出登录。")));
  }

  private startReviewButton(): HTMLElement {
    const button: HTMLButtonElement = createElement("button.main", { type: "button", onclick: () => void this.run(button, () => this.startReview()) }, bilingual("Open for review", "开始审核"));
    return createElement("p.actions", {}, button);
  }

  private async startReview(): Promise<void> {
    if (this.awaitsReview()) {
      await fetchJson(`${this.address}/review`, { method: "POST" });
      this.slide.state = "in_review";
    }
    await this.refresh();
  }

  private amendButton({ diagnosis, findings }: Report): HTMLElement {
    const onclick = () => {
      this.amending = true;
      if (!this.draft) drafts.set(this.draftKey, { ...(TBS[diagnosis] ? { diagnosis, other: "" } : { diagnosis: OTHER, other: diagnosis }), findings: findings || "" });
      this.draw();
    };
    return createElement("p.actions", {}, createElement("button", { type: "button", onclick }, bilingual("Amend", "更正")), this.signer());
  }

  // The name and licence that the report will carry.
  private signer(): HTMLElement {
    const { name, licence } = currentUser()!;
    return createElement("span.signer.quiet", {}, bilingual(`as ${name} · ${licence}`, `签发人：${name} · ${licence}`));
  }

  private signForm(): HTMLElement {
    const draft: Draft = this.draft ?? { diagnosis: "", other: "", findings: "" };
    drafts.set(this.draftKey, draft);
    const other = createElement("input", { id: "other", type: "text", maxlength: 500, value: draft.other, "aria-label": "Diagnosis as text 诊断文本", hidden: draft.diagnosis !== OTHER, oninput: () => { draft.other = other.value; } });
    const diagnosis: HTMLSelectElement = createElement("select", { id: "diagnosis", required: true, onchange: () => {
      draft.diagnosis = diagnosis.value;
      other.hidden = diagnosis.value !== OTHER;
      other.required = !other.hidden;
    } },
    createElement("option", { value: "", disabled: true, selected: !draft.diagnosis }, translate("Choose …", "请选择……")),
    Object.entries(TBS).map(([code, names]) => createElement("option", { value: code, selected: draft.diagnosis === code }, `${code} · ${translate(...names)}`)),
    createElement("option", { value: OTHER, selected: draft.diagnosis === OTHER }, translate("Other (free text)", "其他（自由填写）")));
    const findings = createElement("textarea", { id: "findings", rows: 5, required: true, maxlength: 20000, oninput: () => { draft.findings = findings.value; } });
    findings.value = draft.findings;
    const reason = this.amending ? createElement("textarea", { id: "reason", rows: 2, required: true, maxlength: 2000, oninput: () => { draft.reason = reason!.value; } }) : null;
    if (reason) reason.value = draft.reason ?? "";
    const confirmation = createElement("input", { type: "checkbox", id: "confirmation", required: true });
    const cancel = () => {
      this.amending = false;
      drafts.delete(this.draftKey);
      this.draw();
    };
    const reasonField: Child[] = reason ? [createElement("label", { for: "reason" }, bilingual("Reason for the amendment", "更正原因")), reason] : [];
    return createElement("form.sign", { onsubmit: (event: SubmitEvent) => this.submit(event, draft) },
      createElement("label", { for: "diagnosis" }, bilingual("Diagnosis (TBS)", "诊断（TBS）")), diagnosis, other,
      createElement("label", { for: "findings" }, bilingual("Findings", "所见")), findings,
      reasonField,
      createElement("label.confirmation", { for: "confirmation" }, confirmation, bilingual("I have examined the slide myself and make this diagnosis.", "本人已亲自阅片，诊断由本人作出。")),
      createElement("p.actions", {},
        createElement("button.main", { type: "submit" }, this.amending ? bilingual("Sign the amendment", "签发更正") : bilingual("Sign", "签发")),
        this.amending ? createElement("button", { type: "button", onclick: cancel }, bilingual("Cancel", "取消")) : null,
        this.signer()));
  }

  private async submit(event: SubmitEvent, { diagnosis, other, findings, reason = "" }: Draft): Promise<void> {
    event.preventDefault();
    const amends = this.amending;
    const body = { diagnosis: diagnosis === OTHER ? other.trim() : diagnosis, findings: findings.trim(), ...(amends ? { reason: reason.trim() } : {}) };
    const content = JSON.stringify([this.address, body]);
    // Pressed again after a lost response, the report is still signed only once.
    if (this.lastRequest.content !== content) this.lastRequest = { content, key: newIdempotencyKey() };
    await this.run(event.submitter, async () => {
      await fetchJson(`${this.address}/${amends ? "amend" : "sign"}`, { body, headers: { "Idempotency-Key": this.lastRequest.key } });
      this.amending = false;
      drafts.delete(this.draftKey);
      this.lastRequest = { content: "", key: "" };
      await this.refresh();
    });
  }

  // Runs an action with its button disabled and shows an error beside it. If the slide has changed meanwhile, it is loaded again.
  private async run(button: HTMLElement | null, action: () => Promise<void>): Promise<void> {
    if (button instanceof HTMLButtonElement) button.disabled = true;
    this.message.replaceChildren();
    try {
      await action();
    } catch (error) {
      if (error instanceof ApiError && error.status === 409) await this.refresh().catch(() => {});
      this.message.replaceChildren(errorElement(error));
    } finally {
      if (button instanceof HTMLButtonElement) button.disabled = false;
    }
  }
}

// What people decided or did about a decision, in order, and the forms to decide or refer it.

import { useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { Field } from "../../ui/field";
import { formatMoney, formatNumber, formatTimestamp, unitOf } from "../../ui/format";
import { ErrorMessage } from "../../ui/feedback";
import { useIdempotentPost } from "../../ui/idempotent";
import { translate, Text, type Bilingual } from "../../ui/i18n";
import { VERDICTS, awaitsColleague, type Act, type Authority, type DecisionRow, type OverrideAct } from "./types";

const PROPOSED: readonly [string, string, string] = ["Proposed, waits for a second person", "已提议，待第二人确认", "warn"];

// Every act, the oldest first.
export function HumanActions({ row }: { row: DecisionRow }) {
  const authority = useResource<Authority>("/v1/authority");
  if (!row.acts.length) return null;
  return (
    <section class="card">
      <h2><Text en="What people decided" zh="人工处理记录" /></h2>
      <ol class="acts">{row.acts.map((act) => <li key={act.id}><ActEntry act={act} currency={row.currency} authority={authority.value} /></li>)}</ol>
      {row.referral && awaitsColleague(row) ? <p class="chip warn"><Text en={`Waits for ${row.referral.to}`} zh={`待 ${row.referral.to} 处理`} /></p> : null}
    </section>
  );
}

function ActEntry({ act, currency, authority }: { act: Act; currency: string | null; authority: Authority | undefined }) {
  const byline = <p class="quiet">{act.by} · {formatTimestamp(act.at)}</p>;
  if (act.kind === "referral") return <><p><Text en="Referred to" zh="转交" /> <strong>{act.to}</strong>: {act.note}</p>{byline}</>;
  const [en, zh, variant] = act.state === "proposed" ? PROPOSED : act.decision === "approve" ? ["Approved by a person", "人工通过", "good"] as const : VERDICTS[act.decision]!;
  const reason = authority?.reasons.find(({ code }) => code === act.reason_code);
  return (
    <>
      <p><span class={`chip ${variant}`}><Text en={en} zh={zh} /></span> {act.limit === null ? "" : formatMoney(act.limit, currency)}</p>
      {act.proposed_by ? <p class="quiet"><Text en={`proposed by ${act.proposed_by}, confirmed by ${act.by}`} zh={`由 ${act.proposed_by} 提议，${act.by} 确认`} /></p> : null}
      {reason ? <p><Text en={reason.en} zh={reason.zh} /></p> : null}
      <p>{act.reason}</p>
      {byline}
    </>
  );
}

// The log stores the text on one line.
const oneLine = (text: string) => text.trim().replace(/\s+/g, " ");

function usePost(address: string, onDone: () => void) {
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const post = useIdempotentPost();
  const send = async (body: unknown) => {
    setBusy(true);
    setFailure(null);
    try {
      await post(address, body);
      onDone();
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  return { failure, busy, send };
}

// Remounted after each record, so that nothing is sent twice.
export function HumanActionForms({ row, onDone }: { row: DecisionRow; onDone: () => void }) {
  const authority = useResource<Authority>("/v1/authority");
  return (
    <>
      {authority.value ? <OverrideForm row={row} authority={authority.value} onDone={onDone} /> : null}
      {authority.error ? <ErrorMessage error={authority.error} retry={authority.reload} /> : null}
      <ReferralForm id={row.decision_id} onDone={onDone} />
    </>
  );
}

function OverrideForm({ row, authority, onDone }: { row: DecisionRow; authority: Authority; onDone: () => void }) {
  const proposal: OverrideAct | null = row.proposal;
  const [decision, setDecision] = useState("approve");
  const [limit, setLimit] = useState(proposal?.limit ? String(proposal.limit) : "");
  const [code, setCode] = useState("");
  const [reason, setReason] = useState("");
  const { failure, busy, send } = usePost(`/v1/decisions/${row.decision_id}/override`, onDone);
  const unit: Bilingual = unitOf(row.currency), own = authority.limits[row.product] ?? 0, isBeyond = decision === "approve" && Number(limit) > own;
  const submit = (event: Event) => {
    event.preventDefault();
    void send({ decision, reason: oneLine(reason), reason_code: code, ...(decision === "approve" ? { limit: Number(limit) } : {}) });
  };
  return (
    <details class="card human-action" open={proposal !== null}>
      <summary>{proposal ? <Text en="Confirm or change the proposal" zh="确认或更改提议" /> : <Text en="Override with a reason" zh="人工改判（须注明理由）" />}</summary>
      <form class="stack" onSubmit={submit}>
        <Field label={{ en: "Decision", zh: "决定" }}>{(control) => (
          <select {...control} value={decision} onChange={(event) => { setDecision(event.currentTarget.value); setCode(""); }}>
            <option value="approve">{translate("Approve", "通过")}</option>
            <option value="decline">{translate("Decline", "拒绝")}</option>
          </select>
        )}</Field>
        {decision === "approve" ? (
          <Field label={{ en: "Limit", zh: "额度" }} unit={{ en: unit[0], zh: unit[1] }} hint={{ en: `Up to ${formatNumber(own)} alone; beyond it a second person confirms the same amount.`, zh: `本人可直接决定至 ${formatNumber(own)}；超出部分须由第二人确认同一金额。` }}>
            {(control) => <input {...control} type="number" min="1" step="1" required value={limit} onInput={(event) => setLimit(event.currentTarget.value)} />}
          </Field>
        ) : null}
        <Field label={{ en: "Reason", zh: "理由" }} hint={{ en: "Printed in the letter.", zh: "将打印在告知书上。" }}>{(control) => (
          <select {...control} required value={code} onChange={(event) => setCode(event.currentTarget.value)}>
            <option value="">{translate("Choose", "请选择")}</option>
            {authority.reasons.filter((item) => item.decision === decision).map((item) => <option key={item.code} value={item.code}>{translate(item.en, item.zh)}</option>)}
          </select>
        )}</Field>
        <Field label={{ en: "In your own words", zh: "具体说明" }} hint={{ en: `At least ${authority.min_text} characters. For the record, not for the letter.`, zh: `不少于 ${authority.min_text} 个字符；仅留档，不打印。` }}>{(control) => <textarea {...control} required minLength={authority.min_text} maxLength={2000} rows={3} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />}</Field>
        <div class="actions">
          <button class="main" type="submit" disabled={busy}>{isBeyond && !(proposal && proposal.limit === Number(limit)) ? <Text en="Propose" zh="提议" /> : <Text en="Record" zh="记录" />}</button>
          <p class="quiet"><Text en="The model's answer remains unchanged; your decision is recorded in addition." zh="模型的答复保持不变，您的决定另行记入日志。" /></p>
        </div>
        {failure ? <ErrorMessage error={failure} /> : null}
      </form>
    </details>
  );
}

function ReferralForm({ id, onDone }: { id: string; onDone: () => void }) {
  const [to, setTo] = useState("");
  const [note, setNote] = useState("");
  const { failure, busy, send } = usePost(`/v1/decisions/${id}/refer`, onDone);
  const submit = (event: Event) => {
    event.preventDefault();
    void send({ to: to.trim(), note: oneLine(note) });
  };
  return (
    <details class="card human-action">
      <summary><Text en="Refer to a colleague" zh="转同事处理" /></summary>
      <form class="stack" onSubmit={submit}>
        <Field label={{ en: "Colleague", zh: "同事" }} hint={{ en: "Their user id.", zh: "填写其登录用户名。" }}>{(control) => <input {...control} required maxLength={128} autocomplete="off" value={to} onInput={(event) => setTo(event.currentTarget.value)} />}</Field>
        <Field label={{ en: "Note", zh: "说明" }}>{(control) => <textarea {...control} required maxLength={2000} rows={3} value={note} onInput={(event) => setNote(event.currentTarget.value)} />}</Field>
        <div class="actions"><button class="main" type="submit" disabled={busy}><Text en="Refer" zh="转交" /></button></div>
        {failure ? <ErrorMessage error={failure} /> : null}
      </form>
    </details>
  );
}

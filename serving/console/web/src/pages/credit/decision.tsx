// One recorded decision, and what people have done with it since.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { Field } from "../../ui/field";
import { formatTimestamp, formatMoney, unitOf } from "../../ui/format";
import { useIdempotentPost } from "../../ui/idempotent";
import { ErrorMessage, Loading, ResourceView } from "../../ui/feedback";
import { translate, Text, type Bilingual } from "../../ui/i18n";
import { AnswerDetails, AnswerHeadline, SimulatedBanner } from "./answer";
import { VERDICTS, awaitsColleague, type Answer, type DecisionRow, type DecisionsPage } from "./types";

// `letterHref`: the letter, if the product has one. `renderExtra`: the parts of the answer that only this product has.
export function DecisionPage({ id, letterHref, renderExtra }: { id: string; letterHref?: string; renderExtra?: (answer: Answer) => ComponentChildren }) {
  const answer = useResource<Answer>(`/v1/decisions/${id}`);
  const listing = useResource<DecisionsPage>(`/v1/decisions?id=${id}`);
  const row = listing.value?.decisions[0];
  return (
    <ResourceView resource={answer}>{(value) => {
      const isSingle = Array.isArray(value.reasons); // a row of a batch has codes only, as in its file
      return <>
        <SimulatedBanner visible={value.simulated} />
        <div class="decision">
          <div class="stack">
            <section class="card">
              {isSingle ? <AnswerHeadline answer={value} /> : <h2><Text en="A row of a batch" zh="批次中的一行" /></h2>}
              <dl class="facts">
                <dt><Text en="Decision" zh="决定编号" /></dt><dd><code>{id}</code></dd>
                <dt><Text en="Created" zh="时间" /></dt><dd>{formatTimestamp(value.created ?? row?.created)}</dd>
                <dt><Text en="Model" zh="模型" /></dt><dd>{value.model.name} {value.model.version}, <Text en={`policy ${value.policy_version}`} zh={`政策 ${value.policy_version}`} /></dd>
                <dt><Text en="Indicators" zh="指标来源" /></dt><dd>{value.indicators_from === "store" ? <Text en={`from the store, under ${value.authorisations?.length ?? 0} authorisations; values hidden`} zh={`读取自库内，依据 ${value.authorisations?.length ?? 0} 项授权，数值不予显示`} /> : <Text en="as entered" zh="人工录入" />}</dd>
              </dl>
              <div class="actions">
                {letterHref && isSingle ? <a class="button" href={letterHref}><Text en="Letter to the household" zh="告知书" /></a> : null}
                <a class="button" href={`/v1/decisions/${id}/receipt`} download={`receipt-${id}.json`}><Text en="Receipt" zh="凭证" /></a>
              </div>
            </section>
            {row ? <HumanActions row={row} /> : null}
            {listing.error ? <ErrorMessage error={listing.error} retry={listing.reload} /> : null}
            {row ? <HumanActionForms key={(row.override?.at ?? "") + (row.referral?.at ?? "")} id={id} unit={unitOf(row.currency)} onDone={listing.reload} /> : listing.loading ? <Loading /> : null}
          </div>
          <div class="stack">{isSingle ? <>{renderExtra?.(value)}<AnswerDetails answer={value} /></> : <RawFields answer={value} />}</div>
        </div>
      </>;
    }}</ResourceView>
  );
}

function RawFields({ answer }: { answer: object }) {
  const fields = Object.entries(answer).filter(([, value]) => value !== null && value !== "" && typeof value !== "object");
  return <section class="card"><dl class="facts">{fields.map(([name, value]) => [<dt key={name}><code>{name}</code></dt>, <dd key={`${name}-value`}>{String(value)}</dd>])}</dl></section>;
}

// The override and the referral, if any.
export function HumanActions({ row: { override, referral, currency } }: { row: DecisionRow }) {
  return (
    <>
      {override ? (
        <section class="card">
          <h2><Text en="Human decision" zh="人工决定" /></h2>
          <p><span class={`chip ${VERDICTS[override.decision]![2]}`}>{override.decision === "approve" ? <Text en="Approved by a person" zh="人工通过" /> : <Text en="Declined by a person" zh="人工拒绝" />}</span> {override.limit === null ? "" : formatMoney(override.limit, currency)}</p>
          <p>{override.reason}</p>
          <p class="quiet">{override.by} · {formatTimestamp(override.at)}</p>
        </section>
      ) : null}
      {referral && awaitsColleague({ override, referral }) ? (
        <section class="card">
          <h2><Text en="Referred to a colleague" zh="待同事处理" /></h2>
          <p><strong>{referral.to}</strong>: {referral.note}</p>
          <p class="quiet">{referral.by} · {formatTimestamp(referral.at)}</p>
        </section>
      ) : null}
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
function HumanActionForms({ id, unit, onDone }: { id: string; unit: Bilingual; onDone: () => void }) {
  return <><OverrideForm id={id} unit={unit} onDone={onDone} /><ReferralForm id={id} onDone={onDone} /></>;
}

function OverrideForm({ id, unit, onDone }: { id: string; unit: Bilingual; onDone: () => void }) {
  const [decision, setDecision] = useState("approve");
  const [limit, setLimit] = useState("");
  const [reason, setReason] = useState("");
  const { failure, busy, send } = usePost(`/v1/decisions/${id}/override`, onDone);
  const submit = (event: Event) => {
    event.preventDefault();
    void send({ decision, reason: oneLine(reason), ...(decision === "approve" ? { limit: Number(limit) } : {}) });
  };
  return (
    <details class="card human-action">
      <summary><Text en="Override with a reason" zh="人工改判（须注明理由）" /></summary>
      <form class="stack" onSubmit={submit}>
        <Field label={{ en: "Decision", zh: "决定" }}>{(control) => (
          <select {...control} value={decision} onChange={(event) => setDecision(event.currentTarget.value)}>
            <option value="approve">{translate("Approve", "通过")}</option>
            <option value="decline">{translate("Decline", "拒绝")}</option>
          </select>
        )}</Field>
        {decision === "approve" ? <Field label={{ en: "Limit", zh: "额度" }} unit={{ en: unit[0], zh: unit[1] }}>{(control) => <input {...control} type="number" min="1" step="1" required value={limit} onInput={(event) => setLimit(event.currentTarget.value)} />}</Field> : null}
        <Field label={{ en: "Reason", zh: "理由" }}>{(control) => <textarea {...control} required maxLength={2000} rows={3} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />}</Field>
        <div class="actions"><button class="main" type="submit" disabled={busy}><Text en="Record" zh="记录" /></button><p class="quiet"><Text en="The model's answer remains unchanged; your decision is recorded in addition." zh="模型的答复保持不变，您的决定另行记入日志。" /></p></div>
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

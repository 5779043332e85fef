// One recorded decision: what was told, and what a person makes of it.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { useAsk } from "../../ui/api";
import { Field } from "../../ui/field";
import { moment, money, unitOf } from "../../ui/format";
import { useOnce } from "../../ui/idempotent";
import { Failed, Loading, Shown } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import { Details, Headline, Simulated } from "./answer";
import { VERDICT, waits, type Answer, type Listed, type Page } from "./types";

// `letter`: its address, where one is written to who is decided about. `more`: what a product tells beside every product's.
export function Decision({ id, letter, more }: { id: string; letter?: string; more?: (answer: Answer) => ComponentChildren }) {
  const answer = useAsk<Answer>(`/v1/decisions/${id}`);
  const about = useAsk<Page>(`/v1/decisions?id=${id}`);
  const row = about.value?.decisions[0];
  return (
    <Shown of={answer}>{(found) => {
      const single = Array.isArray(found.reasons); // a batch's row is told in codes, as its file has it
      return <>
        <Simulated shown={found.simulated} />
        <div class="decision">
          <div class="stack">
            <section class="card">
              {single ? <Headline answer={found} /> : <h2><Say en="A row of a batch" zh="批次中的一行" /></h2>}
              <dl class="facts">
                <dt><Say en="Decision" zh="决定编号" /></dt><dd><code>{id}</code></dd>
                <dt><Say en="Made" zh="时间" /></dt><dd>{moment(found.created ?? row?.created)}</dd>
                <dt><Say en="Model" zh="模型" /></dt><dd>{found.model.name} {found.model.version}, <Say en={`policy ${found.policy_version}`} zh={`政策 ${found.policy_version}`} /></dd>
                <dt><Say en="Indicators" zh="指标来源" /></dt><dd>{found.indicators_from === "store" ? <Say en={`from the store, under ${found.authorisations?.length ?? 0} authorisations; values are not shown`} zh={`库内读取，依据 ${found.authorisations?.length ?? 0} 项授权，不显示数值`} /> : <Say en="as entered" zh="录入" />}</dd>
              </dl>
              <div class="actions">
                {letter && single ? <a class="button" href={letter}><Say en="Letter to the household" zh="告知书" /></a> : null}
                <a class="button" href={`/v1/decisions/${id}/receipt`} download={`receipt-${id}.json`}><Say en="Receipt" zh="回执" /></a>
              </div>
            </section>
            {row ? <Since row={row} /> : null}
            {about.error ? <Failed error={about.error} again={about.again} /> : null}
            {row ? <Acts key={(row.override?.at ?? "") + (row.referral?.at ?? "")} id={id} unit={unitOf(row.currency)} done={about.again} /> : about.loading ? <Loading /> : null}
          </div>
          <div class="stack">{single ? <>{more?.(found)}<Details answer={found} /></> : <Codes of={found} />}</div>
        </div>
      </>;
    }}</Shown>
  );
}

function Codes({ of }: { of: object }) {
  const told = Object.entries(of).filter(([, value]) => value !== null && value !== "" && typeof value !== "object");
  return <section class="card"><dl class="facts">{told.map(([name, value]) => [<dt key={name}><code>{name}</code></dt>, <dd key={`${name}-told`}>{String(value)}</dd>])}</dl></section>;
}

// What people made of it since.
export function Since({ row: { override, referral, currency } }: { row: Listed }) {
  return (
    <>
      {override ? (
        <section class="card">
          <h2><Say en="A person decided" zh="人工决定" /></h2>
          <p><span class={`chip ${VERDICT[override.decision]![2]}`}>{override.decision === "approve" ? <Say en="Approved by a person" zh="人工通过" /> : <Say en="Declined by a person" zh="人工拒绝" />}</span> {override.limit === null ? "" : money(override.limit, currency)}</p>
          <p>{override.reason}</p>
          <p class="quiet">{override.by} · {moment(override.at)}</p>
        </section>
      ) : null}
      {referral && waits({ override, referral }) ? (
        <section class="card">
          <h2><Say en="Waits for a colleague" zh="待同事处理" /></h2>
          <p><strong>{referral.to}</strong>: {referral.note}</p>
          <p class="quiet">{referral.by} · {moment(referral.at)}</p>
        </section>
      ) : null}
    </>
  );
}

// As the log keeps it: what was typed over several lines is one.
const oneLine = (text: string) => text.trim().replace(/\s+/g, " ");

function useSent(address: string, done: () => void) {
  const [failed, setFailed] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const once = useOnce();
  const send = async (body: unknown) => {
    setBusy(true);
    setFailed(null);
    try {
      await once(address, body);
      done();
    } catch (error) {
      setFailed(error);
    } finally {
      setBusy(false);
    }
  };
  return { failed, busy, send };
}

// Made anew once one was recorded, so that nothing is sent twice.
function Acts({ id, unit, done }: { id: string; unit: readonly [string, string]; done: () => void }) {
  return <><Override id={id} unit={unit} done={done} /><Refer id={id} done={done} /></>;
}

function Override({ id, unit, done }: { id: string; unit: readonly [string, string]; done: () => void }) {
  const [decision, setDecision] = useState("approve");
  const [limit, setLimit] = useState("");
  const [reason, setReason] = useState("");
  const { failed, busy, send } = useSent(`/v1/decisions/${id}/override`, done);
  const submit = (event: Event) => {
    event.preventDefault();
    void send({ decision, reason: oneLine(reason), ...(decision === "approve" ? { limit: Number(limit) } : {}) });
  };
  return (
    <details class="card act">
      <summary><Say en="Decide otherwise, with a reason" zh="人工改判（须注明理由）" /></summary>
      <form class="stack" onSubmit={submit}>
        <Field label={{ en: "Decision", zh: "决定" }}>{(control) => (
          <select {...control} value={decision} onChange={(event) => setDecision(event.currentTarget.value)}>
            <option value="approve">{plain("Approve", "通过")}</option>
            <option value="decline">{plain("Decline", "拒绝")}</option>
          </select>
        )}</Field>
        {decision === "approve" ? <Field label={{ en: "Limit", zh: "额度" }} unit={{ en: unit[0], zh: unit[1] }}>{(control) => <input {...control} type="number" min="1" step="1" required value={limit} onInput={(event) => setLimit(event.currentTarget.value)} />}</Field> : null}
        <Field label={{ en: "Reason", zh: "理由" }}>{(control) => <textarea {...control} required maxLength={2000} rows={3} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />}</Field>
        <div class="actions"><button class="main" type="submit" disabled={busy}><Say en="Record" zh="记录" /></button><p class="quiet"><Say en="The machine's answer stays as it was told; yours is kept beside it in the log." zh="机器答复保持原样，您的决定另行记入日志。" /></p></div>
        {failed ? <Failed error={failed} /> : null}
      </form>
    </details>
  );
}

function Refer({ id, done }: { id: string; done: () => void }) {
  const [to, setTo] = useState("");
  const [note, setNote] = useState("");
  const { failed, busy, send } = useSent(`/v1/decisions/${id}/refer`, done);
  const submit = (event: Event) => {
    event.preventDefault();
    void send({ to: to.trim(), note: oneLine(note) });
  };
  return (
    <details class="card act">
      <summary><Say en="Ask a colleague to look at it" zh="转同事处理" /></summary>
      <form class="stack" onSubmit={submit}>
        <Field label={{ en: "Colleague", zh: "同事" }} hint={{ en: "As their sign-in names them.", zh: "按其登录名填写。" }}>{(control) => <input {...control} required maxLength={128} autocomplete="off" value={to} onInput={(event) => setTo(event.currentTarget.value)} />}</Field>
        <Field label={{ en: "Note", zh: "说明" }}>{(control) => <textarea {...control} required maxLength={2000} rows={3} value={note} onInput={(event) => setNote(event.currentTarget.value)} />}</Field>
        <div class="actions"><button class="main" type="submit" disabled={busy}><Say en="Refer" zh="转交" /></button></div>
        {failed ? <Failed error={failed} /> : null}
      </form>
    </details>
  );
}

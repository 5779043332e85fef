// The checks of the promotion gate, and the promotion or rollback of a version.

import { useState } from "preact/hooks";
import { fetchJson } from "../../ui/api";
import { Field } from "../../ui/field";
import { Empty, ErrorMessage } from "../../ui/feedback";
import { ForcedSentence } from "../../ui/forced-versions";
import { Text } from "../../ui/i18n";
import { session } from "../../session";
import type { Version } from "./types";
import { CheckName, GateChip, CardSentence } from "./labels";

export function GatePanel({ version, onDone, variant }: { version: Version; onDone: () => void; variant: "first" | "second" }) {
  const checks = version.verdict?.checks ?? [];
  return (
    <section class="card stack">
      <div class="model-head"><h2 class={variant}><Text en={`Gate of ${version.version}`} zh={`版本 ${version.version} 的门槛检查`} /></h2><GateChip passed={version.gate} /></div>
      {version.forced ? <p class="refusal"><ForcedSentence entry={version.forced} /></p> : null}
      {version.verdict ? (
        <ul class="checks">
          {checks.map((check) => (
            <li key={check.name} class={check.passed ? "good" : "bad"}>
              <span class="mark" aria-hidden="true">{check.passed ? "✓" : "✕"}</span>
              <div><strong><CheckName name={check.name} /></strong> <span class="hidden">{check.passed ? <Text en="passed" zh="通过" /> : <Text en="failed" zh="未通过" />}</span>
                <p><CardSentence en={check.found} zh={check.found_zh} /></p>
                {check.passed || !check.needed ? null : <p class="required"><Text en="Required: " zh="要求：" /><CardSentence en={check.needed} zh={check.needed_zh} /></p>}
              </div>
            </li>
          ))}
        </ul>
      ) : version.refused ? <Empty en={`Its bundle was rejected, so its card cannot be relied on: ${version.refused}`} zh={`模型包被拒绝加载，其模型卡不可作为依据：${version.refused}`} />
        : <Empty en="The card contains no gate result: it was signed before gate results were introduced. Such a version can only be restored if it has served before." zh="模型卡未含门槛检查结论（签署早于该功能）。此类版本仅在曾经上线的情况下可重新上线。" />}
      {version.serving ? <p class="quiet"><Text en="This version is serving." zh="该版本在线。" /></p> : <PromotionForm version={version} onDone={onDone} />}
    </section>
  );
}

function PromotionForm({ version, onDone }: { version: Version; onDone: () => void }) {
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>(null);
  const isRollback = version.served === true && version.gate !== false; // a version that failed its gate is not offered again
  const user = session.value;
  if (!user || user instanceof Error || !user.roles.includes("scientist")) return null;
  if (version.refused) return <p class="quiet"><Text en="It cannot be promoted: its bundle was rejected." zh="不得上线：模型包被拒绝加载。" /></p>;
  if (!version.gate && !isRollback) {
    return <p class="quiet"><Text en="It cannot be promoted: it has not passed its gate." zh="不得上线：未通过门槛检查。" /></p>;
  }
  const decide = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setFailure(null);
    try {
      await fetchJson(`/v1/models/${encodeURIComponent(version.model)}/champion`, { body: { version: version.version, reason: reason.trim() } });
      await waitUntilServing(version);
      setOpen(false);
      onDone();
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  if (!open) {
    return <div class="actions"><button type="button" class="main" onClick={() => setOpen(true)}>{isRollback ? <Text en="Roll back to this version" zh="回退到该版本" /> : <Text en="Promote this version" zh="上线该版本" />}</button></div>;
  }
  return (
    <form class="promotion-form stack" onSubmit={decide}>
      <p><Text en={`${version.version} will answer all new requests to this model, from all institutions, within seconds. Your name, the reason and the time are recorded in the audit log.`}
        zh={`版本 ${version.version} 将在数秒内接管所有机构对该模型的新请求。您的姓名、理由与操作时间将记入审计日志。`} /></p>
      <Field label={{ en: "Reason", zh: "理由" }} hint={{ en: "One line; the auditors of your institution can read it.", zh: "限一行，本机构审计人员可查阅。" }}>
        {(control) => <input {...control} required maxLength={2000} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />}
      </Field>
      <div class="actions">
        <button type="submit" class={isRollback ? "danger" : "main"} disabled={busy || !reason.trim()}>{busy ? <Text en="Waiting for the service" zh="等待上线" /> : isRollback ? <Text en="Roll back" zh="确认回退" /> : <Text en="Promote" zh="确认上线" />}</button>
        <button type="button" onClick={() => setOpen(false)} disabled={busy}><Text en="Cancel" zh="取消" /></button>
      </div>
      <div aria-live="polite">{failure ? <ErrorMessage error={failure} /> : null}</div>
    </form>
  );
}

// Waits until the service has loaded the version; it checks its pointer every second.
async function waitUntilServing(version: Version): Promise<void> {
  for (let attempt = 0; attempt < 40; attempt += 1) {
    const current = await fetchJson<Version>(`/v1/models/${encodeURIComponent(version.model)}/versions/${encodeURIComponent(version.version)}`);
    if (current.serving) return;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

// The checks of the promotion gate, and the promotion or rollback of a version.

import { useState } from "preact/hooks";
import { fetchJson } from "../../ui/api";
import { Field } from "../../ui/field";
import { Empty, ErrorMessage } from "../../ui/feedback";
import { Text } from "../../ui/i18n";
import { session } from "../../session";
import type { Version } from "./types";
import { CheckName, GateChip, Sentence } from "./labels";

export function GatePanel({ version, onDone, variant }: { version: Version; onDone: () => void; variant: "first" | "second" }) {
  const checks = version.verdict?.checks ?? [];
  return (
    <section class="card stack">
      <div class="model-head"><h2 class={variant}><Text en={`Gate of ${version.version}`} zh={`版本 ${version.version} 的门槛检查`} /></h2><GateChip passed={version.gate} /></div>
      {version.verdict ? (
        <ul class="checks">
          {checks.map((check) => (
            <li key={check.name} class={check.passed ? "good" : "bad"}>
              <span class="mark" aria-hidden="true">{check.passed ? "✓" : "✕"}</span>
              <div><strong><CheckName name={check.name} /></strong> <span class="hidden">{check.passed ? <Text en="passed" zh="通过" /> : <Text en="failed" zh="未通过" />}</span>
                <p><Sentence en={check.found} zh={check.found_zh} /></p>
                {check.passed || !check.needed ? null : <p class="needed"><Text en="Needed: " zh="需要：" /><Sentence en={check.needed} zh={check.needed_zh} /></p>}
              </div>
            </li>
          ))}
        </ul>
      ) : version.refused ? <Empty en={`Its bundle is refused, so its card proves nothing: ${version.refused}`} zh={`模型包被拒绝，其卡片不足为凭：${version.refused}`} />
        : <Empty en="The card tells no verdict: it was signed before cards did. Such a version can serve again only where it served before." zh="卡片未含门槛检查结论（签发早于该功能）。此类版本仅在曾上线时可重新上线。" />}
      {version.serving ? <p class="quiet"><Text en="This version serves." zh="该版本在线。" /></p> : <PromotionForm version={version} onDone={onDone} />}
    </section>
  );
}

function PromotionForm({ version, onDone }: { version: Version; onDone: () => void }) {
  const [open, setOpen] = useState(false);
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<unknown>(null);
  const isRollback = version.served ?? false;
  const user = session.value;
  if (!user || user instanceof Error || !user.roles.includes("scientist")) return null;
  if (version.refused) return <p class="quiet"><Text en="It may not serve: its bundle is refused." zh="不得上线：模型包被拒绝。" /></p>;
  if (!version.gate && !isRollback) {
    return <p class="quiet"><Text en="It may not serve: it neither passed its gate nor served before." zh="不得上线：既未通过门槛检查，也未曾上线。" /></p>;
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
    <form class="decide stack" onSubmit={decide}>
      <p><Text en={`${version.version} will answer every new request to this model, of every institution, within seconds. Your name, the reason and the time are recorded, and the audit log proves the record.`}
        zh={`版本 ${version.version} 将在数秒内答复所有机构对该模型的新请求。您的姓名、理由与时间留存记录，并由审计日志证明。`} /></p>
      <Field label={{ en: "Reason", zh: "理由" }} hint={{ en: "One line; your own institution's auditors may read it.", zh: "一行文字，本机构审计人员可查。" }}>
        {(control) => <input {...control} required maxLength={2000} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />}
      </Field>
      <div class="actions">
        <button type="submit" class={isRollback ? "danger" : "main"} disabled={busy || !reason.trim()}>{busy ? <Text en="Waiting until it serves" zh="等待上线" /> : isRollback ? <Text en="Roll back" zh="确认回退" /> : <Text en="Promote" zh="确认上线" />}</button>
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

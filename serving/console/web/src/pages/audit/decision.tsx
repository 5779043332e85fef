// One decision: its content, the verification of its receipt, and its trace.

import { useEffect, useState } from "preact/hooks";
import { ApiError, sendRequest, useResource } from "../../ui/api";
import { formatMoney, formatTimestamp, formatPercent } from "../../ui/format";
import { ErrorMessage, Loading, ResourceView } from "../../ui/feedback";
import { findForced, ForcedSentence, useModelsOnDisk } from "../../ui/forced-versions";
import { translate, Text, labelOf } from "../../ui/i18n";
import { text, utf8, type Bytes } from "../../proof/bytes";
import { canonical, parse } from "../../proof/json";
import { HumanActions } from "../credit/human-decision";
import type { DecisionsPage } from "../credit/types";
import { logKey, LogKeyCard } from "./log-key";
import { VerificationSteps, useVerification } from "./verification-steps";
import { Trace, type TraceLink } from "./trace";
import { DECISIONS } from "./labels";

interface Evidence {
  receipt: Bytes | null; // null: recorded before the audit log existed
  answer: Bytes | null;
  parsed: AnswerFields | null;
}

interface AnswerFields {
  decision?: string;
  limit?: number | null;
  currency?: string;
  pd?: number;
  created?: string;
  simulated?: boolean;
  model?: { name: string; version: string };
  policy_version?: string;
  indicators_from?: string;
  authorisations?: string[];
  triage?: string;
}

const bytesOf = async (address: string): Promise<Bytes> => new Uint8Array(await (await sendRequest(address)).arrayBuffer());

async function nullIfMissing<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

// `answer` is the response byte for byte; for a slide it is the canonical JSON of the reading.
async function loadEvidence(id: string): Promise<Evidence> {
  const address = `/v1/decisions/${encodeURIComponent(id)}`;
  const receipt = await nullIfMissing(bytesOf(`${address}/receipt`));
  const slide = receipt !== null && text(receipt).includes('"kind":"slide_state"');
  let answer: Bytes | null = null;
  if (slide) {
    const resource = parse(text(await bytesOf(`/v1/slides/${encodeURIComponent(id)}`)));
    const reading = resource instanceof Map ? resource.get("reading") : undefined;
    answer = reading === undefined || reading === null ? null : utf8(canonical(reading));
  } else answer = await bytesOf(address);
  return { receipt, answer, parsed: answer === null ? null : (JSON.parse(text(answer)) as AnswerFields) };
}

export function Decision({ id = "" }: { id?: string }) {
  const [evidence, setEvidence] = useState<Evidence | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const listing = useResource<DecisionsPage>(`/v1/decisions?id=${encodeURIComponent(id)}`);
  const trace = useResource<TraceLink>(`/v1/decisions/${encodeURIComponent(id)}/trace`);
  const models = useModelsOnDisk();
  const model = evidence?.parsed?.model;
  const forced = model && findForced(models.value?.models, model.name, model.version);
  useEffect(() => {
    let active = true;
    setEvidence(null);
    setFailure(null);
    loadEvidence(id).then((loaded) => active && setEvidence(loaded), (error) => active && setFailure(error));
    return () => void (active = false);
  }, [id]);
  if (failure) return <ErrorMessage error={failure} />;
  if (evidence === null) return <Loading />;
  return (
    <div class="stack">
      <div class="page-head"><h1><Text en="Decision" zh="决定" /> <code>{id}</code></h1>{evidence.parsed?.simulated ? <span class="chip warn"><Text en="Simulated data" zh="模拟数据" /></span> : null}</div>
      <div class="side-layout audit-layout">
        <div class="stack">
          {forced ? <p class="refusal"><ForcedSentence entry={forced} /></p> : null}
          {evidence.parsed ? <AnswerCard answer={evidence.parsed} /> : null}
          <ResourceView resource={listing}>{(page) => page.decisions.map((row) => <HumanActions key={row.decision_id} row={row} />)}</ResourceView>
          <LogKeyCard />
        </div>
        <ReceiptCard id={id} evidence={evidence} />
      </div>
      <section class="card"><ResourceView resource={trace}>{(root) => <Trace root={root} />}</ResourceView></section>
    </div>
  );
}

function AnswerCard({ answer }: { answer: AnswerFields }) {
  const facts: [string, string, preact.ComponentChildren][] = [
    ["Decided", "时间", answer.created ? formatTimestamp(answer.created) : null],
    ["Conclusion", "结论", answer.decision ? labelOf(DECISIONS, answer.decision) : answer.triage],
    ["Limit", "额度", answer.limit === undefined ? null : formatMoney(answer.limit, answer.currency)],
    ["Probability of default", "违约概率", answer.pd === undefined ? null : formatPercent(answer.pd, 2)],
    ["Model", "模型", answer.model ? `${answer.model.name} ${answer.model.version}` : null],
    ["Policy", "政策", answer.policy_version],
    ["Indicators", "指标来源", answer.indicators_from === "store" ? <Text en="read from the store" zh="库中读取" /> : answer.indicators_from ? <Text en="provided by the bank" zh="银行提供" /> : null],
    ["Authorisations", "授权", answer.authorisations?.length ? answer.authorisations.map((grant) => <a key={grant} href={`/console/audit/authorisations/${grant}`}><code>{grant}</code></a>) : null],
  ];
  return (
    <section class="card">
      <h2><Text en="Decision content" zh="决定内容" /></h2>
      <dl class="facts">{facts.map(([en, zh, value]) => (value ? [<dt key={en}><Text en={en} zh={zh} /></dt>, <dd key={`${en}-value`}>{value}</dd>] : null))}</dl>
    </section>
  );
}

function ReceiptCard({ id, evidence }: { id: string; evidence: Evidence }) {
  const verdict = useVerification(logKey.value, evidence.receipt, evidence.answer, null, id);
  const [file, setFile] = useState<string>();
  useEffect(() => {
    if (!evidence.receipt) return;
    const address = URL.createObjectURL(new Blob([evidence.receipt], { type: "application/json" }));
    setFile(address);
    return () => URL.revokeObjectURL(address);
  }, [evidence.receipt]);
  return (
    <section class="card stack" aria-labelledby="proof-title">
      <h2 id="proof-title"><Text en="Receipt, verified in this browser" zh="凭证（由本浏览器核验）" /></h2>
      {!evidence.receipt ? <p><Text en="There is no receipt: the decision was recorded before the audit log was introduced." zh="无凭证：该决定的记录早于审计日志的启用。" /></p>
        : !logKey.value ? <p class="quiet"><Text en="Load the log's public key to check every step here, without having to trust the service." zh="载入日志公钥后，将在此逐项核验，无需依赖本服务的信誉。" /></p>
        : <VerificationSteps verification={verdict} />}
      {file ? <div class="actions"><a class="button" href={file} download={`receipt-${id}.json`} aria-label={translate("Download the receipt", "下载凭证")}><Text en="Download the receipt" zh="下载凭证" /></a></div> : null}
    </section>
  );
}

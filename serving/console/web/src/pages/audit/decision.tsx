// One decision: what was answered, whether its receipt proves it, and what it rests on.

import { useEffect, useState } from "preact/hooks";
import { Refused, send, useAsk } from "../../ui/api";
import { money, moment, percent } from "../../ui/format";
import { Failed, Loading, Shown } from "../../ui/feedback";
import { plain, Say, word } from "../../ui/i18n";
import { text, utf8, type Bytes } from "../../proof/bytes";
import { canonical, parse } from "../../proof/json";
import { Since } from "../credit/decision";
import type { Page } from "../credit/types";
import { key, KeyCard } from "./log-key";
import { Steps, useVerdict } from "./verification-steps";
import { Trace, type Link } from "./trace";
import { DECISIONS } from "./labels";

interface Evidence {
  receipt: Bytes | null; // none: it was recorded before the log began
  answer: Bytes | null;
  told: Answer | null;
}

interface Answer {
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

const bytesOf = async (address: string): Promise<Bytes> => new Uint8Array(await (await send(address)).arrayBuffer());

async function none<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return null;
    throw error;
  }
}

// The answer's own bytes; of a slide its reading.
async function gather(id: string): Promise<Evidence> {
  const address = `/v1/decisions/${encodeURIComponent(id)}`;
  const receipt = await none(bytesOf(`${address}/receipt`));
  const slide = receipt !== null && text(receipt).includes('"kind":"slide_state"');
  let answer: Bytes | null = null;
  if (slide) {
    const found = parse(text(await bytesOf(`/v1/slides/${encodeURIComponent(id)}`)));
    const reading = found instanceof Map ? found.get("reading") : undefined;
    answer = reading === undefined || reading === null ? null : utf8(canonical(reading));
  } else answer = await bytesOf(address);
  return { receipt, answer, told: answer === null ? null : (JSON.parse(text(answer)) as Answer) };
}

export function Decision({ id = "" }: { id?: string }) {
  const [found, setFound] = useState<Evidence | null>(null);
  const [failed, setFailed] = useState<unknown>(null);
  const people = useAsk<Page>(`/v1/decisions?id=${encodeURIComponent(id)}`);
  const trail = useAsk<Link>(`/v1/decisions/${encodeURIComponent(id)}/trace`);
  useEffect(() => {
    let current = true;
    setFound(null);
    setFailed(null);
    gather(id).then((told) => current && setFound(told), (error) => current && setFailed(error));
    return () => void (current = false);
  }, [id]);
  if (failed) return <Failed error={failed} />;
  if (found === null) return <Loading />;
  return (
    <div class="stack">
      <div class="page-head"><h1><Say en="Decision" zh="决定" /> <code>{id}</code></h1>{found.told?.simulated ? <span class="chip warn"><Say en="Simulated data" zh="模拟数据" /></span> : null}</div>
      <div class="side audit-side">
        <div class="stack">
          {found.told ? <Told told={found.told} /> : null}
          <Shown of={people}>{(page) => page.decisions.map((row) => <Since key={row.decision_id} row={row} />)}</Shown>
          <KeyCard />
        </div>
        <Proof id={id} of={found} />
      </div>
      <section class="card"><Shown of={trail}>{(root) => <Trace root={root} />}</Shown></section>
    </div>
  );
}

function Told({ told }: { told: Answer }) {
  const facts: [string, string, preact.ComponentChildren][] = [
    ["Decided", "时间", told.created ? moment(told.created) : null],
    ["Conclusion", "结论", told.decision ? word(DECISIONS, told.decision) : told.triage],
    ["Limit", "额度", told.limit === undefined ? null : money(told.limit, told.currency)],
    ["Probability of default", "违约概率", told.pd === undefined ? null : percent(told.pd, 2)],
    ["Model", "模型", told.model ? `${told.model.name} ${told.model.version}` : null],
    ["Policy", "政策", told.policy_version],
    ["Indicators", "指标来源", told.indicators_from === "store" ? <Say en="read from the store" zh="库中读取" /> : told.indicators_from ? <Say en="sent by the bank" zh="银行提供" /> : null],
    ["Authorisations", "授权", told.authorisations?.length ? told.authorisations.map((one) => <a key={one} href={`/console/audit/authorisations/${one}`}><code>{one}</code></a>) : null],
  ];
  return (
    <section class="card">
      <h2><Say en="What was answered" zh="答复内容" /></h2>
      <dl class="facts">{facts.map(([en, zh, value]) => (value ? [<dt key={en}><Say en={en} zh={zh} /></dt>, <dd key={`${en}-told`}>{value}</dd>] : null))}</dl>
    </section>
  );
}

function Proof({ id, of }: { id: string; of: Evidence }) {
  const verdict = useVerdict(key.value, of.receipt, of.answer, null, id);
  const [file, setFile] = useState<string>();
  useEffect(() => {
    if (!of.receipt) return;
    const address = URL.createObjectURL(new Blob([of.receipt], { type: "application/json" }));
    setFile(address);
    return () => URL.revokeObjectURL(address);
  }, [of.receipt]);
  return (
    <section class="card stack" aria-labelledby="proof-title">
      <h2 id="proof-title"><Say en="Its receipt, verified in this browser" zh="凭证（在本浏览器中核验）" /></h2>
      {!of.receipt ? <p><Say en="It has no receipt: it was recorded before there was an audit log." zh="没有凭证：该记录早于审计日志。" /></p>
        : !key.value ? <p class="quiet"><Say en="Load the log's public key, and each step is checked here, without trust in the service." zh="载入日志公钥后，各步骤将在此核验，无需信任本服务。" /></p>
        : <Steps of={verdict} />}
      {file ? <div class="actions"><a class="button" href={file} download={`receipt-${id}.json`} aria-label={plain("Download the receipt", "下载凭证")}><Say en="Download the receipt" zh="下载凭证" /></a></div> : null}
    </section>
  );
}

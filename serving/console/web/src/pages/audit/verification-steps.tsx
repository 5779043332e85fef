// The steps of a receipt's verification: what each one proves, and which one failed.

import { useEffect, useState } from "preact/hooks";
import { formatTimestamp } from "../../ui/format";
import { Loading } from "../../ui/feedback";
import { Text, labelOf, type Bilingual } from "../../ui/i18n";
import { ProofError, type Bytes } from "../../proof/bytes";
import type { Key } from "../../proof/checkpoint";
import { readReceipt, verify, type Receipt, type Step, type StepName, type Verdict } from "../../proof/receipt";
import { summary, type Fact } from "../../proof/summary";
import { PRODUCTS, PRICE_RULES } from "./labels";

const STEP_TEXTS: Record<StepName, { en: string; zh: string; why: Bilingual }> = {
  signature: { en: "The checkpoint was signed by your key", zh: "检查点由您的公钥签署", why: ["Ed25519 signature over the log's size and root: the key holder vouches for the log in that state.", "对日志长度与根哈希的 Ed25519 签名：密钥持有者确认该状态下的日志。"] },
  inclusion: { en: "The record is in the log", zh: "该记录在日志中", why: ["Its hash and the inclusion proof yield the signed root (RFC 9162): the record was in the log, unchanged, when the log was signed.", "由其哈希与包含证明可算出已签署的根哈希（RFC 9162）：签署时该记录已在日志中，且未被改动。"] },
  lineage: { en: "Made by this model, trained on these data", zh: "由该模型及所列数据作出", why: ["Model, version, training run, commit, data sets and policy match the record.", "模型、版本、训练运行、代码提交、数据集与政策均与记录一致。"] },
  row: { en: "The row is in its batch", zh: "该行在其批次中", why: ["The row's hash yields the root of the chunk in the log.", "由该行哈希可算出日志所载分段的根哈希。"] },
  decision: { en: "The receipt belongs to this decision", zh: "凭证属于该决定", why: ["The id in the record is the id in the address.", "记录所载编号与地址中的编号一致。"] },
  answer: { en: "The answer matches the record", zh: "答复与记录一致", why: ["Byte for byte: the salted digest of the answer equals that of the record.", "逐字节一致：加盐摘要与记录相同。"] },
  request: { en: "The decision was made on these inputs", zh: "决定系基于这些输入作出", why: ["The digest of the indicators equals that of the record.", "指标摘要与记录相同。"] },
};
const SKIPPED_TEXTS: Partial<Record<StepName, Bilingual>> = {
  lineage: ["The receipt contains no provenance.", "凭证未附来源信息。"],
  row: ["Not part of a batch; nothing to check.", "不属于批次，无需核验。"],
  decision: ["Compare the decision's id with the one on the letter.", "请将决定编号与通知书核对。"],
  answer: ["No answer was provided.", "未提供答复。"],
  request: ["No request was provided. To prove the inputs, supply its JSON under “Verify a receipt”.", "未提供请求。如需证明输入，请在“核验凭证”中提供其 JSON。"],
};
const MARKS = { proved: ["✓", "proved", "已证明"], failed: ["✕", "failed", "未通过"], skipped: ["–", "not checked", "未核验"] } as const;

export type Verification = { verdict: Verdict; receipt: Receipt } | { error: ProofError };

// Verifies again when any argument changes; null while there is nothing to verify.
export function useVerification(key: Key | null, receipt: Bytes | null, answer: Bytes | null, request: Bytes | null, id: string | null = null): Verification | null {
  const [verification, setVerification] = useState<Verification | null>(null);
  useEffect(() => {
    let active = true;
    setVerification(null);
    if (key && receipt) {
      const run = async (): Promise<Verification> => {
        const parsed = await readReceipt(receipt);
        return { verdict: await verify(key, parsed, answer, request, id), receipt: parsed };
      };
      run().then(
        (result) => active && setVerification(result),
        (error) => active && setVerification({ error: error instanceof ProofError ? error : new ProofError(String(error), `浏览器报错：${error}`) }),
      );
    }
    return () => void (active = false);
  }, [key, receipt, answer, request, id]);
  return verification;
}

export function VerificationSteps({ verification }: { verification: Verification | null }) {
  if (verification === null) return <Loading en="Verifying in this browser" zh="正在浏览器中核验" />;
  if ("error" in verification) return <div class="refusal" role="alert"><strong><Text en="The receipt cannot be read" zh="凭证无法读取" /></strong><p><Text en={verification.error.en} zh={verification.error.zh} /></p></div>;
  const { proved, checkpoint, steps } = verification.verdict;
  return (
    <div class="stack" role="status">
      <p class={`verdict ${proved ? "good" : "bad"}`}>
        {proved ? <Text en="Genuine" zh="属实" /> : <Text en="Not proved" zh="未能证明" />}
        {proved && checkpoint ? <small><Text en={`signed by ${checkpoint.origin} at ${checkpoint.signedAt}, ${checkpoint.size} records`} zh={`由 ${checkpoint.origin} 于 ${checkpoint.signedAt} 签署，共 ${checkpoint.size} 条记录`} /></small> : null}
      </p>
      {proved ? <dl class="facts">{summary(verification.receipt).map((fact, index) => [<dt key={index}><Text en={fact.en} zh={fact.zh} /></dt>, <dd key={`${index}-value`}>{factValue(fact)}</dd>])}</dl> : null}
      <ol class="steps">{steps.map((step) => <StepLine key={step.step} step={step} />)}</ol>
    </div>
  );
}

function factValue({ en, value, valueZh }: Fact) {
  if (en === "Product") return labelOf(PRODUCTS, value);
  if (en === "At") return formatTimestamp(value);
  const rule = en === "Price" ? (index: 0 | 1) => value.replace(/\((\w+)/, (match, code: string) => (PRICE_RULES[code] ? `(${PRICE_RULES[code][index]}` : match)) : null;
  return rule ? <Text en={rule(0)} zh={rule(1)} /> : <Text en={value} zh={valueZh} />;
}

function StepLine({ step }: { step: Step }) {
  const { en, zh, why: explanation } = STEP_TEXTS[step.step];
  const why = step.state === "skipped" ? (SKIPPED_TEXTS[step.step] ?? explanation) : explanation;
  const [mark, stateEn, stateZh] = MARKS[step.state];
  return (
    <li class={step.state} data-step={step.step} data-state={step.state}>
      <i aria-hidden="true">{mark}</i>
      <div>
        <strong><Text en={en} zh={zh} /></strong> <span class="hidden"><Text en={stateEn} zh={stateZh} /></span>
        <p class="quiet"><Text en={why[0]} zh={why[1]} /></p>
        {step.state === "failed" ? <p class="bad-text"><Text en={step.en} zh={step.zh} /></p> : null}
      </div>
    </li>
  );
}

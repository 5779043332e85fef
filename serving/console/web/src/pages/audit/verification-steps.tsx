// A receipt's verification, step by step: what each proves, and where it stops.

import { useEffect, useState } from "preact/hooks";
import { moment } from "../../ui/format";
import { Loading } from "../../ui/feedback";
import { Say, word } from "../../ui/i18n";
import { NotProved, type Bytes } from "../../proof/bytes";
import type { Key } from "../../proof/checkpoint";
import { readReceipt, verify, type Receipt, type Step, type StepName, type Verdict } from "../../proof/receipt";
import { summary, type Fact } from "../../proof/summary";
import { PRODUCTS, RULES } from "./labels";

const PROVES: Record<StepName, { en: string; zh: string; why: readonly [string, string] }> = {
  signature: { en: "The checkpoint was signed by your key", zh: "检查点由您的公钥签署", why: ["Ed25519 over the log's size and root: the holder of the key vouched for the log as it then stood.", "对日志长度与根的 Ed25519 签名：密钥持有者为当时的日志作保。"] },
  inclusion: { en: "The record is in the log", zh: "该记录在日志中", why: ["Its hash and the proof's hashes lead to the signed root (RFC 9162): it stood there, as it is, when the log was signed.", "其哈希与证明路径可推出已签署的根（RFC 9162）：签署时即在其中，且未被改动。"] },
  lineage: { en: "Made by this model, from these data", zh: "由该模型、该数据作出", why: ["Model, version, training run, commit, data sets and policy are those that the record names.", "模型、版本、训练运行、代码提交、数据集与政策均与记录一致。"] },
  row: { en: "The row is in its batch", zh: "该行在其批次中", why: ["The row's hash leads to the root of the chunk that the log holds.", "该行哈希可推出日志所载分段的根。"] },
  decision: { en: "It is of the decision that was asked for", zh: "属于所查的决定", why: ["The record names the id that stands in the address.", "记录所载编号与地址中的编号一致。"] },
  answer: { en: "The answer is the one that was recorded", zh: "答复与记录一致", why: ["Byte for byte: the digest of the answer under the receipt's salt is that of the record.", "逐字节一致：加盐摘要与记录相同。"] },
  request: { en: "These inputs were decided on", zh: "决定基于这些输入", why: ["The indicators' digest is that of the record.", "指标摘要与记录相同。"] },
};
const ABSENT: Partial<Record<StepName, readonly [string, string]>> = {
  lineage: ["The receipt tells no lineage.", "凭证未附谱系。"],
  row: ["It is not of a batch, so there is nothing to check.", "不属于批次，无需核验。"],
  decision: ["Compare the decision's id with the one on the letter.", "请将决定编号与通知书核对。"],
  answer: ["The answer was not given.", "未提供答复。"],
  request: ["The request was not given: bring its JSON to “Verify a receipt” to prove the inputs.", "未提供请求：如需证明输入，请在“核验凭证”提供其 JSON。"],
};
const MARKS = { proved: ["✓", "proved", "已证明"], failed: ["✕", "failed", "未通过"], "not asked": ["–", "not asked", "未核验"] } as const;

export type Verified = { verdict: Verdict; receipt: Receipt } | { refused: NotProved };

// Verifies when anything of it changes; null while there is nothing to verify.
export function useVerdict(key: Key | null, receipt: Bytes | null, answer: Bytes | null, request: Bytes | null, id: string | null = null): Verified | null {
  const [found, setFound] = useState<Verified | null>(null);
  useEffect(() => {
    let current = true;
    setFound(null);
    if (key && receipt) {
      const work = async (): Promise<Verified> => {
        const read = await readReceipt(receipt);
        return { verdict: await verify(key, read, answer, request, id), receipt: read };
      };
      work().then(
        (told) => current && setFound(told),
        (error) => current && setFound({ refused: error instanceof NotProved ? error : new NotProved(String(error), `浏览器报错：${error}`) }),
      );
    }
    return () => void (current = false);
  }, [key, receipt, answer, request, id]);
  return found;
}

export function Steps({ of }: { of: Verified | null }) {
  if (of === null) return <Loading en="Verifying in this browser" zh="正在浏览器中核验" />;
  if ("refused" in of) return <div class="refusal" role="alert"><strong><Say en="Not a receipt that can be read" zh="凭证无法读取" /></strong><p><Say en={of.refused.en} zh={of.refused.zh} /></p></div>;
  const { proved, checkpoint, steps } = of.verdict;
  return (
    <div class="stack" role="status">
      <p class={`verdict ${proved ? "good" : "bad"}`}>
        {proved ? <Say en="Genuine" zh="属实" /> : <Say en="Not proved" zh="未能证明" />}
        {proved && checkpoint ? <small><Say en={`signed by ${checkpoint.origin} at ${checkpoint.at} over ${checkpoint.size} records`} zh={`${checkpoint.origin} 于 ${checkpoint.at} 对 ${checkpoint.size} 条记录签署`} /></small> : null}
      </p>
      {proved ? <dl class="facts">{summary(of.receipt).map((fact, at) => [<dt key={at}><Say en={fact.en} zh={fact.zh} /></dt>, <dd key={`${at}-told`}>{shown(fact)}</dd>])}</dl> : null}
      <ol class="steps">{steps.map((step) => <StepLine key={step.step} step={step} />)}</ol>
    </div>
  );
}

function shown({ en, told, told_zh }: Fact) {
  if (en === "Product") return word(PRODUCTS, told);
  if (en === "At") return moment(told);
  const rule = en === "Price" ? (at: 0 | 1) => told.replace(/\((\w+)/, (all, code: string) => (RULES[code] ? `(${RULES[code][at]}` : all)) : null;
  return rule ? <Say en={rule(0)} zh={rule(1)} /> : <Say en={told} zh={told_zh} />;
}

function StepLine({ step }: { step: Step }) {
  const { en, zh, why: proves } = PROVES[step.step];
  const why = step.state === "not asked" ? (ABSENT[step.step] ?? proves) : proves;
  const [mark, told, told_zh] = MARKS[step.state];
  return (
    <li class={step.state.replace(" ", "-")} data-step={step.step} data-state={step.state}>
      <i aria-hidden="true">{mark}</i>
      <div>
        <strong><Say en={en} zh={zh} /></strong> <span class="hidden"><Say en={told} zh={told_zh} /></span>
        <p class="quiet"><Say en={why[0]} zh={why[1]} /></p>
        {step.state === "failed" ? <p class="bad-text"><Say en={step.en} zh={step.zh} /></p> : null}
      </div>
    </li>
  );
}

// Verification of a receipt from a file. Nothing is sent to the service.

import { useState } from "preact/hooks";
import { Text, type Bilingual } from "../../ui/i18n";
import type { Bytes } from "../../proof/bytes";
import { logKey, LogKeyCard } from "./log-key";
import { VerificationSteps, useVerification } from "./verification-steps";

type InputName = "receipt" | "answer" | "request";
const INPUTS: { name: InputName; en: string; zh: string; hint: Bilingual }[] = [
  { name: "receipt", en: "Receipt", zh: "凭证", hint: ["JSON, or the text of a printed receipt", "JSON，或打印凭证的文本"] },
  { name: "answer", en: "Answer", zh: "答复", hint: ["to prove the content: the bytes as sent", "用于证明内容：原始字节"] },
  { name: "request", en: "Request", zh: "请求", hint: ["to prove its inputs and wishes: the JSON as sent", "用于证明输入与各项意愿：所发送的 JSON"] },
];

export function VerifyPage() {
  const [files, setFiles] = useState<Partial<Record<InputName, { name: string; bytes: Bytes }>>>({});
  const verdict = useVerification(logKey.value, files.receipt?.bytes ?? null, files.answer?.bytes ?? null, files.request?.bytes ?? null);
  const onFileChange = (name: InputName) => async (event: Event) => {
    const file = (event.currentTarget as HTMLInputElement).files?.[0];
    if (!file) return;
    const bytes = new Uint8Array(await file.arrayBuffer());
    setFiles((previous) => ({ ...previous, [name]: { name: file.name, bytes } }));
  };
  return (
    <div class="side-layout audit-layout">
      <div class="stack">
        <LogKeyCard />
        <section class="card stack">
          <h2><Text en="Files to verify" zh="待核验文件" /></h2>
          {INPUTS.map(({ name, en, zh, hint }) => (
            <label class="drop" key={name}>
              <strong><Text en={en} zh={zh} /></strong> <span class="quiet"><Text en={hint[0]} zh={hint[1]} /></span>
              <input type="file" data-part={name} onChange={onFileChange(name)} />
            </label>
          ))}
          <p class="quiet"><Text en="The files stay in this browser." zh="文件不会离开本浏览器。" /></p>
        </section>
      </div>
      <section class="card stack">
        <h2><Text en="Result" zh="核验结果" /></h2>
        {!logKey.value || !files.receipt ? <p class="quiet"><Text en="Provide a key and a receipt." zh="请提供公钥与凭证。" /></p> : <VerificationSteps verification={verdict} />}
      </section>
    </div>
  );
}

// A receipt from a file, verified: nothing of it leaves the browser.

import { useState } from "preact/hooks";
import { Say } from "../../ui/i18n";
import type { Bytes } from "../../proof/bytes";
import { key, KeyCard } from "./log-key";
import { Steps, useVerdict } from "./verification-steps";

type Part = "receipt" | "answer" | "request";
const PARTS: { part: Part; en: string; zh: string; hint: readonly [string, string] }[] = [
  { part: "receipt", en: "Receipt", zh: "凭证", hint: ["JSON, or the text of a printed one", "JSON 或打印件文本"] },
  { part: "answer", en: "Answer", zh: "答复", hint: ["if its content is to be proved: its bytes as they were sent", "如需证明内容：原始字节"] },
  { part: "request", en: "Request", zh: "请求", hint: ["if the inputs are to be proved: the JSON that was sent", "如需证明输入：所发送的 JSON"] },
];

export function Verify() {
  const [files, setFiles] = useState<Partial<Record<Part, { name: string; bytes: Bytes }>>>({});
  const verdict = useVerdict(key.value, files.receipt?.bytes ?? null, files.answer?.bytes ?? null, files.request?.bytes ?? null);
  const take = (part: Part) => async (event: Event) => {
    const file = (event.currentTarget as HTMLInputElement).files?.[0];
    if (!file) return;
    const bytes = new Uint8Array(await file.arrayBuffer());
    setFiles((before) => ({ ...before, [part]: { name: file.name, bytes } }));
  };
  return (
    <div class="side audit-side">
      <div class="stack">
        <KeyCard />
        <section class="card stack">
          <h2><Say en="What is to be verified" zh="核验对象" /></h2>
          {PARTS.map(({ part, en, zh, hint }) => (
            <label class="drop" key={part}>
              <strong><Say en={en} zh={zh} /></strong> <span class="quiet"><Say en={hint[0]} zh={hint[1]} /></span>
              <input type="file" data-part={part} onChange={take(part)} />
            </label>
          ))}
          <p class="quiet"><Say en="The files stay in this browser." zh="文件不会离开本浏览器。" /></p>
        </section>
      </div>
      <section class="card stack">
        <h2><Say en="What is proved" zh="核验结果" /></h2>
        {!key.value || !files.receipt ? <p class="quiet"><Say en="Bring a key and a receipt." zh="请提供公钥与凭证。" /></p> : <Steps of={verdict} />}
      </section>
    </div>
  );
}

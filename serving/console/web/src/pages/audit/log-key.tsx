// The log's public key, as the auditor brings it: from a file or pasted. It is no secret; the browser keeps it until forgotten.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { Say } from "../../ui/i18n";
import { NotProved } from "../../proof/bytes";
import { readKey, type Key } from "../../proof/checkpoint";

const KEPT = "log-public-key";

export const key = signal<Key | null>(null);

function kept(): string | null {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // storage is off: the key lasts as long as the page
  }
}

function keep(pem: string | null): void {
  try {
    if (pem === null) localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, pem);
  } catch {
    // as above
  }
}

const before = kept();
if (before !== null) readKey(before).then((found) => (key.value = found), () => keep(null));

export const Fingerprint = ({ of }: { of: Key }) => <code class="fingerprint">{of.fingerprint.match(/.{8}/g)!.join(" ")}</code>;

export function KeyCard() {
  const [pasted, setPasted] = useState("");
  const [failed, setFailed] = useState<NotProved | null>(null);
  const take = async (pem: string) => {
    setFailed(null);
    try {
      key.value = await readKey(pem);
      keep(pem);
      setPasted("");
    } catch (error) {
      if (!(error instanceof NotProved)) throw error;
      setFailed(error);
    }
  };
  const found = key.value;
  return (
    <section class="card stack key-card" aria-labelledby="key-title">
      <h2 id="key-title"><Say en="The log's public key" zh="日志公钥" /></h2>
      {found ? (
        <>
          <dl class="facts"><dt><Say en="Fingerprint (SHA-256)" zh="指纹（SHA-256）" /></dt><dd><Fingerprint of={found} /></dd></dl>
          <p class="quiet"><Say en="Compare it with the one that you were given on paper or by telephone. Every check below trusts this key and nothing else." zh="请与书面或电话取得的指纹核对。以下各项核验仅信任该公钥。" /></p>
          <div class="actions"><button type="button" onClick={() => { key.value = null; keep(null); }}><Say en="Use another key" zh="更换公钥" /></button></div>
        </>
      ) : (
        <>
          <p class="quiet"><Say en="Bring it yourself (log.pub.pem), not from this service: otherwise the service would vouch for itself." zh="请自行携带公钥（log.pub.pem），勿从本服务获取，否则等于服务自证。" /></p>
          <label class="drop">
            <Say en="Choose the key's file" zh="选择公钥文件" />
            <input type="file" accept=".pem" onChange={(event) => event.currentTarget.files?.[0]?.text().then(take)} />
          </label>
          <div class="field">
            <label for="pasted"><Say en="or paste it" zh="或粘贴" /></label>
            <textarea id="pasted" rows={4} spellcheck={false} placeholder="-----BEGIN PUBLIC KEY-----" value={pasted} onInput={(event) => setPasted(event.currentTarget.value)} />
          </div>
          <div class="actions"><button type="button" class="main" disabled={!pasted.trim()} onClick={() => take(pasted)}><Say en="Use this key" zh="使用该公钥" /></button></div>
          <div aria-live="polite">{failed ? <p class="refusal"><Say en={failed.en} zh={failed.zh} /></p> : null}</div>
        </>
      )}
    </section>
  );
}

// The log's public key, supplied by the auditor as a file or as text. It is not secret; the browser stores it until it is replaced.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { Text } from "../../ui/i18n";
import { ProofError } from "../../proof/bytes";
import { readKey, type Key } from "../../proof/checkpoint";

const STORAGE_KEY = "log-public-key";

export const logKey = signal<Key | null>(null);

function storedKey(): string | null {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch {
    return null; // storage is disabled: the key lasts as long as the page
  }
}

function storeKey(pem: string | null): void {
  try {
    if (pem === null) localStorage.removeItem(STORAGE_KEY);
    else localStorage.setItem(STORAGE_KEY, pem);
  } catch {
    // as above
  }
}

const stored = storedKey();
if (stored !== null) readKey(stored).then((parsed) => (logKey.value = parsed), () => storeKey(null));

export const Fingerprint = ({ publicKey }: { publicKey: Key }) => <code class="fingerprint">{publicKey.fingerprint.match(/.{8}/g)!.join(" ")}</code>;

export function LogKeyCard() {
  const [text, setText] = useState("");
  const [failure, setFailure] = useState<ProofError | null>(null);
  const importKey = async (pem: string) => {
    setFailure(null);
    try {
      logKey.value = await readKey(pem);
      storeKey(pem);
      setText("");
    } catch (error) {
      if (!(error instanceof ProofError)) throw error;
      setFailure(error);
    }
  };
  const current = logKey.value;
  return (
    <section class="card stack key-card" aria-labelledby="key-title">
      <h2 id="key-title"><Text en="The log's public key" zh="日志公钥" /></h2>
      {current ? (
        <>
          <dl class="facts"><dt><Text en="Fingerprint (SHA-256)" zh="指纹（SHA-256）" /></dt><dd><Fingerprint publicKey={current} /></dd></dl>
          <p class="quiet"><Text en="Compare it with the fingerprint you received on paper or by telephone. All checks rely on this key alone." zh="请与书面或电话告知的指纹核对。各项核验仅以该公钥为准。" /></p>
          <div class="actions"><button type="button" onClick={() => { logKey.value = null; storeKey(null); }}><Text en="Use another key" zh="更换公钥" /></button></div>
        </>
      ) : (
        <>
          <p class="quiet"><Text en="Supply the key yourself (log.pub.pem). Do not obtain it from this service, which would otherwise vouch for itself." zh="请自行提供公钥（log.pub.pem），勿从本服务获取，否则等同于服务自证。" /></p>
          <label class="drop">
            <Text en="Choose a key file" zh="选择公钥文件" />
            <input type="file" accept=".pem" onChange={(event) => event.currentTarget.files?.[0]?.text().then(importKey)} />
          </label>
          <div class="field">
            <label for="pasted"><Text en="or paste it here" zh="或在此粘贴" /></label>
            <textarea id="pasted" rows={4} spellcheck={false} placeholder="-----BEGIN PUBLIC KEY-----" value={text} onInput={(event) => setText(event.currentTarget.value)} />
          </div>
          <div class="actions"><button type="button" class="main" disabled={!text.trim()} onClick={() => importKey(text)}><Text en="Use this key" zh="使用该公钥" /></button></div>
          <div aria-live="polite">{failure ? <p class="refusal"><Text en={failure.en} zh={failure.zh} /></p> : null}</div>
        </>
      )}
    </section>
  );
}

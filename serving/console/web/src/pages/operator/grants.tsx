// The operator's authorisations: every tenant's, entered here and revoked here, after one has confirmed.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { ask } from "../../ui/api";
import { Failed } from "../../ui/feedback";
import { Say, word } from "../../ui/i18n";
import { Grants, type Grant } from "../audit/grants";
import { PRODUCTS } from "../audit/labels";
import { NewGrant } from "./grant-form";

export function OperatorGrants({ at }: { at: string }) {
  const [entering, setEntering] = useState(false);
  const [chosen, setChosen] = useState<Grant | null>(null);
  const [times, setTimes] = useState(0);
  const again = () => {
    setEntering(false);
    setChosen(null);
    setTimes((before) => before + 1);
  };
  const live = (grant: Grant) => !grant.revoked_at && grant.valid_to > new Date().toISOString();
  return (
    <div class="stack">
      {entering ? <NewGrant done={again} /> : <div class="actions"><button type="button" class="main" onClick={() => setEntering(true)}><Say en="Enter an authorisation" zh="录入授权" /></button></div>}
      {chosen ? <Confirm key={chosen.authorisation} grant={chosen} done={again} cancel={() => setChosen(null)} /> : null}
      <Grants key={times} at={at} tenants deed={(grant) => (live(grant) ? <button type="button" class="danger" data-revoke={grant.authorisation} onClick={() => setChosen(grant)}><Say en="Revoke" zh="撤销" /></button> : null)} />
    </div>
  );
}

function Confirm({ grant, done, cancel }: { grant: Grant; done: () => void; cancel: () => void }) {
  const [failed, setFailed] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const box = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => box.current!.showModal(), []);
  const revoke = async () => {
    setBusy(true);
    setFailed(null);
    try {
      await ask(`/v1/authorisations/${grant.authorisation}/revoke`, { method: "POST" });
      done();
    } catch (error) {
      setFailed(error);
      setBusy(false);
    }
  };
  return (
    // The key that opened it may still be held: its repeats press nothing here.
    <dialog class="card stack confirm" ref={box} role="alertdialog" aria-labelledby="confirm-title" aria-describedby="confirm-text" onClose={cancel}
      onKeyDown={(event) => { if (event.repeat && event.key !== "Tab") event.preventDefault(); }}>
      <h2 id="confirm-title"><Say en="Revoke this authorisation?" zh="确认撤销该授权？" /></h2>
      <p id="confirm-text">
        <code>{grant.authorisation}</code> · {grant.tenant} · {word(PRODUCTS, grant.purpose)}<br />
        <Say en="From the next call on nothing more is read under it, and answers that wait for it are not given. It cannot be undone: another one would have to be signed." zh="自下一次调用起不再据此读取，等待中的答复不再给出。撤销不可恢复，须重新签署。" />
      </p>
      {failed ? <Failed error={failed} /> : null}
      <div class="actions"><button type="button" autofocus onClick={() => box.current!.close()}><Say en="Keep it" zh="保留" /></button><button type="button" class="danger" disabled={busy} onClick={revoke}><Say en="Revoke it" zh="撤销" /></button></div>
    </dialog>
  );
}

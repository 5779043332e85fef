// The operator's authorisations: those of all tenants, with entry and, after confirmation, revocation.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { fetchJson } from "../../ui/api";
import { ErrorMessage } from "../../ui/feedback";
import { Text, labelOf } from "../../ui/i18n";
import { GrantTable, type Grant } from "../audit/grants";
import { PRODUCTS } from "../audit/labels";
import { GrantForm } from "./grant-form";

export function OperatorGrants({ basePath }: { basePath: string }) {
  const [entering, setEntering] = useState(false);
  const [selected, setSelected] = useState<Grant | null>(null);
  const [revision, setRevision] = useState(0);
  const reload = () => {
    setEntering(false);
    setSelected(null);
    setRevision((previous) => previous + 1);
  };
  const isLive = (grant: Grant) => !grant.revoked_at && grant.valid_to > new Date().toISOString();
  return (
    <div class="stack">
      {entering ? <GrantForm onDone={reload} /> : <div class="actions"><button type="button" class="main" onClick={() => setEntering(true)}><Text en="Enter an authorisation" zh="录入授权" /></button></div>}
      {selected ? <RevokeDialog key={selected.authorisation} grant={selected} onDone={reload} onCancel={() => setSelected(null)} /> : null}
      <GrantTable key={revision} basePath={basePath} showTenants renderAction={(grant) => (isLive(grant) ? <button type="button" class="danger" data-revoke={grant.authorisation} onClick={() => setSelected(grant)}><Text en="Revoke" zh="撤销" /></button> : null)} />
    </div>
  );
}

function RevokeDialog({ grant, onDone, onCancel }: { grant: Grant; onDone: () => void; onCancel: () => void }) {
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const dialogRef = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => dialogRef.current!.showModal(), []);
  const revoke = async () => {
    setBusy(true);
    setFailure(null);
    try {
      await fetchJson(`/v1/authorisations/${grant.authorisation}/revoke`, { method: "POST" });
      onDone();
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  };
  return (
    // The key that opened the dialog may still be pressed; its repeats must not activate a button here.
    <dialog class="card stack confirm" ref={dialogRef} role="alertdialog" aria-labelledby="confirm-title" aria-describedby="confirm-text" onClose={onCancel}
      onKeyDown={(event) => { if (event.repeat && event.key !== "Tab") event.preventDefault(); }}>
      <h2 id="confirm-title"><Text en="Revoke this authorisation?" zh="确认撤销该授权？" /></h2>
      <p id="confirm-text">
        <code>{grant.authorisation}</code> · {grant.tenant} · {labelOf(PRODUCTS, grant.purpose)}<br />
        <Text en="From the next request on, no data are read under this authorisation, and pending decisions that depend on it are not made. This cannot be undone; a new authorisation would have to be signed." zh="自下一次请求起，不再依据该授权读取数据，依赖该授权的待处理决定也不再作出。撤销后不可恢复，须重新签署授权。" />
      </p>
      {failure ? <ErrorMessage error={failure} /> : null}
      <div class="actions"><button type="button" autofocus onClick={() => dialogRef.current!.close()}><Text en="Keep it" zh="保留" /></button><button type="button" class="danger" disabled={busy} onClick={revoke}><Text en="Revoke" zh="撤销" /></button></div>
    </dialog>
  );
}

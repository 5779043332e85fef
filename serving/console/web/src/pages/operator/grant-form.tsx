// Entry of a signed authorisation. The service validates it.

import { useState } from "preact/hooks";
import { fetchJson, useResource } from "../../ui/api";
import { Field } from "../../ui/field";
import { INDICATOR_GROUPS } from "../../ui/indicator-groups";
import { ErrorMessage, ResourceView } from "../../ui/feedback";
import { translate, Text, labelOf } from "../../ui/i18n";
import { hex, sha256 } from "../../proof/bytes";
import { GRANT_KINDS, PRODUCTS } from "../audit/labels";

interface Rules {
  purposes: Record<string, string[]>;
  needs: Record<string, Record<string, string[]>>;
  conduct: string[];
}

const INITIAL = { kind: "government", tenant: "", purpose: "credit_limit", grantor: "", subject_id: "", product: "", valid_from: "", valid_to: "", document_sha256: "" };

export function GrantForm({ onDone }: { onDone: () => void }) {
  const rules = useResource<Rules>("/v1/authorisations/rules");
  return <section class="card stack"><h2><Text en="Enter a signed authorisation" zh="录入已签署的授权" /></h2><ResourceView resource={rules}>{(value) => <GrantFields rules={value} onDone={onDone} />}</ResourceView></section>;
}

function GrantFields({ rules, onDone }: { rules: Rules; onDone: () => void }) {
  const [form, setForm] = useState(INITIAL);
  const [groups, setGroups] = useState<string[]>([]);
  const [failure, setFailure] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const personal = form.kind === "personal", needsProduct = form.purpose === "training" && Boolean(form.subject_id);
  const available = rules.purposes[form.purpose] ?? [];
  const fits = (group: string) => form.purpose === "training" || (rules.needs[form.purpose]?.[group] ?? []).includes(form.kind);
  const setField = (name: keyof typeof INITIAL) => (event: Event) => {
    setForm({ ...form, [name]: (event.currentTarget as HTMLInputElement).value });
    if (name === "purpose" || name === "kind") setGroups([]);
  };
  const hashDocument = async (event: Event) => {
    const file = (event.currentTarget as HTMLInputElement).files?.[0];
    if (file) {
      const digest = hex(await sha256(new Uint8Array(await file.arrayBuffer())));
      setForm((previous) => ({ ...previous, document_sha256: digest }));
    }
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setFailure(null);
    try {
      const relevant = { ...form, grantor: personal ? "" : form.grantor, product: needsProduct ? form.product : "" }; // without values that belong to an earlier choice
      await fetchJson("/v1/authorisations", { body: { ...Object.fromEntries(Object.entries(relevant).filter(([, value]) => value)), groups } });
      onDone();
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="stack" onSubmit={submit}>
      <div class="fields">
        <Field label={{ en: "Kind", zh: "类别" }}>{(control) => <select {...control} value={form.kind} onChange={setField("kind")}>{Object.entries(GRANT_KINDS).map(([code, [en, zh]]) => <option key={code} value={code}>{translate(en, zh)}</option>)}</select>}</Field>
        <Field label={{ en: "Purpose", zh: "用途" }}>{(control) => <select {...control} value={form.purpose} onChange={setField("purpose")}>{Object.keys(rules.purposes).map((code) => <option key={code} value={code}>{translate(...(PRODUCTS[code] ?? [code, code]))}</option>)}</select>}</Field>
        <Field label={{ en: "Granted to (tenant)", zh: "被授权机构" }}>{(control) => <input {...control} required value={form.tenant} onInput={setField("tenant")} />}</Field>
        {personal ? null : <Field label={{ en: "Granted by (authority)", zh: "授权机关" }}>{(control) => <input {...control} required value={form.grantor} onInput={setField("grantor")} />}</Field>}
        <Field label={{ en: "Subject id", zh: "授权对象编号" }} hint={personal ? null : { en: "leave empty for all subjects", zh: "留空：全部主体" }}>{(control) => <input {...control} required={personal} autocomplete="off" value={form.subject_id} onInput={setField("subject_id")} />}</Field>
        {needsProduct ? (
          <Field label={{ en: "Product of the subject", zh: "授权对象所属产品" }}>{(control) => <select {...control} required value={form.product} onChange={setField("product")}><option value="">–</option>{Object.keys(rules.needs).map((code) => <option key={code} value={code}>{translate(...(PRODUCTS[code] ?? [code, code]))}</option>)}</select>}</Field>
        ) : null}
        <Field label={{ en: "Valid from", zh: "有效期自" }} hint={{ en: "leave empty for immediately", zh: "留空：即刻生效" }}>{(control) => <input {...control} type="date" value={form.valid_from} onInput={setField("valid_from")} />}</Field>
        <Field label={{ en: "Valid until", zh: "有效期至" }} unit={{ en: "inclusive, UTC", zh: "含当日，UTC" }}>{(control) => <input {...control} type="date" required value={form.valid_to} onInput={setField("valid_to")} />}</Field>
      </div>
      <div class="fields document">
        <Field label={{ en: "Signed document", zh: "签署文件" }} hint={{ en: "Only its SHA-256 is sent; the file is not uploaded.", zh: "仅发送其 SHA-256，文件不上传。" }}>{(control) => <input {...control} type="file" onChange={hashDocument} />}</Field>
        <Field label={{ en: "or its SHA-256", zh: "或其 SHA-256" }}>{(control) => <input {...control} required spellcheck={false} pattern="[0-9a-f]{64}" value={form.document_sha256} onInput={setField("document_sha256")} />}</Field>
      </div>
      <fieldset class="groups">
        <legend><Text en="Groups of indicators" zh="指标组" /></legend>
        {available.map((group) => (
          <label key={group}><input type="checkbox" checked={groups.includes(group)} onChange={(event) => setGroups(event.currentTarget.checked ? [...groups, group] : groups.filter((code) => code !== group))} /> {labelOf(INDICATOR_GROUPS, group)} <code>{group}</code>{fits(group) ? null : <span class="quiet"> <Text en="requires the other kind" zh="需另一类授权" /></span>}</label>
        ))}
        <button type="button" onClick={() => setGroups(available.filter(fits))}><Text en="Select all applicable" zh="全选适用项" /></button>
      </fieldset>
      <div aria-live="polite">{failure ? <ErrorMessage error={failure} /> : null}</div>
      <div class="actions"><button class="main" type="submit" disabled={busy || !groups.length}><Text en="Submit" zh="录入" /></button><button type="button" onClick={onDone}><Text en="Cancel" zh="取消" /></button></div>
    </form>
  );
}

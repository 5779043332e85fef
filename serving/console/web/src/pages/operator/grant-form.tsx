// An authorisation that was signed, entered. The service says what is wrong with it.

import { useState } from "preact/hooks";
import { ask, useAsk } from "../../ui/api";
import { Field } from "../../ui/field";
import { GROUPS } from "../../ui/indicator-groups";
import { Failed, Shown } from "../../ui/feedback";
import { plain, Say, word } from "../../ui/i18n";
import { hex, sha256 } from "../../proof/bytes";
import { GRANTS, PRODUCTS } from "../audit/labels";

interface Rules {
  purposes: Record<string, string[]>;
  needs: Record<string, Record<string, string[]>>;
  conduct: string[];
}

const FIRST = { kind: "government", tenant: "", purpose: "credit_limit", grantor: "", subject_id: "", product: "", valid_from: "", valid_to: "", document_sha256: "" };

export function NewGrant({ done }: { done: () => void }) {
  const rules = useAsk<Rules>("/v1/authorisations/rules");
  return <section class="card stack"><h2><Say en="Enter a signed authorisation" zh="录入已签署的授权" /></h2><Shown of={rules}>{(told) => <Form rules={told} done={done} />}</Shown></section>;
}

function Form({ rules, done }: { rules: Rules; done: () => void }) {
  const [form, setForm] = useState(FIRST);
  const [groups, setGroups] = useState<string[]>([]);
  const [failed, setFailed] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const personal = form.kind === "personal", ofOne = form.purpose === "training" && Boolean(form.subject_id);
  const known = rules.purposes[form.purpose] ?? [];
  const fits = (group: string) => form.purpose === "training" || (rules.needs[form.purpose]?.[group] ?? []).includes(form.kind);
  const set = (name: keyof typeof FIRST) => (event: Event) => {
    setForm({ ...form, [name]: (event.currentTarget as HTMLInputElement).value });
    if (name === "purpose" || name === "kind") setGroups([]);
  };
  const document_ = async (event: Event) => {
    const file = (event.currentTarget as HTMLInputElement).files?.[0];
    if (file) {
      const told = hex(await sha256(new Uint8Array(await file.arrayBuffer())));
      setForm((before) => ({ ...before, document_sha256: told }));
    }
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setFailed(null);
    try {
      const shown = { ...form, grantor: personal ? "" : form.grantor, product: ofOne ? form.product : "" }; // not what an earlier choice left behind
      await ask("/v1/authorisations", { body: { ...Object.fromEntries(Object.entries(shown).filter(([, value]) => value)), groups } });
      done();
    } catch (error) {
      setFailed(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form class="stack" onSubmit={submit}>
      <div class="fields">
        <Field label={{ en: "Kind", zh: "类别" }}>{(control) => <select {...control} value={form.kind} onChange={set("kind")}>{Object.entries(GRANTS).map(([one, [en, zh]]) => <option key={one} value={one}>{plain(en, zh)}</option>)}</select>}</Field>
        <Field label={{ en: "Purpose", zh: "用途" }}>{(control) => <select {...control} value={form.purpose} onChange={set("purpose")}>{Object.keys(rules.purposes).map((one) => <option key={one} value={one}>{plain(...(PRODUCTS[one] ?? [one, one]))}</option>)}</select>}</Field>
        <Field label={{ en: "To which tenant", zh: "被授权机构" }}>{(control) => <input {...control} required value={form.tenant} onInput={set("tenant")} />}</Field>
        {personal ? null : <Field label={{ en: "Granted by (body)", zh: "授权机关" }}>{(control) => <input {...control} required value={form.grantor} onInput={set("grantor")} />}</Field>}
        <Field label={{ en: "About whom", zh: "对象编号" }} hint={personal ? null : { en: "empty: all subjects", zh: "留空：全部主体" }}>{(control) => <input {...control} required={personal} autocomplete="off" value={form.subject_id} onInput={set("subject_id")} />}</Field>
        {ofOne ? (
          <Field label={{ en: "Of which product", zh: "对象所属产品" }}>{(control) => <select {...control} required value={form.product} onChange={set("product")}><option value="">–</option>{Object.keys(rules.needs).map((one) => <option key={one} value={one}>{plain(...(PRODUCTS[one] ?? [one, one]))}</option>)}</select>}</Field>
        ) : null}
        <Field label={{ en: "Valid from", zh: "有效期自" }} hint={{ en: "empty: from now on", zh: "留空：即刻" }}>{(control) => <input {...control} type="date" value={form.valid_from} onInput={set("valid_from")} />}</Field>
        <Field label={{ en: "Valid up to", zh: "有效期至" }} unit={{ en: "with that day, UTC", zh: "含当日，UTC" }}>{(control) => <input {...control} type="date" required value={form.valid_to} onInput={set("valid_to")} />}</Field>
      </div>
      <div class="fields document">
        <Field label={{ en: "The signed document", zh: "签署文件" }} hint={{ en: "Only its SHA-256 is sent; the file stays here.", zh: "仅发送其 SHA-256，文件不上传。" }}>{(control) => <input {...control} type="file" onChange={document_} />}</Field>
        <Field label={{ en: "or its SHA-256", zh: "或其 SHA-256" }}>{(control) => <input {...control} required spellcheck={false} pattern="[0-9a-f]{64}" value={form.document_sha256} onInput={set("document_sha256")} />}</Field>
      </div>
      <fieldset class="groups">
        <legend><Say en="Groups of indicators" zh="指标组" /></legend>
        {known.map((group) => (
          <label key={group}><input type="checkbox" checked={groups.includes(group)} onChange={(event) => setGroups(event.currentTarget.checked ? [...groups, group] : groups.filter((one) => one !== group))} /> {word(GROUPS, group)} <code>{group}</code>{fits(group) ? null : <span class="quiet"> <Say en="needs the other kind" zh="需另一类授权" /></span>}</label>
        ))}
        <button type="button" onClick={() => setGroups(known.filter(fits))}><Say en="All that fit the kind" zh="全选适用项" /></button>
      </fieldset>
      <div aria-live="polite">{failed ? <Failed error={failed} /> : null}</div>
      <div class="actions"><button class="main" type="submit" disabled={busy || !groups.length}><Say en="Enter it" zh="录入" /></button><button type="button" onClick={done}><Say en="Cancel" zh="取消" /></button></div>
    </form>
  );
}

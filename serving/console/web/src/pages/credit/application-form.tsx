// Entry of an applicant's indicators, with a live preview. Requesting a decision records it.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { fetchJson, ApiError, useResource } from "../../ui/api";
import { Field } from "../../ui/field";
import { INDICATOR_GROUPS, GROUP_NOTES } from "../../ui/indicator-groups";
import { useIdempotentPost } from "../../ui/idempotent";
import { ErrorMessage, Loading, ResourceView } from "../../ui/feedback";
import { translate, Text, type Bilingual } from "../../ui/i18n";
import { session, type Session } from "../../session";
import { AnswerDetails, AnswerHeadline, LimitText, SimulatedBanner } from "./answer";
import type { Answer, Form, FormField } from "./types";

const DEBOUNCE_MS = 60; // ms after the last keystroke

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

type Values = Record<string, string>;
interface Draft {
  values: Values;
  options: Record<string, boolean>;
}

// Input outlives a visit to another page; by person and model, in this tab's memory only.
const drafts = new Map<string, Draft>();

// A product that takes applications.
export interface FormProduct {
  model: string;
  route: string;
  home: string; // path of the product's section
  example: { indicators: object };
  exampleName: Bilingual; // how the button describes the example
  options: readonly { name: string; initial: boolean; en: string; zh: string }[];
  renderExtra?: (answer: Answer) => ComponentChildren; // the parts of the answer that only this product has
}

// The input as the service expects it; an empty field is missing, never 0.
export function parseIndicators(values: Values, fields: FormField[]): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const field of fields) {
    const text = values[field.name]?.trim();
    if (!text) continue;
    result[field.name] = field.kind === "number" && DECIMAL.test(text) ? Number(text) : text;
  }
  return result;
}

export function ApplicationForm({ product }: { product: FormProduct }) {
  const form = useResource<Form>(`/v1/models/${product.model}/form`);
  return <ResourceView resource={form}>{(value) => <IndicatorForm product={product} form={value} />}</ResourceView>;
}

function IndicatorForm({ product, form }: { product: FormProduct; form: Form }) {
  const draftKey = `${(session.value as Session).who} ${product.model}`;
  const [values, setValues] = useState<Values>(() => drafts.get(draftKey)?.values ?? {});
  const [options, setOptions] = useState(() => drafts.get(draftKey)?.options ?? Object.fromEntries(product.options.map((option) => [option.name, option.initial])));
  useEffect(() => void drafts.set(draftKey, { values, options }), [draftKey, values, options]);
  const post = useIdempotentPost();
  const [submitting, setSubmitting] = useState(false);
  const [baseline, setBaseline] = useState(0); // incremented for a new applicant: differences are then shown against its first preview
  const [failure, setFailure] = useState<unknown>(null);
  const { route } = useLocation();
  const entered = useMemo(() => parseIndicators(values, form.fields), [values, form]);
  const requestBody = useMemo(() => ({ indicators: entered, ...options }), [entered, options]);
  const empty = Object.keys(entered).length === 0;
  const preview = usePreview(product.route, empty ? null : requestBody, baseline);
  const faults = new Map((preview.error instanceof ApiError ? (preview.error.problem.errors ?? []) : []).map((fault) => [fault.field, fault]));
  const labels = new Map(form.fields.map((field) => [field.name, [capitalise(field.en), field.zh] as const]));
  const groups = Object.keys(INDICATOR_GROUPS).filter((group) => form.fields.some((field) => field.group === group));
  const ungrouped = form.fields.filter((field) => !(field.group in INDICATOR_GROUPS));
  const setValue = (name: string, text: string) => setValues((previous) => ({ ...previous, [name]: text }));
  const decide = async (event: Event) => {
    event.preventDefault();
    setSubmitting(true);
    setFailure(null);
    try {
      const answer = await post<Answer>(product.route, requestBody);
      drafts.delete(draftKey);
      route(`${product.home}/decisions/${answer.decision_id}`);
    } catch (error) {
      setFailure(error);
    } finally {
      setSubmitting(false);
    }
  };
  const fillExample = () => (setBaseline((previous) => previous + 1), setValues(Object.fromEntries(form.fields.flatMap((field) => {
    const value = (product.example.indicators as Record<string, unknown>)[field.name];
    return value === undefined ? [] : [[field.name, String(value)]];
  }))));
  return (
    <div class="application">
      <form class="stack" onSubmit={decide}>
        <div class="actions">
          <button type="button" onClick={fillExample}><Text en={`Fill in ${product.exampleName[0]}`} zh={`填入${product.exampleName[1]}`} /></button>
          <button type="button" onClick={() => setValues({})} disabled={empty}><Text en="Clear" zh="清空" /></button>
          <p class="quiet"><Text en="Leave unknown values empty: a missing value is never treated as 0." zh="未知项请留空：缺失值不按 0 处理。" /></p>
        </div>
        {groups.map((group) => (
          <fieldset class="card" key={group}>
            <legend><Text en={legendText(group, 0)} zh={legendText(group, 1)} /></legend>
            <div class="fields">{form.fields.filter((field) => field.group === group).map((field) => <IndicatorField key={field.name} field={field} value={values[field.name] ?? ""} fault={faults.get(field.name)} setValue={setValue} />)}</div>
          </fieldset>
        ))}
        {ungrouped.length ? (
          <fieldset class="card">
            <legend><Text en="Other" zh="其他" /></legend>
            <div class="fields">{ungrouped.map((field) => <IndicatorField key={field.name} field={field} value={values[field.name] ?? ""} fault={faults.get(field.name)} setValue={setValue} />)}</div>
          </fieldset>
        ) : null}
      </form>
      <aside class="stack preview" aria-label={translate("Preview", "预览")}>
        <section class="card">
          <h2><Text en="Preview" zh="当前测算" /> <span class="chip"><Text en="not recorded" zh="预览，不作记录" /></span></h2>
          <p class="hidden" role="status">{preview.answer && !preview.busy && !preview.error && !empty ? <LimitText answer={preview.answer} /> : ""}</p>
          {empty ? <p class="quiet"><Text en="The limit appears here as you type." zh="输入后此处显示额度。" /></p>
            : preview.answer ? <div aria-busy={preview.busy} class={preview.error || preview.busy ? "stale" : undefined}><AnswerHeadline answer={preview.answer} previous={preview.first} /></div>
            : preview.error ? null : <Loading en="Calculating" zh="测算中" />}
          {preview.error && !empty ? <ErrorMessage error={preview.error} retry={faults.size ? undefined : preview.reload} fieldLabel={(code) => labels.get(code)} /> : null}
          {product.options.map(({ name, en, zh }) => (
            <label key={name} class="option"><input type="checkbox" name={name} checked={options[name]} onChange={(event) => setOptions({ ...options, [name]: event.currentTarget.checked })} /><Text en={en} zh={zh} /></label>
          ))}
          <div class="actions">
            <button type="button" class="main" disabled={empty || submitting || faults.size > 0} onClick={decide}><Text en="Request a decision" zh="申请决定" /></button>
            <p class="quiet"><Text en="The decision is recorded and receives a receipt." zh="决定将留存记录并出具凭证。" /></p>
          </div>
          {failure ? <ErrorMessage error={failure} fieldLabel={(code) => labels.get(code)} /> : null}
        </section>
        {preview.answer && !empty && !preview.error ? <><SimulatedBanner visible={preview.answer.simulated} />{product.renderExtra?.(preview.answer)}<AnswerDetails answer={preview.answer} /></> : null}
      </aside>
    </div>
  );
}

// The latest preview; the late response of an earlier request is dropped. `first`: the preview before the input was changed.
function usePreview(address: string, requestBody: unknown, baseline: number) {
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const [attempt, setAttempt] = useState(0);
  const first = useRef<Answer | null>(null);
  useEffect(() => {
    first.current = null;
  }, [baseline]);
  useEffect(() => {
    if (requestBody === null) {
      setAnswer(null);
      setError(null);
      setBusy(false);
      first.current = null;
      return;
    }
    const controller = new AbortController();
    setBusy(true);
    const timer = setTimeout(async () => {
      try {
        const preview = await fetchJson<Answer>(`${address}/what-if`, { body: requestBody, signal: controller.signal });
        first.current ??= preview;
        setAnswer(preview);
        setError(null);
      } catch (previewError) {
        if (!controller.signal.aborted) setError(previewError);
      } finally {
        if (!controller.signal.aborted) setBusy(false);
      }
    }, DEBOUNCE_MS);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [address, requestBody, attempt]);
  return { answer, first: first.current, error, busy, reload: () => setAttempt(attempt + 1) };
}

function IndicatorField({ field, value, fault, setValue }: { field: FormField; value: string; fault?: { needed: string; needed_zh?: string }; setValue: (name: string, text: string) => void }) {
  const unit = field.unit && field.unit !== "count" ? { en: field.unit, zh: field.unit_zh } : null;
  const message = fault ? { en: `Expected: ${fault.needed}`, zh: `应为：${fault.needed_zh ?? fault.needed}` } : null;
  const isBoolean = field.kind === "number" && field.integer && field.low === 0 && field.high === 1;
  const onInput = (event: { currentTarget: { value: string } }) => setValue(field.name, event.currentTarget.value);
  return (
    <Field label={{ en: capitalise(field.en), zh: field.zh }} unit={unit} fault={message}>
      {(control) => field.kind === "category" || isBoolean ? (
        <select {...control} name={field.name} value={value} onChange={onInput}>
          <option value="">{translate("unknown", "未知")}</option>
          {isBoolean ? [["1", translate("yes", "是")], ["0", translate("no", "否")]].map(([code, text]) => <option key={code} value={code}>{text}</option>)
            : field.levels.map((level) => <option key={level} value={level}>{level}</option>)}
        </select>
      ) : <input {...control} name={field.name} inputMode={field.kind === "number" ? "decimal" : undefined} autocomplete="off" value={value} placeholder={rangeText(field)} onInput={onInput} />}
    </Field>
  );
}

const legendText = (group: string, languageIndex: 0 | 1) => (GROUP_NOTES[group] ? `${INDICATOR_GROUPS[group]![languageIndex]} (${GROUP_NOTES[group]![languageIndex]})` : INDICATOR_GROUPS[group]![languageIndex]);
const capitalise = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

function rangeText({ low, high, kind }: FormField): string {
  if (kind !== "number") return "";
  const [minText, maxText] = [low, high].map((bound) => (bound === null ? "" : bound.toLocaleString("en-US")));
  return minText && maxText ? `${minText} – ${maxText}` : minText ? `≥ ${minText}` : maxText ? `≤ ${maxText}` : "";
}

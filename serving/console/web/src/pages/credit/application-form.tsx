// Somebody's indicators entered: a preview answers as one types, and asking records a decision.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { useLocation } from "preact-iso";
import { ask, Refused, useAsk } from "../../ui/api";
import { Field } from "../../ui/field";
import { money } from "../../ui/format";
import { GROUPS, NOTES } from "../../ui/indicator-groups";
import { useOnce } from "../../ui/idempotent";
import { Failed, Loading, Shown } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import { session, type Session } from "../../session";
import { Details, Headline, Simulated } from "./answer";
import type { Answer, Form, FormField } from "./types";

const PAUSE = 60; // ms after the last key before the preview asks

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

type Values = Record<string, string>;
interface Draft {
  values: Values;
  wishes: Record<string, boolean>;
}

// What was typed outlives a look at another page; by person and model, in this tab's memory alone.
const drafts = new Map<string, Draft>();

// Of one product.
export interface Asks {
  model: string;
  route: string;
  home: string; // of its pages
  example: { indicators: object };
  made: readonly [string, string]; // what the example is
  wishes: readonly { name: string; at: boolean; en: string; zh: string }[];
  beside?: (answer: Answer) => ComponentChildren; // what the product tells beside every product's
}

// What was typed, as the service takes it; what is empty is missing, never 0.
export function indicators(values: Values, fields: FormField[]): Record<string, unknown> {
  const told: Record<string, unknown> = {};
  for (const field of fields) {
    const text = values[field.name]?.trim();
    if (!text) continue;
    told[field.name] = field.kind === "number" && DECIMAL.test(text) ? Number(text) : text;
  }
  return told;
}

export function Apply({ asks }: { asks: Asks }) {
  const form = useAsk<Form>(`/v1/models/${asks.model}/form`);
  return <Shown of={form}>{(found) => <Filled asks={asks} form={found} />}</Shown>;
}

function Filled({ asks, form }: { asks: Asks; form: Form }) {
  const mine = `${(session.value as Session).who} ${asks.model}`;
  const [values, setValues] = useState<Values>(() => drafts.get(mine)?.values ?? {});
  const [wishes, setWishes] = useState(() => drafts.get(mine)?.wishes ?? Object.fromEntries(asks.wishes.map((wish) => [wish.name, wish.at])));
  useEffect(() => void drafts.set(mine, { values, wishes }), [mine, values, wishes]);
  const once = useOnce();
  const [asking, setAsking] = useState(false);
  const [round, setRound] = useState(0); // a new household: differences are counted anew
  const [failed, setFailed] = useState<unknown>(null);
  const { route } = useLocation();
  const stated = useMemo(() => indicators(values, form.fields), [values, form]);
  const question = useMemo(() => ({ indicators: stated, ...wishes }), [stated, wishes]);
  const empty = Object.keys(stated).length === 0;
  const preview = usePreview(asks.route, empty ? null : question, round);
  const faults = new Map((preview.error instanceof Refused ? (preview.error.problem.errors ?? []) : []).map((fault) => [fault.field, fault]));
  const labels = new Map(form.fields.map((field) => [field.name, [sentence(field.en), field.zh] as const]));
  const groups = Object.keys(GROUPS).filter((group) => form.fields.some((field) => field.group === group));
  const rest = form.fields.filter((field) => !(field.group in GROUPS));
  const set = (name: string, text: string) => setValues((before) => ({ ...before, [name]: text }));
  const decide = async (event: Event) => {
    event.preventDefault();
    setAsking(true);
    setFailed(null);
    try {
      const answer = await once<Answer>(asks.route, question);
      drafts.delete(mine);
      route(`${asks.home}/decisions/${answer.decision_id}`);
    } catch (error) {
      setFailed(error);
    } finally {
      setAsking(false);
    }
  };
  const fill = () => (setRound((before) => before + 1), setValues(Object.fromEntries(form.fields.flatMap((field) => {
    const value = (asks.example.indicators as Record<string, unknown>)[field.name];
    return value === undefined ? [] : [[field.name, String(value)]];
  }))));
  return (
    <div class="apply">
      <form class="stack" onSubmit={decide}>
        <div class="actions">
          <button type="button" onClick={fill}><Say en={`Fill in ${asks.made[0]}`} zh={`填入${asks.made[1]}`} /></button>
          <button type="button" onClick={() => setValues({})} disabled={empty}><Say en="Clear" zh="清空" /></button>
          <p class="quiet"><Say en="Leave what is not known empty: missing is never 0." zh="未知项请留空：缺失不等于 0。" /></p>
        </div>
        {groups.map((group) => (
          <fieldset class="card" key={group}>
            <legend><Say en={legend(group, 0)} zh={legend(group, 1)} /></legend>
            <div class="fields">{form.fields.filter((field) => field.group === group).map((field) => <Control key={field.name} field={field} value={values[field.name] ?? ""} fault={faults.get(field.name)} set={set} />)}</div>
          </fieldset>
        ))}
        {rest.length ? (
          <fieldset class="card">
            <legend><Say en="Other" zh="其他" /></legend>
            <div class="fields">{rest.map((field) => <Control key={field.name} field={field} value={values[field.name] ?? ""} fault={faults.get(field.name)} set={set} />)}</div>
          </fieldset>
        ) : null}
      </form>
      <aside class="stack preview" aria-label={plain("Preview", "预览")}>
        <section class="card">
          <h2><Say en="As it stands now" zh="当前测算" /> <span class="chip"><Say en="preview, not recorded" zh="预览，不作记录" /></span></h2>
          <p class="hidden" role="status">{preview.answer && !preview.busy && !preview.error && !empty ? money(preview.answer.limit ?? preview.answer.indicative_limit, preview.answer.currency) : ""}</p>
          {empty ? <p class="quiet"><Say en="Type, and the limit appears here." zh="输入后此处显示额度。" /></p>
            : preview.answer ? <div aria-busy={preview.busy} class={preview.error || preview.busy ? "stale" : undefined}><Headline answer={preview.answer} before={preview.first} /></div>
            : preview.error ? null : <Loading en="Working it out" zh="测算中" />}
          {preview.error && !empty ? <Failed error={preview.error} again={faults.size ? undefined : preview.again} named={(code) => labels.get(code)} /> : null}
          {asks.wishes.map(({ name, en, zh }) => (
            <label key={name} class="wish"><input type="checkbox" checked={wishes[name]} onChange={(event) => setWishes({ ...wishes, [name]: event.currentTarget.checked })} /><Say en={en} zh={zh} /></label>
          ))}
          <div class="actions">
            <button type="button" class="main" disabled={empty || asking || faults.size > 0} onClick={decide}><Say en="Ask for a decision" zh="申请决定" /></button>
            <p class="quiet"><Say en="Recorded, with a receipt." zh="将留存记录并出具回执。" /></p>
          </div>
          {failed ? <Failed error={failed} named={(code) => labels.get(code)} /> : null}
        </section>
        {preview.answer && !empty && !preview.error ? <><Simulated shown={preview.answer.simulated} />{asks.beside?.(preview.answer)}<Details answer={preview.answer} /></> : null}
      </aside>
    </div>
  );
}

// The newest preview; an older one that comes late is dropped. `first`: what it was before the typing began.
function usePreview(address: string, question: unknown, round: number) {
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const [times, setTimes] = useState(0);
  const first = useRef<Answer | null>(null);
  useEffect(() => {
    first.current = null;
  }, [round]);
  useEffect(() => {
    if (question === null) {
      setAnswer(null);
      setError(null);
      setBusy(false);
      first.current = null;
      return;
    }
    const ending = new AbortController();
    setBusy(true);
    const waiting = setTimeout(async () => {
      try {
        const told = await ask<Answer>(`${address}/what-if`, { body: question, signal: ending.signal });
        first.current ??= told;
        setAnswer(told);
        setError(null);
      } catch (refused) {
        if (!ending.signal.aborted) setError(refused);
      } finally {
        if (!ending.signal.aborted) setBusy(false);
      }
    }, PAUSE);
    return () => {
      clearTimeout(waiting);
      ending.abort();
    };
  }, [address, question, times]);
  return { answer, first: first.current, error, busy, again: () => setTimes(times + 1) };
}

function Control({ field, value, fault, set }: { field: FormField; value: string; fault?: { needed: string; needed_zh?: string }; set: (name: string, text: string) => void }) {
  const unit = field.unit && field.unit !== "count" ? { en: field.unit, zh: field.unit_zh } : null;
  const wrong = fault ? { en: `Needed: ${fault.needed}`, zh: `应为：${fault.needed_zh ?? fault.needed}` } : null;
  const yes = field.kind === "number" && field.integer && field.low === 0 && field.high === 1;
  const typed = (event: { currentTarget: { value: string } }) => set(field.name, event.currentTarget.value);
  return (
    <Field label={{ en: sentence(field.en), zh: field.zh }} unit={unit} fault={wrong}>
      {(control) => field.kind === "category" || yes ? (
        <select {...control} name={field.name} value={value} onChange={typed}>
          <option value="">{plain("not known", "未知")}</option>
          {yes ? [["1", plain("yes", "是")], ["0", plain("no", "否")]].map(([code, text]) => <option key={code} value={code}>{text}</option>)
            : field.levels.map((level) => <option key={level} value={level}>{level}</option>)}
        </select>
      ) : <input {...control} name={field.name} inputMode={field.kind === "number" ? "decimal" : undefined} autocomplete="off" value={value} placeholder={range(field)} onInput={typed} />}
    </Field>
  );
}

const legend = (group: string, at: 0 | 1) => (NOTES[group] ? `${GROUPS[group]![at]} (${NOTES[group]![at]})` : GROUPS[group]![at]);
const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

function range({ low, high, kind }: FormField): string {
  if (kind !== "number") return "";
  const [least, most] = [low, high].map((end) => (end === null ? "" : end.toLocaleString("en-US")));
  return least && most ? `${least} – ${most}` : least ? `≥ ${least}` : most ? `≤ ${most}` : "";
}

// The service, asked: JSON in and out, refusals as errors that carry both languages.

import { signal } from "@preact/signals";
import { useCallback, useEffect, useState } from "preact/hooks";

export interface Fault {
  field: string;
  found: string;
  needed: string;
  needed_zh?: string;
}

export interface Problem {
  type?: string;
  title?: string;
  title_zh?: string;
  detail?: string;
  detail_zh?: string;
  errors?: Fault[];
}

// What the service refused, or that it was not reached (status 0).
export class Refused extends Error {
  constructor(readonly status: number, readonly problem: Problem) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
  }
}

// What came between the page and its person: the session ended, or another person signed in in another tab of this
// browser. The shell tells of it over the page, which stays as it is.
export const between = signal<"ended" | "another" | null>(null);
export const renewed = signal(0); // how often somebody came in or left

const came = (error: unknown) =>
  !(error instanceof Refused) ? null : error.status === 401 ? "ended" : error.problem.type === "/problems/another_person" ? "another" : null;

// `look`: asked by the page of itself, perhaps every few seconds. One such is enough for who closed the notice.
export function notice(error: Refused, look = false): void {
  const found = shown ? came(error) : null;
  if (!found || (look && noticed)) return;
  noticed = true;
  between.value = found;
}
let noticed = false;

export interface Person {
  tenant: string;
  who: string;
  name: string;
  licence: string;
}

// As each call tells whom the page shows, so that nothing is done under another name: serving/trust/door.py reads it.
export const named = ({ tenant, who, name, licence }: Person) => [tenant, who, name, licence].map(encodeURIComponent).join("/");
let shown = "";
export const asShown = (): Record<string, string> => (shown ? { "Shown-To": shown } : {});

export function shows(person: Person | null): void {
  shown = person ? named(person) : "";
  between.value = null;
  noticed = false;
  renewed.value = renewed.peek() + 1;
}

// For an Idempotency-Key. randomUUID is there over https and on localhost alone.
export const newKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export interface Asking {
  body?: unknown;
  method?: string;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

export async function send(address: string, { body, method, signal, headers }: Asking = {}): Promise<Response> {
  const told: Record<string, string> = { Accept: "application/json", ...asShown(), ...headers };
  const asked = renewed.peek();
  if (body !== undefined) told["Content-Type"] ??= "application/json";
  let answer: Response;
  try {
    answer = await fetch(address, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: told,
      body: body === undefined ? undefined : body instanceof Blob ? body : JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, {
      title: "The service was not reached", title_zh: "无法连接服务",
      detail: "Check the network, then try again.", detail_zh: "请检查网络后重试。",
    });
  }
  if (!answer.ok) {
    const refused = new Refused(answer.status, (await answer.json().catch(() => ({}))) as Problem);
    // Not where a token is tried, and not what was asked before somebody came in.
    if (address !== "/v1/session" && asked === renewed.peek()) notice(refused, (method ?? "GET") === "GET" && body === undefined);
    throw refused;
  }
  return answer;
}

export async function ask<T>(address: string, asking: Asking = {}): Promise<T> {
  const answer = await send(address, asking);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

export interface Asked<T> {
  value?: T;
  error?: unknown;
  loading: boolean;
  again: () => void;
}

interface Found<T> {
  value?: T;
  error?: unknown;
  loading: boolean;
  of?: string; // the address that gave the value
  waits?: boolean; // for who is shown to sign in again
}

// What an address answers, asked when shown and again when the address changes; null asks nothing.
export function useAsk<T>(address: string | null): Asked<T> {
  const [{ value, error, loading, waits }, setState] = useState<Found<T>>({ loading: address !== null });
  const [times, setTimes] = useState(0);
  useEffect(() => {
    if (address === null) {
      setState({ loading: false });
      return;
    }
    const ending = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    ask<T>(address, { signal: ending.signal }).then(
      (value) => setState({ value, of: address, loading: false }),
      // What is shown of the address stays, and with it what was typed below it; a page that shows nothing says why.
      (error) => ending.signal.aborted || setState((before) => {
        const kept = before.of === address ? { value: before.value, of: address } : {};
        return { ...kept, ...(kept.of && came(error) ? {} : { error }), loading: false, waits: !!came(error) };
      }),
    );
    return () => ending.abort();
  }, [address, times]);
  const again = useCallback(() => setTimes((before) => before + 1), []);
  const entered = renewed.value;
  useEffect(() => { if (waits) again(); }, [entered]);
  return { value, error, loading, again };
}

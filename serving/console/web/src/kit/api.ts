// The service, asked: JSON in and out, refusals as errors that carry both languages.

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

export interface Asking {
  body?: unknown;
  method?: string;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

export async function send(address: string, { body, method, signal, headers }: Asking = {}): Promise<Response> {
  const told: Record<string, string> = { Accept: "application/json", ...headers };
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
  if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => ({}))) as Problem);
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

// What an address answers, asked when shown and again when the address changes; null asks nothing.
export function useAsk<T>(address: string | null): Asked<T> {
  const [state, setState] = useState<Omit<Asked<T>, "again">>({ loading: address !== null });
  const [times, setTimes] = useState(0);
  useEffect(() => {
    if (address === null) {
      setState({ loading: false });
      return;
    }
    const ending = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    ask<T>(address, { signal: ending.signal }).then(
      (value) => setState({ value, loading: false }),
      (error) => ending.signal.aborted || setState((before) => ({ value: before.value, error, loading: false })), // what was typed beside it stays
    );
    return () => ending.abort();
  }, [address, times]);
  const again = useCallback(() => setTimes((before) => before + 1), []);
  return { ...state, again };
}

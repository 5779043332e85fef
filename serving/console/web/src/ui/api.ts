// Client of the HTTP API: JSON requests and responses. Errors carry their message in both languages.

import { signal } from "@preact/signals";
import { useCallback, useEffect, useState } from "preact/hooks";

export interface FieldError {
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
  errors?: FieldError[];
}

// An error response of the service, or status 0 when the service could not be reached.
export class ApiError extends Error {
  constructor(readonly status: number, readonly problem: Problem) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
  }
}

// Set when the session has ended, or another person has signed in in another tab of this browser. The shell then shows a
// dialog over the page, which keeps its state.
export const sessionInterruption = signal<"ended" | "another" | null>(null);
export const sessionRevision = signal(0); // incremented at each sign-in and sign-out

const interruptionOf = (error: unknown) =>
  !(error instanceof ApiError) ? null : error.status === 401 ? "ended" : error.problem.type === "/problems/another_person" ? "another" : null;

// `polling`: the request was made by the page itself, perhaps every few seconds. Once the dialog was dismissed, such a
// request does not open it again.
export function reportInterruption(error: ApiError, polling = false): void {
  const interruption = actingAs ? interruptionOf(error) : null;
  if (!interruption || (polling && interruptionReported)) return;
  interruptionReported = true;
  sessionInterruption.value = interruption;
}
let interruptionReported = false;

export interface Person {
  tenant: string;
  who: string;
  name: string;
  licence: string;
}

// Every request names the person the page is showing, and the service refuses it if the session belongs to someone else,
// so that nothing is done under another person's name.
export const personKey = ({ tenant, who, name, licence }: Person) => [tenant, who, name, licence].map(encodeURIComponent).join("/");
let actingAs = "";
export const actingAsHeader = (): Record<string, string> => (actingAs ? { "Shown-To": actingAs } : {});

export function setPerson(person: Person | null): void {
  actingAs = person ? personKey(person) : "";
  sessionInterruption.value = null;
  interruptionReported = false;
  sessionRevision.value = sessionRevision.peek() + 1;
}

// For an Idempotency-Key. crypto.randomUUID is only available over HTTPS and on localhost.
export const newIdempotencyKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export interface RequestOptions {
  body?: unknown;
  method?: string;
  signal?: AbortSignal;
  headers?: Record<string, string>;
}

export async function sendRequest(address: string, { body, method, signal, headers }: RequestOptions = {}): Promise<Response> {
  const requestHeaders: Record<string, string> = { Accept: "application/json", ...actingAsHeader(), ...headers };
  const revision = sessionRevision.peek();
  if (body !== undefined) requestHeaders["Content-Type"] ??= "application/json";
  let response: Response;
  try {
    response = await fetch(address, {
      method: method ?? (body === undefined ? "GET" : "POST"),
      headers: requestHeaders,
      body: body === undefined ? undefined : body instanceof Blob ? body : JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, {
      title: "The service could not be reached", title_zh: "无法连接服务",
      detail: "Check the network and try again.", detail_zh: "请检查网络后重试。",
    });
  }
  if (!response.ok) {
    const apiError = new ApiError(response.status, (await response.json().catch(() => ({}))) as Problem);
    // Not for a sign-in attempt, and not for a request that was sent before the latest sign-in.
    if (address !== "/v1/session" && revision === sessionRevision.peek()) reportInterruption(apiError, (method ?? "GET") === "GET" && body === undefined);
    throw apiError;
  }
  return response;
}

export async function fetchJson<T>(address: string, options: RequestOptions = {}): Promise<T> {
  const response = await sendRequest(address, options);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export interface Resource<T> {
  value?: T;
  error?: unknown;
  loading: boolean;
  reload: () => void;
}

interface ResourceState<T> {
  value?: T;
  error?: unknown;
  loading: boolean;
  address?: string; // the address that `value` or `error` came from
  awaitsSession?: boolean; // the load failed for want of a session; it is repeated after the next sign-in
}

// Loads a resource when the component mounts and whenever the address changes; null loads nothing. A value or an error
// of an earlier address is never returned: while the next address loads there is none.
export function useResource<T>(address: string | null): Resource<T> {
  const [state, setState] = useState<ResourceState<T>>({ loading: address !== null });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (address === null) {
      setState({ loading: false });
      return;
    }
    const controller = new AbortController();
    setState((previous) => ({ ...previous, loading: true }));
    fetchJson<T>(address, { signal: controller.signal }).then(
      (value) => setState({ value, address, loading: false }),
      // A value of this address stays visible, and with it anything typed below it; only a page without a value shows the error.
      (error) => controller.signal.aborted || setState((previous) => {
        const value = previous.address === address ? previous.value : undefined;
        const isHidden = value !== undefined && interruptionOf(error);
        return { address, value, ...(isHidden ? {} : { error }), loading: false, awaitsSession: !!interruptionOf(error) };
      }),
    );
    return () => controller.abort();
  }, [address, attempt]);
  const reload = useCallback(() => setAttempt((previous) => previous + 1), []);
  const revision = sessionRevision.value;
  useEffect(() => { if (state.awaitsSession) reload(); }, [revision]);
  if (address !== null && state.address !== address) return { loading: true, reload };
  return { value: state.value, error: state.error, loading: state.loading, reload };
}

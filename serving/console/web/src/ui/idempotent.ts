// Idempotent POST: a request that is sent again after a lost response carries the same Idempotency-Key and is recorded only once.

import { useRef } from "preact/hooks";
import { fetchJson, newIdempotencyKey } from "./api";

export function useIdempotentPost() {
  const pending = useRef({ content: "", key: "" });
  return async <T>(address: string, body: unknown): Promise<T> => {
    const content = address + JSON.stringify(body);
    if (pending.current.content !== content) pending.current = { content, key: newIdempotencyKey() };
    const response = await fetchJson<T>(address, { body, headers: { "Idempotency-Key": pending.current.key } });
    pending.current = { content: "", key: "" };
    return response;
  };
}

// What stands where something is not there: being fetched, empty, refused.

import type { ComponentChildren } from "preact";
import { Refused, type Asked, type Problem } from "./api";
import { Say } from "./i18n";

export function Loading({ en = "Loading", zh = "加载中" }: { en?: string; zh?: string }) {
  return <p class="loading" role="status"><i class="spinner" aria-hidden="true" /><Say en={en} zh={zh} /></p>;
}

export function Empty({ en, zh, children }: { en: string; zh: string; children?: ComponentChildren }) {
  return <div class="empty"><p><Say en={en} zh={zh} /></p>{children}</div>;
}

export function Notice({ title, children }: { title: readonly [string, string]; children?: ComponentChildren }) {
  return <section class="card notice"><h1><Say en={title[0]} zh={title[1]} /></h1>{children}</section>;
}

export function Nowhere() {
  return (
    <Notice title={["There is no such page for you", "没有此页面，或您无权查看"]}>
      <a class="button" href="/console"><Say en="To your pages" zh="返回首页" /></a>
    </Notice>
  );
}

// A refusal with each of its faults, and a way to try again where that makes sense.
// `named`: what a field of the request is called in the page.
export function Failed({ error, again, named }: { error: unknown; again?: () => void; named?: (field: string) => readonly [string, string] | undefined }) {
  const { title, title_zh, detail, detail_zh, errors = [] } = problemOf(error);
  return (
    <div class="refusal" role="alert">
      <strong><Say en={title ?? "Refused"} zh={title_zh ?? title ?? "已拒绝"} /></strong>
      {detail && detail !== title ? <p><Say en={detail} zh={detail_zh ?? detail} /></p> : null}
      {errors.length ? (
        <ul>{errors.map((fault, at) => <li key={at}><FieldName field={fault.field} named={named?.(fault.field)} /> {fault.found}: <Say en={fault.needed} zh={fault.needed_zh ?? fault.needed} /></li>)}</ul>
      ) : null}
      {again ? <button type="button" class="quiet" onClick={again}><Say en="Try again" zh="重试" /></button> : null}
    </div>
  );
}

function FieldName({ field, named }: { field: string; named?: readonly [string, string] }) {
  return named ? <strong><Say en={named[0]} zh={named[1]} /></strong> : <code>{field}</code>;
}

function problemOf(error: unknown): Problem {
  if (error instanceof Refused) return error.problem;
  console.error(error);
  return { title: "The page failed", title_zh: "页面出错", detail: String(error), detail_zh: String(error) };
}

// What was asked, once it is there.
export function Shown<T>({ of, children }: { of: Asked<T>; children: (value: T) => ComponentChildren }) {
  if (of.error !== undefined) return <Failed error={of.error} again={of.again} />;
  if (of.value === undefined) return of.loading ? <Loading /> : null;
  return <>{children(of.value)}</>;
}

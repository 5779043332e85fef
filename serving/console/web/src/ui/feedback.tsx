// Placeholders and messages: loading, empty, not found, error.

import type { ComponentChildren } from "preact";
import { ApiError, type Resource, type Problem } from "./api";
import { Text, type Bilingual } from "./i18n";

export function Loading({ en = "Loading", zh = "加载中" }: { en?: string; zh?: string }) {
  return <p class="loading" role="status"><i class="spinner" aria-hidden="true" /><Text en={en} zh={zh} /></p>;
}

export function Empty({ en, zh, children }: { en: string; zh: string; children?: ComponentChildren }) {
  return <div class="empty"><p><Text en={en} zh={zh} /></p>{children}</div>;
}

export function Notice({ title, children }: { title: Bilingual; children?: ComponentChildren }) {
  return <section class="card notice"><h1><Text en={title[0]} zh={title[1]} /></h1>{children}</section>;
}

export function NotFound() {
  return (
    <Notice title={["The page does not exist, or you have no access to it", "没有此页面，或您无权查看"]}>
      <a class="button" href="/console"><Text en="Back to the start page" zh="返回首页" /></a>
    </Notice>
  );
}

// An error with the faults of single fields, and a button to try again where that makes sense.
// `fieldLabel`: the label on this page of a field of the request.
export function ErrorMessage({ error, retry, fieldLabel }: { error: unknown; retry?: () => void; fieldLabel?: (field: string) => Bilingual | undefined }) {
  const { title, title_zh, detail, detail_zh, errors = [] } = problemOf(error);
  return (
    <div class="refusal" role="alert">
      <strong><Text en={title ?? "Request refused"} zh={title_zh ?? title ?? "已拒绝"} /></strong>
      {detail && detail !== title ? <p><Text en={detail} zh={detail_zh ?? detail} /></p> : null}
      {errors.length ? (
        <ul>{errors.map((fault, index) => <li key={index}><FieldName field={fault.field} label={fieldLabel?.(fault.field)} /> {fault.found}: <Text en={fault.needed} zh={fault.needed_zh ?? fault.needed} /></li>)}</ul>
      ) : null}
      {retry ? <button type="button" class="quiet" onClick={retry}><Text en="Try again" zh="重试" /></button> : null}
    </div>
  );
}

function FieldName({ field, label }: { field: string; label?: Bilingual }) {
  return label ? <strong><Text en={label[0]} zh={label[1]} /></strong> : <code>{field}</code>;
}

function problemOf(error: unknown): Problem {
  if (error instanceof ApiError) return error.problem;
  console.error(error);
  return { title: "The page failed", title_zh: "页面出错", detail: String(error), detail_zh: String(error) };
}

// Renders a resource once it is loaded; until then a spinner, or the error.
export function ResourceView<T>({ resource, children }: { resource: Resource<T>; children: (value: T) => ComponentChildren }) {
  if (resource.error !== undefined) return <ErrorMessage error={resource.error} retry={resource.reload} />;
  if (resource.value === undefined) return resource.loading ? <Loading /> : null;
  return <>{children(resource.value)}</>;
}

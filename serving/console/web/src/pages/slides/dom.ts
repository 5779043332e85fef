// DOM helpers of the viewer, which builds its elements without Preact and without markup.

import { ApiError } from "../../ui/api";
import type { Labels } from "../../ui/i18n";

export type Child = Node | string | null | undefined;

// Declared as a method, so that a handler of a more specific event is accepted too.
type Listener = { handle(event: Event): void }["handle"];
export type Attributes = Record<string, string | number | boolean | null | Listener>;

type TagOf<Spec extends string> = Spec extends `${infer Tag}.${string}` ? Tag : Spec;
type ElementOf<Spec extends string> = TagOf<Spec> extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[TagOf<Spec>] : HTMLElement;

// The element of slide-page.tsx with this id.
export function byId<Type extends HTMLElement = HTMLElement>(id: string): Type {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no element #${id}`);
  return element as Type;
}

// Creates an element: createElement("p.note", { title: "x" }, "text", child, ...). Text never becomes markup.
export function createElement<Spec extends string>(spec: Spec, attributes: Attributes = {}, ...children: (Child | Child[])[]): ElementOf<Spec> {
  const [tag = "", ...classes] = spec.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice("on".length), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element as ElementOf<Spec>;
}

// A text in both languages; the style sheet shows the selected one, or both.
export function bilingual(en: string, zh: string): HTMLSpanElement {
  return createElement("span.both", {}, createElement("span", { lang: "en" }, en), " ", createElement("span", { lang: "zh-CN" }, zh));
}

export function bilingualLabel(labels: Labels, code: string): HTMLSpanElement {
  const [en, zh] = labels[code] ?? [code, code];
  return bilingual(en, zh);
}

// An error of the API in both languages, with the faults of single fields.
export function errorElement(error: unknown): HTMLDivElement {
  if (!(error instanceof ApiError)) console.error(error);
  const message = error instanceof Error ? error.message : String(error);
  const problem = error instanceof ApiError ? error.problem : { title: "The page failed", title_zh: "页面出错", detail: String(error), detail_zh: String(error) };
  const { title = message, title_zh: titleZh, detail = message, detail_zh: detailZh, errors = [] } = problem;
  const faults = errors.map((fault) => createElement("li", {}, createElement("code", {}, fault.field), ` ${fault.found}: `, bilingual(fault.needed, fault.needed_zh || fault.needed)));
  return createElement("div.refusal", { role: "alert" },
    createElement("strong", {}, bilingual(title, titleZh || title)), createElement("p", {}, bilingual(detail, detailZh || detail)),
    faults.length ? createElement("ul", {}, faults) : null);
}

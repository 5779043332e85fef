// English and Chinese: every text exists in both, and the page shows the selected one, or both side by side.

import { signal } from "@preact/signals";

// English and Chinese of one text.
export type Bilingual = readonly [en: string, zh: string];
export type Labels = Record<string, Bilingual>; // of the codes of one kind

export type Language = "en" | "zh" | "both";

const STORAGE_KEY = "language";

function initialLanguage(): Language {
  try {
    const stored = localStorage.getItem(STORAGE_KEY);
    if (stored === "en" || stored === "zh" || stored === "both") return stored;
  } catch {
    // storage is disabled: the choice lasts as long as the page
  }
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(initialLanguage());

language.subscribe((selected) => {
  document.documentElement.lang = selected === "zh" ? "zh-CN" : "en";
  document.documentElement.dataset.language = selected;
});

export function setLanguage(selected: Language): void {
  language.value = selected;
  try {
    localStorage.setItem(STORAGE_KEY, selected);
  } catch {
    // as above
  }
}

// A text of the page.
export function Text({ en, zh }: { en: string; zh: string }) {
  const selected = language.value;
  if (selected === "en") return <span lang="en">{en}</span>;
  if (selected === "zh") return <span lang="zh-CN">{zh}</span>;
  return <span class="both"><span lang="en">{en}</span> <span lang="zh-CN">{zh}</span></span>;
}

// The same as a string, where no markup is possible: accessible names, placeholders, options, labels of charts.
export function translate(en: string, zh: string): string {
  const selected = language.value;
  return selected === "en" ? en : selected === "zh" ? zh : `${en} ${zh}`;
}

export const labelOf = (labels: Labels, code: string) => {
  const [en, zh] = labels[code] ?? [code, code];
  return <Text en={en} zh={zh} />;
};

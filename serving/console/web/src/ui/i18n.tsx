// Two languages: each text is said in both, and the chosen one is shown, or both side by side.

import { signal } from "@preact/signals";

export type Language = "en" | "zh" | "both";

const KEPT = "language";

function first(): Language {
  try {
    const kept = localStorage.getItem(KEPT);
    if (kept === "en" || kept === "zh" || kept === "both") return kept;
  } catch {
    // storage is off: the choice lasts as long as the page
  }
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(first());

language.subscribe((chosen) => {
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  document.documentElement.dataset.language = chosen;
});

export function choose(chosen: Language): void {
  language.value = chosen;
  try {
    localStorage.setItem(KEPT, chosen);
  } catch {
    // as above
  }
}

// A text in the page.
export function Say({ en, zh }: { en: string; zh: string }) {
  const chosen = language.value;
  if (chosen === "en") return <span lang="en">{en}</span>;
  if (chosen === "zh") return <span lang="zh-CN">{zh}</span>;
  return <span class="both"><span lang="en">{en}</span> <span lang="zh-CN">{zh}</span></span>;
}

// The same where only text may stand: names for screen readers, placeholders, options, titles in a picture.
export function plain(en: string, zh: string): string {
  const chosen = language.value;
  return chosen === "en" ? en : chosen === "zh" ? zh : `${en} ${zh}`;
}

export const word = (table: Record<string, readonly [string, string]>, code: string) => {
  const [en, zh] = table[code] ?? [code, code];
  return <Say en={en} zh={zh} />;
};

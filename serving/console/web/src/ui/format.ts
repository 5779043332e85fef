// Formatting of numbers, amounts and timestamps for display.

import type { Bilingual, Labels } from "./i18n";

export const formatNumber = (value: number, digits = 0) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
// By ISO 4217 code: the English prefix of an amount, and the Chinese unit.
const CURRENCY_UNITS: Labels = { CNY: ["RMB", "元"], TWD: ["TWD", "新台币元"], USD: ["USD", "美元"] };
export const unitOf = (currency: string | null | undefined): Bilingual => CURRENCY_UNITS[currency ?? ""] ?? [currency ?? "", currency ?? ""];
export const formatAmount = (value: number | null | undefined) => (value === null || value === undefined ? "–" : formatNumber(Math.round(value)));
export const formatMoney = (value: number | null | undefined, currency: string | null | undefined) =>
  value === null || value === undefined ? "–" : `${unitOf(currency)[0]} ${formatAmount(value)}`.trim();
export const formatPercent = (value: number, digits = 1) => `${(100 * value).toFixed(digits)} %`;
export const formatSigned = (value: number, digits = 1) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
export const formatTimestamp = (text: string | null | undefined) => (text ? text.replace("T", " ").replace(/(:\d\d)(\.\d+)?(Z|\+00:00)$/, "$1 UTC") : "–");

// Numbers and times as they are shown; each with its unit.

export const number = (value: number, digits = 0) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
// Of ISO 4217: as it stands before an amount, and as a unit.
const CURRENCIES: Record<string, readonly [string, string]> = { CNY: ["RMB", "元"], TWD: ["TWD", "新台币元"], USD: ["USD", "美元"] };
export const unitOf = (currency: string | null | undefined): readonly [string, string] => CURRENCIES[currency ?? ""] ?? [currency ?? "", currency ?? ""];
export const amount = (value: number | null | undefined) => (value === null || value === undefined ? "–" : number(Math.round(value)));
export const money = (value: number | null | undefined, currency: string | null | undefined) =>
  value === null || value === undefined ? "–" : `${unitOf(currency)[0]} ${amount(value)}`.trim();
export const percent = (value: number, digits = 1) => `${(100 * value).toFixed(digits)} %`;
export const signed = (value: number, digits = 1) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
export const moment = (text: string | null | undefined) => (text ? text.replace("T", " ").replace(/(:\d\d)(\.\d+)?(Z|\+00:00)$/, "$1 UTC") : "–");

// Numbers and times as they are shown; each with its unit.

export const number = (value: number, digits = 0) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const money = (value: number | null | undefined, currency = "RMB") =>
  value === null || value === undefined ? "–" : `${currency} ${number(Math.round(value))}`;
export const percent = (value: number, digits = 1) => `${(100 * value).toFixed(digits)} %`;
export const signed = (value: number, digits = 1) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
export const moment = (text: string | null | undefined) => (text ? text.replace("T", " ").replace(/(:\d\d)(\.\d+)?(Z|\+00:00)$/, "$1 UTC") : "–");

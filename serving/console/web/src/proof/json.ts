// JSON with its numbers kept as they were written: whole ones as bigint, others as number, so that what was hashed can be
// written again byte by byte. As serving/trust/verify.py reads and writes it: Python's json.

import { NotProved } from "./bytes";

export type Json = null | boolean | string | bigint | number | Json[] | Map<string, Json>;

const DEEPEST = 100; // lists and objects within one another
const DIGITS = 4300; // of a whole number; Python reads no longer one
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
export const HALF = /\p{Surrogate}/u; // of a pair, which no UTF-8 tells
const BLANKS = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const WORDS: [string, Json][] = [["null", null], ["true", true], ["false", false], ["NaN", NaN], ["Infinity", Infinity], ["-Infinity", -Infinity]];
const ESCAPES: Record<string, string> = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

export function parse(text: string): Json {
  let at = 0;

  function wrong(needed: string, needed_zh: string): never {
    throw new NotProved(`at character ${at}, ${needed} is needed`, `第 ${at} 个字符处需要${needed_zh}`);
  }
  function take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  }
  function next(letter: string): boolean {
    take(BLANKS);
    if (text[at] !== letter) return false;
    at += 1;
    return true;
  }
  function string(): string {
    at += 1;
    let found = "";
    for (;;) {
      found += take(PLAIN)![0];
      const letter = text[at];
      if (letter === '"') {
        at += 1;
        return found;
      }
      if (letter !== "\\") wrong("the end of the text", "字符串结尾");
      const escaped = text[at + 1] ?? "";
      const hex = escaped === "u" ? text.slice(at + 2, at + 6) : "";
      if (escaped === "u" && /^[0-9a-fA-F]{4}$/.test(hex)) {
        found += String.fromCharCode(parseInt(hex, 16));
        at += 6;
      } else if (escaped in ESCAPES) {
        found += ESCAPES[escaped];
        at += 2;
      } else wrong("an escape", "转义符");
    }
  }
  function value(depth: number): Json {
    take(BLANKS);
    const letter = text[at];
    if (letter === '"') return string();
    if (depth >= DEEPEST && (letter === "{" || letter === "[")) wrong(`a depth of at most ${DEEPEST}`, `不超过 ${DEEPEST} 层的嵌套`);
    if (letter === "{") return object(depth);
    if (letter === "[") return list(depth);
    for (const [word, means] of WORDS) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return means;
      }
    }
    const found = take(NUMBER);
    if (!found) wrong("a value", "值");
    if (found[1] !== undefined || found[2] !== undefined) return Number(found[0]);
    if (found[0].replace("-", "").length > DIGITS) wrong(`a number of at most ${DIGITS} digits`, `不超过 ${DIGITS} 位的数字`);
    return BigInt(found[0]);
  }
  function list(depth: number): Json[] {
    at += 1;
    const found: Json[] = [];
    if (next("]")) return found;
    for (;;) {
      found.push(value(depth + 1));
      if (next("]")) return found;
      if (!next(",")) wrong("a comma or ]", "逗号或 ]");
    }
  }
  function object(depth: number): Map<string, Json> {
    at += 1;
    const found = new Map<string, Json>();
    if (next("}")) return found;
    for (;;) {
      take(BLANKS);
      if (text[at] !== '"') wrong("a name", "名称");
      const name = string();
      if (found.has(name)) wrong("each name once in its object", "对象内各名称仅出现一次");
      if (!next(":")) wrong("a colon", "冒号");
      found.set(name, value(depth + 1));
      if (next("}")) return found;
      if (!next(",")) wrong("a comma or }", "逗号或 }");
    }
  }

  const found = value(0);
  take(BLANKS);
  if (at < text.length) wrong("the end", "结尾");
  return found;
}

// By code points, as Python sorts; JavaScript's own order is that of UTF-16.
function before(one: string, other: string): number {
  const a = [...one], b = [...other];
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const step = a[i]!.codePointAt(0)! - b[i]!.codePointAt(0)!;
    if (step) return step;
  }
  return a.length - b.length;
}

export const sorted = (value: Map<string, Json>): [string, Json][] => [...value].sort(([one], [other]) => before(one, other));

// A number's shortest form that reads back the same, as Python writes it: 1e-05, 1e+16, 0.5, 100.0.
export function written(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  const [figures = "0", power = "0"] = Math.abs(value).toExponential().split("e");
  const digits = figures.replace(".", "");
  const point = Number(power) + 1; // places of the digits before the point
  if (value !== 0 && (point <= -4 || point > 16)) {
    const least = Math.abs(point - 1).toString().padStart(2, "0");
    return `${sign}${digits[0]}${digits.length > 1 ? `.${digits.slice(1)}` : ""}e${point - 1 < 0 ? "-" : "+"}${least}`;
  }
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  const whole = digits.slice(0, point).padEnd(point, "0");
  return `${sign}${whole}.${digits.slice(point) || "0"}`;
}

export function quoted(text: string): string {
  if (HALF.test(text)) throw new NotProved("half of a surrogate pair stands alone", "含不成对的代理字符");
  return JSON.stringify(text);
}

// Keys sorted, no blanks, as it was hashed.
export function canonical(value: Json): string {
  if (typeof value === "number" && !Number.isFinite(value)) throw new NotProved("a number that is none", "含非数值");
  if (typeof value === "number") return written(value);
  if (typeof value === "string") return quoted(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value instanceof Map) return `{${sorted(value).map(([name, each]) => `${quoted(name)}:${canonical(each)}`).join(",")}}`;
  return String(value);
}

// What stands for the inputs of a decision: numbers as serving/trust/verify.py's `indicators` writes them.
export function indicators(value: Json): string {
  if (typeof value === "number") {
    const told = written(value);
    const parts = /^(.*?)e-0(.*)$/.exec(told);
    if (!parts) return told;
    const [, figures = "", power = ""] = parts;
    if (power === "5") return `${figures.startsWith("-") ? "-" : ""}0.0000${figures.replace("-", "").replace(".", "")}`;
    return `${figures}e-${power}`;
  }
  if (Array.isArray(value)) return `[${value.map(indicators).join(",")}]`;
  if (value instanceof Map) return `{${sorted(value).map(([name, each]) => `${quoted(name)}:${indicators(each)}`).join(",")}}`;
  return canonical(value);
}

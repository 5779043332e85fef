// JSON as Python's json module reads and writes it: integers as bigint and other numbers as number, so that a hashed
// document can be written again byte for byte.

import { ProofError } from "./bytes";

export type Json = null | boolean | string | bigint | number | Json[] | Map<string, Json>;

const MAX_DEPTH = 100; // of nested lists and objects
const MAX_DIGITS = 4300; // of an integer; Python's limit
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
export const LONE_SURROGATE = /\p{Surrogate}/u; // cannot be encoded in UTF-8
const BLANKS = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const LITERALS: [string, Json][] = [["null", null], ["true", true], ["false", false], ["NaN", NaN], ["Infinity", Infinity], ["-Infinity", -Infinity]];
const ESCAPES: Record<string, string> = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };

export function parse(text: string): Json {
  let position = 0;

  function fail(expected: string, expectedZh: string): never {
    throw new ProofError(`at character ${position}, ${expected} is expected`, `第 ${position} 个字符处需要${expectedZh}`);
  }
  function match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = position;
    const result = pattern.exec(text);
    if (result) position = pattern.lastIndex;
    return result;
  }
  function consume(character: string): boolean {
    match(BLANKS);
    if (text[position] !== character) return false;
    position += 1;
    return true;
  }
  function string(): string {
    position += 1;
    let result = "";
    for (;;) {
      result += match(PLAIN)![0];
      const character = text[position];
      if (character === '"') {
        position += 1;
        return result;
      }
      if (character !== "\\") fail("the end of the string", "字符串结尾");
      const escaped = text[position + 1] ?? "";
      const hex = escaped === "u" ? text.slice(position + 2, position + 6) : "";
      if (escaped === "u" && /^[0-9a-fA-F]{4}$/.test(hex)) {
        result += String.fromCharCode(parseInt(hex, 16));
        position += 6;
      } else if (escaped in ESCAPES) {
        result += ESCAPES[escaped];
        position += 2;
      } else fail("an escape", "转义符");
    }
  }
  function value(depth: number): Json {
    match(BLANKS);
    const character = text[position];
    if (character === '"') return string();
    if (depth >= MAX_DEPTH && (character === "{" || character === "[")) fail(`a depth of at most ${MAX_DEPTH}`, `不超过 ${MAX_DEPTH} 层的嵌套`);
    if (character === "{") return object(depth);
    if (character === "[") return list(depth);
    for (const [literal, meaning] of LITERALS) {
      if (text.startsWith(literal, position)) {
        position += literal.length;
        return meaning;
      }
    }
    const number = match(NUMBER);
    if (!number) fail("a value", "值");
    if (number[1] !== undefined || number[2] !== undefined) return Number(number[0]);
    if (number[0].replace("-", "").length > MAX_DIGITS) fail(`a number of at most ${MAX_DIGITS} digits`, `不超过 ${MAX_DIGITS} 位的数字`);
    return BigInt(number[0]);
  }
  function list(depth: number): Json[] {
    position += 1;
    const items: Json[] = [];
    if (consume("]")) return items;
    for (;;) {
      items.push(value(depth + 1));
      if (consume("]")) return items;
      if (!consume(",")) fail("a comma or ]", "逗号或 ]");
    }
  }
  function object(depth: number): Map<string, Json> {
    position += 1;
    const entries = new Map<string, Json>();
    if (consume("}")) return entries;
    for (;;) {
      match(BLANKS);
      if (text[position] !== '"') fail("a name", "名称");
      const name = string();
      if (entries.has(name)) fail("a unique name", "不重复的名称");
      if (!consume(":")) fail("a colon", "冒号");
      entries.set(name, value(depth + 1));
      if (consume("}")) return entries;
      if (!consume(",")) fail("a comma or }", "逗号或 }");
    }
  }

  const result = value(0);
  match(BLANKS);
  if (position < text.length) fail("the end", "结尾");
  return result;
}

// By code point, as Python sorts; JavaScript compares UTF-16 code units.
function compareCodePoints(left: string, right: string): number {
  const a = [...left], b = [...right];
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = a[i]!.codePointAt(0)! - b[i]!.codePointAt(0)!;
    if (difference) return difference;
  }
  return a.length - b.length;
}

export const sortedEntries = (value: Map<string, Json>): [string, Json][] => [...value].sort(([left], [right]) => compareCodePoints(left, right));

// The shortest decimal that reads back as the same number, in Python's notation: 1e-05, 1e+16, 0.5, 100.0.
export function formatFloat(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  const [mantissa = "0", exponent = "0"] = Math.abs(value).toExponential().split("e");
  const digits = mantissa.replace(".", "");
  const point = Number(exponent) + 1; // number of digits before the decimal point
  if (value !== 0 && (point <= -4 || point > 16)) {
    const exponentDigits = Math.abs(point - 1).toString().padStart(2, "0");
    return `${sign}${digits[0]}${digits.length > 1 ? `.${digits.slice(1)}` : ""}e${point - 1 < 0 ? "-" : "+"}${exponentDigits}`;
  }
  if (point <= 0) return `${sign}0.${"0".repeat(-point)}${digits}`;
  const integerPart = digits.slice(0, point).padEnd(point, "0");
  return `${sign}${integerPart}.${digits.slice(point) || "0"}`;
}

export function quote(text: string): string {
  if (LONE_SURROGATE.test(text)) throw new ProofError("the text contains an unpaired surrogate", "含不成对的代理字符");
  return JSON.stringify(text);
}

// Sorted keys, no whitespace: the form that was hashed.
export function canonical(value: Json): string {
  if (typeof value === "number" && !Number.isFinite(value)) throw new ProofError("a number is not finite", "含非有限数值");
  if (typeof value === "number") return formatFloat(value);
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value instanceof Map) return `{${sortedEntries(value).map(([name, item]) => `${quote(name)}:${canonical(item)}`).join(",")}}`;
  return String(value);
}

// The form in which a decision's inputs were hashed; some small numbers differ from canonical JSON, as in `indicators` of verify.py.
export function indicators(value: Json): string {
  if (typeof value === "number") {
    const text = formatFloat(value);
    const match = /^(.*?)e-0(.*)$/.exec(text);
    if (!match) return text;
    const [, mantissa = "", exponent = ""] = match;
    if (exponent === "5") return `${mantissa.startsWith("-") ? "-" : ""}0.0000${mantissa.replace("-", "").replace(".", "")}`;
    return `${mantissa}e-${exponent}`;
  }
  if (Array.isArray(value)) return `[${value.map(indicators).join(",")}]`;
  if (value instanceof Map) return `{${sortedEntries(value).map(([name, item]) => `${quote(name)}:${indicators(item)}`).join(",")}}`;
  return canonical(value);
}

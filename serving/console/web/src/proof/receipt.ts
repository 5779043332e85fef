// Verifies a receipt in the browser, with nothing but the log's public key: the same steps as the stand-alone verify.py,
// against which tests/serving/console/test_proof.py checks it.

import { proofMessage, fromBase64, fromHex, hex, ProofError, equalBytes, sha256, text, stripBlanks, utf8, type Bytes } from "./bytes";
import { canonical, indicators, parse, type Json } from "./json";
import { openCheckpoint, type Checkpoint, type Key } from "./checkpoint";

export type Receipt = Map<string, Json>;
export type StepName = "signature" | "inclusion" | "lineage" | "row" | "decision" | "answer" | "request";
export type Step = { step: StepName } & ({ state: "proved" } | { state: "skipped" } | { state: "failed"; en: string; zh: string });

export interface Verdict {
  proved: boolean;
  checkpoint: Checkpoint | null;
  steps: Step[];
}

const MAX_BYTES = 1_000_000; // of a receipt
const REQUIRED_FIELDS = ["receipt", "leaf", "index", "proof", "checkpoint"];
const OPTIONAL_FIELDS = ["lineage", "salt", "row"];
const MAX_CLOCK_SKEW_MS = 120_000; // between the clocks of those that write entries and sign checkpoints
const BEGIN = "-----BEGIN YUHENG RECEIPT-----", END = "-----END YUHENG RECEIPT-----";

// --- reading a receipt

export async function readReceipt(content: Bytes): Promise<Receipt> {
  if (content.length > MAX_BYTES) throw new ProofError(`the receipt has ${content.length} bytes; the maximum is ${MAX_BYTES}`, `凭证为 ${content.length} 字节；最多读取 ${MAX_BYTES} 字节`);
  let parsed: Json;
  try {
    let json = text(content);
    const begin = json.indexOf(BEGIN);
    if (begin >= 0) {
      const block = json.slice(begin + BEGIN.length).split(END)[0]!;
      json = text(await inflate(fromBase64(stripBlanks(block))));
    }
    parsed = parse(json);
  } catch (error) {
    throw new ProofError(`the receipt cannot be read: ${proofMessage(error).en}`, `凭证无法读取：${proofMessage(error).zh}`);
  }
  const names = parsed instanceof Map ? [...parsed.keys()] : [];
  if (!(parsed instanceof Map) || REQUIRED_FIELDS.some((name) => !names.includes(name)) || names.some((name) => ![...REQUIRED_FIELDS, ...OPTIONAL_FIELDS].includes(name))) {
    throw new ProofError(`a receipt must contain ${REQUIRED_FIELDS.join(", ")} and can contain ${OPTIONAL_FIELDS.join(", ")}; found ${names.join(", ") || "none of them"}`, `凭证须含 ${REQUIRED_FIELDS.join("、")}，可含 ${OPTIONAL_FIELDS.join("、")}`);
  }
  const version = parsed.get("receipt");
  if (version !== 1n && version !== 1 && version !== true) throw new ProofError("unsupported version of the receipt; this page supports version 1", "凭证版本不受支持；本页仅支持第 1 版");
  return parsed;
}

async function inflate(compressed: Bytes): Promise<Bytes> {
  const reader = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > MAX_BYTES) throw new ProofError("it is too large", "内容过大");
    chunks.push(value);
  }
  return new Uint8Array(await new Blob(chunks as Bytes[]).arrayBuffer());
}

// --- hashes

export const leafHash = (body: Uint8Array) => sha256(Uint8Array.of(0), body);
const nodeHash = (left: Uint8Array, right: Uint8Array) => sha256(Uint8Array.of(1), left, right);
const salted = async (salt: Uint8Array, content: Uint8Array) => hex(await sha256(salt, content));

// The root computed from a leaf hash and its inclusion path (RFC 9162, 2.1.3.2).
export async function rootFrom(index: bigint, size: bigint, leaf: Bytes, path: Bytes[]): Promise<Bytes> {
  if (index < 0n || index >= size) throw new ProofError(`entry ${index} is beyond the checkpoint's ${size} entries`, `第 ${index} 条不在检查点的 ${size} 条之内`);
  let position = index, last = size - 1n, hash = leaf;
  for (const sibling of path) {
    if (last === 0n) throw new ProofError("the proof is too long", "证明过长");
    if (position & 1n || position === last) {
      hash = await nodeHash(sibling, hash);
      while (!(position & 1n) && position) [position, last] = [position >> 1n, last >> 1n];
    } else hash = await nodeHash(hash, sibling);
    [position, last] = [position >> 1n, last >> 1n];
  }
  if (last) throw new ProofError("the proof is too short", "证明过短");
  return hash;
}

// --- typed access to its values; a value of the wrong type fails the step

function object(value: Json | undefined): Map<string, Json> {
  if (value instanceof Map) return value;
  throw new ProofError("an object is required", "需要对象");
}

function list(value: Json | undefined): Json[] {
  if (Array.isArray(value)) return value;
  throw new ProofError("a list is required", "需要列表");
}

function string(value: Json | undefined): string {
  if (typeof value === "string") return value;
  throw new ProofError("a string is required", "需要字符串");
}

function integer(value: Json | undefined): bigint {
  if (typeof value === "bigint") return value;
  throw new ProofError("an integer is required", "需要整数");
}

function digest(value: Json | undefined): Bytes {
  const bytes = fromHex(value);
  if (bytes.length !== 32) throw new ProofError(`a digest must have 32 bytes; found ${bytes.length}`, `摘要应为 32 字节，实际为 ${bytes.length} 字节`);
  return bytes;
}

// A time as the log writes it: 2026-11-25T08:00:00.000Z.
function milliseconds(value: Json | undefined): number {
  const written = string(value);
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(written) && !written.startsWith("0000") ? new Date(written) : null;
  if (time === null || Number.isNaN(time.getTime()) || time.toISOString() !== written) throw new ProofError(`${JSON.stringify(written.slice(0, 40))} is not a time such as 2026-11-25T08:00:00.000Z`, `${JSON.stringify(written.slice(0, 40))} 不是形如 2026-11-25T08:00:00.000Z 的时间`);
  return time.getTime();
}

const isPresent = (value: Json | undefined): boolean => value !== undefined && value !== null;

// --- the steps

// `answer`: the decision's bytes, as they were sent. `request`: the JSON of its request. `id`: the decision in question,
// if there is one: the receipt of a different decision proves nothing about it.
export async function verify(key: Key, receipt: Receipt, answer: Bytes | null = null, request: Bytes | null = null, id: string | null = null): Promise<Verdict> {
  let checkpoint: Checkpoint | null = null;
  const leaf = () => object(receipt.get("leaf"));
  const checks: [StepName, boolean, () => Promise<void>][] = [
    ["signature", true, async () => { checkpoint = await openCheckpoint(string(receipt.get("checkpoint")), key); }],
    ["inclusion", true, () => proveInclusion(receipt, checkpoint!)],
    ["lineage", isPresent(receipt.get("lineage")), async () => {
      if (hex(await sha256(utf8(canonical(receipt.get("lineage")!)))) !== leaf().get("lineage")) throw new ProofError("the provenance does not match the log", "来源信息与日志所载不符");
    }],
    ["row", isPresent(receipt.get("row")) || receipt.get("leaf") instanceof Map && leaf().get("kind") === "chunk", () => proveRow(leaf(), receipt.get("row"))],
    ["decision", id !== null, async () => {
      if (decisionIdOf(receipt) !== id) throw new ProofError(`the receipt belongs to ${decisionIdOf(receipt)}`, `该凭证属于 ${decisionIdOf(receipt)}`);
    }],
    ["answer", answer !== null, () => proveAnswer(leaf(), receipt, answer!)],
    ["request", request !== null, () => proveRequest(leaf(), receipt, request!)],
  ];
  const steps: Step[] = [];
  for (const [step, applicable, prove] of checks) {
    if (!applicable) {
      steps.push({ step, state: "skipped" });
      continue;
    }
    try {
      await prove();
      steps.push({ step, state: "proved" });
    } catch (error) {
      if (!(error instanceof ProofError)) throw error;
      steps.push({ step, state: "failed", en: error.en, zh: error.zh });
      break; // the following steps depend on it
    }
  }
  return { proved: steps.every((result) => result.state !== "failed"), checkpoint, steps };
}

// The id of the decision that a receipt belongs to.
export function decisionIdOf(receipt: Receipt): string {
  const leaf = object(receipt.get("leaf")), row = receipt.get("row");
  return isPresent(row) ? `${leaf.get("batch")}-${object(row).get("row")}` : String(leaf.get("ref"));
}

async function proveInclusion(receipt: Receipt, checkpoint: Checkpoint): Promise<void> {
  if (!object(receipt.get("leaf")).has("kind")) throw new ProofError("the log entry has no kind", "该条未载明类别");
  const path = list(receipt.get("proof")).map(digest);
  const hash = await leafHash(utf8(canonical(receipt.get("leaf") ?? null)));
  if (!equalBytes(await rootFrom(integer(receipt.get("index")), checkpoint.size, hash, path), checkpoint.root)) {
    throw new ProofError("the entry is not in the log: the receipt's entry, index or proof was altered", "该条不在日志中：凭证的内容、序号或证明被改动");
  }
  const at = object(receipt.get("leaf")).get("at");
  if (milliseconds(at) - milliseconds(checkpoint.signedAt) > MAX_CLOCK_SKEW_MS) {
    throw new ProofError(`the entry is dated ${at}, after its checkpoint of ${checkpoint.signedAt}`, `该条所载时间 ${at} 晚于其检查点 ${checkpoint.signedAt}`);
  }
}

async function proveRow(leaf: Map<string, Json>, value: Json | undefined): Promise<void> {
  if (!isPresent(value) || leaf.get("kind") !== "chunk") throw new ProofError("a row can only be proved by a receipt of its batch's chunk", "批次中的行只能由其所在分段的凭证证明");
  const row = object(value);
  if ([...row.keys()].some((name) => !["row", "hash", "proof", "salt"].includes(name))) throw new ProofError("the receipt's row contains more than its proof", "凭证的行含有证明以外的内容");
  const position = integer(row.get("row")) - integer(leaf.get("first"));
  const path = list(row.get("proof")).map(digest);
  if (!equalBytes(await rootFrom(position, integer(leaf.get("rows")), digest(row.get("hash")), path), digest(leaf.get("root")))) {
    throw new ProofError("the row is not in the logged chunk", "该行不在日志所载的分段中");
  }
}

async function proveAnswer(leaf: Map<string, Json>, receipt: Receipt, answer: Bytes): Promise<void> {
  if (isPresent(receipt.get("row"))) {
    const row = object(receipt.get("row"));
    if (equalBytes(await leafHash(Uint8Array.from([...fromHex(row.get("salt")), ...answer])), digest(row.get("hash")))) return;
    throw new ProofError("the answer does not match the recorded row; provide its bytes as they were sent", "答复与记录的行不符；请提供原始字节");
  }
  const salt = fromHex(receipt.get("salt"));
  if (leaf.get("kind") === "slide_state") {
    if ((await salted(salt, utf8(canonical(parse(text(answer)))))) === leaf.get("reading")) return;
    throw new ProofError("the reading does not match the record", "判读结果与记录不符");
  }
  if ((await salted(salt, answer)) !== leaf.get("answer")) {
    throw new ProofError("the answer does not match the record; provide its bytes as they were sent", "答复与记录不符；请提供原始字节");
  }
}

async function proveRequest(leaf: Map<string, Json>, receipt: Receipt, request: Bytes): Promise<void> {
  if (!leaf.has("request")) throw new ProofError("this receipt does not belong to a decision on a single applicant and cannot prove a request", "该凭证不属于单个申请人的决定，不能证明请求");
  const fields = object(parse(text(request))), recorded = object(leaf.get("request")), salt = fromHex(receipt.get("salt"));
  const names = [...new Set([...fields.keys(), ...recorded.keys()])].filter((name) => fields.has(name) !== recorded.has(name));
  if (names.length > 0) throw new ProofError(`the request and the recorded one differ in having ${names.join(", ")}`, `请求与所记录者的字段不同：${names.join("、")}`);
  for (const [name, value] of fields) {
    if ((await salted(salt, utf8(`${name}\0${indicators(value)}`))) !== recorded.get(name)) throw new ProofError(`${name} differs from the one in the recorded request`, `${name} 与所记录的请求不符`);
  }
}

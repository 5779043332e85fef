// A receipt verified in the browser with nothing but the log's public key: the same steps as serving/trust/verify.py, to
// which tests/serving/console/test_proof.py holds it. Each step says what it proves.

import { because, fromBase64, fromHex, hex, NotProved, same, sha256, text, unblanked, utf8, type Bytes } from "./bytes";
import { canonical, indicators, parse, type Json } from "./json";
import { openNote, type Checkpoint, type Key } from "./checkpoint";

export type Receipt = Map<string, Json>;
export type StepName = "signature" | "inclusion" | "lineage" | "row" | "decision" | "answer" | "request";
export type Step = { step: StepName } & ({ state: "proved" } | { state: "not asked" } | { state: "failed"; en: string; zh: string });

export interface Verdict {
  proved: boolean;
  checkpoint: Checkpoint | null;
  steps: Step[];
}

const LARGEST = 1_000_000; // bytes of a receipt
const NEEDED = ["receipt", "leaf", "index", "proof", "checkpoint"];
const MORE = ["lineage", "salt", "row"];
const BEGIN = "-----BEGIN YUHENG RECEIPT-----", END = "-----END YUHENG RECEIPT-----";

// --- reading one

export async function readReceipt(content: Bytes): Promise<Receipt> {
  if (content.length > LARGEST) throw new NotProved(`the receipt has ${content.length} bytes; at most ${LARGEST} are read`, `凭证为 ${content.length} 字节；最多读取 ${LARGEST} 字节`);
  let found: Json;
  try {
    let told = text(content);
    const begin = told.indexOf(BEGIN);
    if (begin >= 0) {
      const block = told.slice(begin + BEGIN.length).split(END)[0]!;
      told = text(await unpacked(fromBase64(unblanked(block))));
    }
    found = parse(told);
  } catch (error) {
    throw new NotProved(`the receipt cannot be read: ${because(error).en}`, `凭证无法读取：${because(error).zh}`);
  }
  const names = found instanceof Map ? [...found.keys()] : [];
  if (!(found instanceof Map) || NEEDED.some((name) => !names.includes(name)) || names.some((name) => ![...NEEDED, ...MORE].includes(name))) {
    throw new NotProved(`a receipt holds ${NEEDED.join(", ")} and may hold ${MORE.join(", ")}; found ${names.join(", ") || "none of it"}`, `凭证须含 ${NEEDED.join("、")}，可含 ${MORE.join("、")}`);
  }
  const version = found.get("receipt");
  if (version !== 1n && version !== 1 && version !== true) throw new NotProved("the receipt is of another version; this page reads version 1", "凭证版本不符；本页读取第 1 版");
  return found;
}

async function unpacked(packed: Bytes): Promise<Bytes> {
  const parts = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const found: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await parts.read();
    if (done) break;
    size += value.length;
    if (size > LARGEST) throw new NotProved("it is too large", "内容过大");
    found.push(value);
  }
  return new Uint8Array(await new Blob(found as Bytes[]).arrayBuffer());
}

// --- hashes

export const leafHash = (body: Uint8Array) => sha256(Uint8Array.of(0), body);
const nodeHash = (left: Uint8Array, right: Uint8Array) => sha256(Uint8Array.of(1), left, right);
const salted = async (salt: Uint8Array, content: Uint8Array) => hex(await sha256(salt, content));

// The root that a leaf's hash and its inclusion path lead to (RFC 9162, 2.1.3.2).
export async function rootFrom(index: bigint, size: bigint, leaf: Bytes, path: Bytes[]): Promise<Bytes> {
  if (index < 0n || index >= size) throw new NotProved(`the leaf ${index} is not among the ${size} of the checkpoint`, `第 ${index} 条不在检查点的 ${size} 条之内`);
  let place = index, last = size - 1n, found = leaf;
  for (const sibling of path) {
    if (last === 0n) throw new NotProved("the proof is too long", "证明过长");
    if (place & 1n || place === last) {
      found = await nodeHash(sibling, found);
      while (!(place & 1n) && place) [place, last] = [place >> 1n, last >> 1n];
    } else found = await nodeHash(found, sibling);
    [place, last] = [place >> 1n, last >> 1n];
  }
  if (last) throw new NotProved("the proof is too short", "证明过短");
  return found;
}

// --- what is read of it; a value of another kind than is needed fails its step

function object(value: Json | undefined): Map<string, Json> {
  if (value instanceof Map) return value;
  throw new NotProved("an object is needed", "需要对象");
}

function list(value: Json | undefined): Json[] {
  if (Array.isArray(value)) return value;
  throw new NotProved("a list is needed", "需要列表");
}

function textOf(value: Json | undefined): string {
  if (typeof value === "string") return value;
  throw new NotProved("text is needed", "需要文本");
}

function whole(value: Json | undefined): bigint {
  if (typeof value === "bigint") return value;
  throw new NotProved("a whole number is needed", "需要整数");
}

function digest(value: Json | undefined): Bytes {
  const found = fromHex(value);
  if (found.length !== 32) throw new NotProved(`a digest of 32 bytes is needed; found ${found.length}`, `摘要应为 32 字节；现为 ${found.length} 字节`);
  return found;
}

const there = (value: Json | undefined): boolean => value !== undefined && value !== null;

// --- the steps

// `answer`: the decision's bytes, as they were sent; `request`: the JSON that was asked with; `id`: the decision's, where
// one is asked about: the receipt of another proves that other.
export async function verify(key: Key, receipt: Receipt, answer: Bytes | null = null, request: Bytes | null = null, id: string | null = null): Promise<Verdict> {
  let checkpoint: Checkpoint | null = null;
  const leaf = () => object(receipt.get("leaf"));
  const todo: [StepName, boolean, () => Promise<void>][] = [
    ["signature", true, async () => { checkpoint = await openNote(textOf(receipt.get("checkpoint")), key); }],
    ["inclusion", true, () => inclusion(receipt, checkpoint!)],
    ["lineage", there(receipt.get("lineage")), async () => {
      if (hex(await sha256(utf8(canonical(receipt.get("lineage")!)))) !== leaf().get("lineage")) throw new NotProved("the lineage is not the one that the log holds", "谱系与日志所载不符");
    }],
    ["row", there(receipt.get("row")) || receipt.get("leaf") instanceof Map && leaf().get("kind") === "chunk", () => rowIn(leaf(), receipt.get("row"))],
    ["decision", id !== null, async () => {
      if (decided(receipt) !== id) throw new NotProved(`the receipt is of ${decided(receipt)}`, `该凭证属于 ${decided(receipt)}`);
    }],
    ["answer", answer !== null, () => answered(leaf(), receipt, answer!)],
    ["request", request !== null, () => asked(leaf(), receipt, request!)],
  ];
  const steps: Step[] = [];
  for (const [step, wanted, prove] of todo) {
    if (!wanted) {
      steps.push({ step, state: "not asked" });
      continue;
    }
    try {
      await prove();
      steps.push({ step, state: "proved" });
    } catch (error) {
      if (!(error instanceof NotProved)) throw error;
      steps.push({ step, state: "failed", en: error.en, zh: error.zh });
      break; // what follows rests on it
    }
  }
  return { proved: steps.every((each) => each.state !== "failed"), checkpoint, steps };
}

// Of which decision a receipt is.
export function decided(receipt: Receipt): string {
  const leaf = object(receipt.get("leaf")), row = receipt.get("row");
  return there(row) ? `${leaf.get("batch")}-${object(row).get("row")}` : String(leaf.get("ref"));
}

async function inclusion(receipt: Receipt, checkpoint: Checkpoint): Promise<void> {
  if (!object(receipt.get("leaf")).has("kind")) throw new NotProved("the leaf names no kind", "该条未载明类别");
  const path = list(receipt.get("proof")).map(digest);
  const hash = await leafHash(utf8(canonical(receipt.get("leaf") ?? null)));
  if (!same(await rootFrom(whole(receipt.get("index")), checkpoint.size, hash, path), checkpoint.root)) {
    throw new NotProved("the leaf is not in the log: the receipt's leaf, index or proof was altered", "该条不在日志中：凭证的内容、序号或证明被改动");
  }
}

async function rowIn(leaf: Map<string, Json>, told: Json | undefined): Promise<void> {
  if (!there(told) || leaf.get("kind") !== "chunk") throw new NotProved("a row is proved by a receipt of its batch's chunk, and by no other", "批次中的行只能由其所在分段的凭证证明");
  const row = object(told);
  if ([...row.keys()].some((name) => !["row", "hash", "proof", "salt"].includes(name))) throw new NotProved("the receipt's row holds more than its proof", "凭证的行含有证明以外的内容");
  const place = whole(row.get("row")) - whole(leaf.get("first"));
  const path = list(row.get("proof")).map(digest);
  if (!same(await rootFrom(place, whole(leaf.get("rows")), digest(row.get("hash")), path), digest(leaf.get("root")))) {
    throw new NotProved("the row is not in the chunk that the log holds", "该行不在日志所载的分段中");
  }
}

async function answered(leaf: Map<string, Json>, receipt: Receipt, answer: Bytes): Promise<void> {
  if (there(receipt.get("row"))) {
    const row = object(receipt.get("row"));
    if (same(await leafHash(Uint8Array.from([...fromHex(row.get("salt")), ...answer])), digest(row.get("hash")))) return;
    throw new NotProved("the answer is not the row that was recorded; give its bytes as they were sent", "答复与记录的行不符；请提供原始字节");
  }
  const salt = fromHex(receipt.get("salt"));
  if (leaf.get("kind") === "slide_state") {
    if ((await salted(salt, utf8(canonical(parse(text(answer)))))) === leaf.get("reading")) return;
    throw new NotProved("the reading is not the one that was recorded", "阅片结果与记录不符");
  }
  if ((await salted(salt, answer)) !== leaf.get("answer")) {
    throw new NotProved("the answer is not the one that was recorded; give its bytes as they were sent", "答复与记录不符；请提供原始字节");
  }
}

async function asked(leaf: Map<string, Json>, receipt: Receipt, request: Bytes): Promise<void> {
  if (!leaf.has("inputs")) throw new NotProved("this receipt is not of a decision on one applicant, so it proves no inputs", "该凭证不属于单个申请人的决定，不能证明输入");
  const values = object(object(parse(text(request))).get("indicators"));
  if ((await salted(fromHex(receipt.get("salt")), utf8(indicators(values)))) !== leaf.get("inputs")) {
    throw new NotProved("the inputs are not those that the decision was made on", "输入与作出决定时不符");
  }
}

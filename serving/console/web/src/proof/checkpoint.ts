// The log's signed checkpoint (C2SP tlog-checkpoint) and the key that signed it.

import { proofMessage, fromBase64, hex, concatenate, ProofError, equalBytes, sha256, subtle, stripBlanks, utf8, type Bytes } from "./bytes";
import { LONE_SURROGATE } from "./json";

export interface Key {
  raw: Bytes; // the 32 bytes of an Ed25519 public key
  fingerprint: string; // SHA-256 of its DER, as `openssl pkey -pubin -outform DER | sha256sum` prints it
}

export interface Checkpoint {
  origin: string;
  size: bigint;
  root: Bytes;
  signedAt: string;
}

const ED25519 = Uint8Array.of(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00); // DER prefix of the key

export async function readKey(pem: string): Promise<Key> {
  const block = /-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----/.exec(pem)?.[1];
  let der: Bytes;
  try {
    if (block === undefined) throw new ProofError("the block BEGIN PUBLIC KEY is missing", "缺少 BEGIN PUBLIC KEY 段");
    der = fromBase64(stripBlanks(block));
  } catch (error) {
    throw new ProofError(
      `the key cannot be read (${proofMessage(error).en}); an Ed25519 public key in PEM format is required`,
      `公钥无法读取（${proofMessage(error).zh}）；需要 PEM 格式的 Ed25519 公钥`,
    );
  }
  if (der.length !== ED25519.length + 32 || !equalBytes(der.subarray(0, ED25519.length), ED25519)) {
    throw new ProofError("the key is of a different type; an Ed25519 public key in PEM format is required", "公钥类型不符；需要 PEM 格式的 Ed25519 公钥");
  }
  return { raw: der.slice(ED25519.length), fingerprint: hex(await sha256(der)) };
}

// Python's str.splitlines
const LINES = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/;

function splitLines(text: string): string[] {
  const lines = text.split(LINES);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

interface Note {
  checkpoint: Checkpoint;
  signed: string;
  signatures: [string, Bytes][];
}

export function parseNote(note: string): Note {
  try {
    const blank = note.indexOf("\n\n");
    const signed = blank < 0 ? note : note.slice(0, blank);
    const lines = signed.split("\n");
    const [origin = "", size = "", root = "", ...rest] = lines;
    if (blank < 0 || lines.length < 3 || !/^(0|[1-9][0-9]{0,4299})$/.test(size)) throw new ProofError("origin, size and root, then a blank line and signatures, are required", "须含来源、长度与根哈希，空行之后为签名");
    const digest = fromBase64(root);
    if (digest.length !== 32) throw new ProofError("the root must have 32 bytes", "根哈希应为 32 字节");
    const signatures = splitLines(note.slice(blank + 2)).map((line): [string, Bytes] => {
      const fields = line.split(" ");
      const [dash, name = "", signature = ""] = fields;
      if (fields.length !== 3 || dash !== "—") throw new ProofError(`${JSON.stringify(line.slice(0, 20))} is not a signature`, `${JSON.stringify(line.slice(0, 20))} 不是签名`);
      return [name, fromBase64(signature)];
    });
    const signedAt = rest.find((line) => line.startsWith("at "))?.slice(3) ?? "";
    return { checkpoint: { origin, size: BigInt(size), root: digest, signedAt }, signed: `${signed}\n`, signatures };
  } catch (error) {
    throw new ProofError(`the checkpoint cannot be read: ${proofMessage(error).en}`, `检查点无法读取：${proofMessage(error).zh}`);
  }
}

export async function openCheckpoint(note: string, key: Key): Promise<Checkpoint> {
  const { checkpoint, signed, signatures } = parseNote(note);
  if (LONE_SURROGATE.test(signed)) throw new ProofError("the text contains an unpaired surrogate", "含不成对的代理字符");
  const bytes = utf8(signed);
  const expectedKeyId = (await sha256(utf8(`${checkpoint.origin}\n\x01`), key.raw)).subarray(0, 4);
  for (const [name, signature] of signatures) {
    if (name !== checkpoint.origin || !equalBytes(signature.subarray(0, 4), expectedKeyId)) continue;
    const publicKey = await subtle().importKey("raw", key.raw, { name: "Ed25519" }, true, ["verify"]);
    if (!(await subtle().verify({ name: "Ed25519" }, publicKey, concatenate(signature.subarray(4)), bytes))) {
      throw new ProofError("the checkpoint's signature is invalid: it was altered after signing", "检查点签名无效：签署后被改动");
    }
    return checkpoint;
  }
  throw new ProofError(`this key did not sign the checkpoint of ${JSON.stringify(checkpoint.origin)}; use the key of that log`, "该公钥未签署此检查点；请使用该日志的公钥");
}

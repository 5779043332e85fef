// Strict conversions between bytes and text, as in Python, and digests by the browser's WebCrypto.

export class ProofError extends Error {
  // The receipt does not prove what it states; the reason in both languages.
  constructor(readonly en: string, readonly zh: string) {
    super(en);
  }
}

export type Bytes = Uint8Array<ArrayBuffer>;

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

// A byte order mark is kept, so that the JSON parser rejects it as Python's does.
export function text(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ProofError("UTF-8 text is required", "需要 UTF-8 文本");
  }
}

// Removes ASCII whitespace only, as Python's bytes.split does.
export const stripBlanks = (value: string): string => value.replace(/[ \t\n\r\v\f]/g, "");

// The message of any error; the browser's own are in English only.
export const proofMessage = (error: unknown): { en: string; zh: string } => (error instanceof ProofError ? error : { en: (error as Error).message, zh: "内容损坏" });

// As Python's bytes.fromhex: whitespace is allowed between bytes.
export function fromHex(value: unknown): Bytes {
  if (typeof value !== "string" || !/^[ \t\n\r\v\f]*(?:[0-9a-fA-F]{2}[ \t\n\r\v\f]*)*$/.test(value)) throw new ProofError("hexadecimal digits are required", "需要十六进制数字");
  const digits = stripBlanks(value);
  return Uint8Array.from({ length: digits.length / 2 }, (_, index) => parseInt(digits.slice(2 * index, 2 * index + 2), 16));
}

export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export function fromBase64(value: string): Bytes {
  if (value.length % 4 || !/^[A-Za-z0-9+/]*={0,2}$/.test(value) || /^=|[^=]={3}/.test(value)) throw new ProofError("base64 is required", "需要 Base64 编码");
  const decoded = atob(value);
  if (btoa(decoded) !== value) throw new ProofError("base64 must not have trailing bits", "Base64 末尾不得有多余的位");
  return Uint8Array.from(decoded, (character) => character.charCodeAt(0));
}

export function concatenate(...chunks: Uint8Array[]): Bytes {
  const result = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let offset = 0;
  for (const chunk of chunks) {
    result.set(chunk, offset);
    offset += chunk.length;
  }
  return result;
}

export const equalBytes = (left: Uint8Array, right: Uint8Array): boolean => left.length === right.length && left.every((byte, index) => byte === right[index]);

export function subtle(): SubtleCrypto {
  const api = globalThis.crypto?.subtle;
  if (!api) {
    throw new ProofError(
      "the browser provides cryptography only to pages served over HTTPS or from localhost; open the console at such an address",
      "浏览器仅对 HTTPS 或本机地址的页面提供加密功能；请改用此类地址打开控制台",
    );
  }
  return api;
}

export const sha256 = async (...chunks: Uint8Array[]): Promise<Bytes> => new Uint8Array(await subtle().digest("SHA-256", concatenate(...chunks)));

// Bytes as text and back, as strictly as serving/trust/verify.py; digests by the browser's own WebCrypto.

export class NotProved extends Error {
  // The receipt does not prove what it says: what was found, in both languages.
  constructor(readonly en: string, readonly zh: string) {
    super(en);
  }
}

export type Bytes = Uint8Array<ArrayBuffer>;

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text);

// A mark before it stays in it, where no JSON can begin.
export function text(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new NotProved("text in UTF-8 is needed", "需要 UTF-8 文本");
  }
}

// ASCII's blanks alone, as Python's bytes.split.
export const unblanked = (told: string): string => told.replace(/[ \t\n\r\v\f]/g, "");

// Of whatever stopped a reading; the browser's own errors are in English alone.
export const because = (error: unknown): { en: string; zh: string } => (error instanceof NotProved ? error : { en: (error as Error).message, zh: "内容损坏" });

// As Python's bytes.fromhex: blanks may stand between bytes.
export function fromHex(told: unknown): Bytes {
  if (typeof told !== "string" || !/^[ \t\n\r\v\f]*(?:[0-9a-fA-F]{2}[ \t\n\r\v\f]*)*$/.test(told)) throw new NotProved("hex digits are needed", "需要十六进制数字");
  const digits = unblanked(told);
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16));
}

export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export function fromBase64(told: string): Bytes {
  if (told.length % 4 || !/^[A-Za-z0-9+/]*={0,2}$/.test(told) || /^=|[^=]={3}/.test(told)) throw new NotProved("base64 is needed", "需要 base64 编码");
  const found = atob(told);
  if (btoa(found) !== told) throw new NotProved("base64 without a bit left over is needed", "base64 末尾不得有多余的位");
  return Uint8Array.from(found, (letter) => letter.charCodeAt(0));
}

export function joined(...parts: Uint8Array[]): Bytes {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export const same = (one: Uint8Array, other: Uint8Array): boolean => one.length === other.length && one.every((byte, at) => byte === other[at]);

export function subtle(): SubtleCrypto {
  const found = globalThis.crypto?.subtle;
  if (!found) {
    throw new NotProved(
      "this browser lends its cryptography to pages over https or on this very machine alone; open the console there",
      "浏览器仅在 https 或本机地址下提供密码学功能；请改用该地址打开控制台",
    );
  }
  return found;
}

export const sha256 = async (...parts: Uint8Array[]): Promise<Bytes> => new Uint8Array(await subtle().digest("SHA-256", joined(...parts)));

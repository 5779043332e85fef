// SHA-256 of a file, read in chunks in a worker so that the page stays responsive.

import { sha256 } from "js-sha256";

export type HashMessage = { done: number } | { sha256: string } | { error: string };

const CHUNK_BYTES = 8 * 1024 * 1024;

const post = (message: HashMessage): void => self.postMessage(message);

self.onmessage = async ({ data: file }: MessageEvent<File>) => {
  try {
    const digest = sha256.create();
    for (let start = 0; start < file.size; start += CHUNK_BYTES) {
      digest.update(await file.slice(start, start + CHUNK_BYTES).arrayBuffer());
      post({ done: Math.min(start + CHUNK_BYTES, file.size) });
    }
    post({ sha256: digest.hex() });
  } catch (error) {
    post({ error: String(error) });
  }
};

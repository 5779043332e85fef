// SHA-256 of a file, read in parts, away from the page's own thread.

import { sha256 } from "js-sha256";

const PART = 8 * 1024 * 1024;

self.onmessage = async ({ data: file }) => {
  try {
    const digest = sha256.create();
    for (let at = 0; at < file.size; at += PART) {
      digest.update(await file.slice(at, at + PART).arrayBuffer());
      self.postMessage({ done: Math.min(at + PART, file.size) });
    }
    self.postMessage({ sha256: digest.hex() });
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};

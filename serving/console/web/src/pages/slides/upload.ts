// A slide sent in parts that survive a cut, by tus, with its SHA-256 worked out before in a worker.

import { Upload, type DetailedError } from "tus-js-client";
import { asShown, notice, Refused, type Problem } from "../../ui/api";
import type { HashMessage } from "./hash-worker";

const PART = 8 * 1024 * 1024;

export function digest(file: File, told: (share: number) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./hash-worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<HashMessage>) => {
      if ("done" in data) {
        told(data.done / file.size);
        return;
      }
      worker.terminate();
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.sha256);
    };
    worker.onerror = (error) => {
      worker.terminate();
      reject(new Error(error.message || "the worker failed"));
    };
    worker.postMessage(file);
  });
}

// Resolves with the slide's id, where the service tells it. `held` is given what pauses and goes on.
export function put(file: File, told: Record<string, string>, progress: (share: number) => void, held: (upload: Upload) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    let slide = "";
    const upload = new Upload(file, {
      endpoint: "/v1/uploads", headers: asShown(), chunkSize: PART, metadata: told, retryDelays: [0, 1000, 3000, 10000, 30000],
      removeFingerprintOnSuccess: true,
      fingerprint: async () => `yuheng-${told.sha256}-${told.accession}`,
      onAfterResponse: (_, response) => { slide = response.getHeader("Slide-Id") || slide; },
      onProgress: (sent, all) => progress(all ? sent / all : 0),
      onSuccess: () => resolve(slide),
      // What the service refuses is refused again, but that parts came or another request writes.
      onShouldRetry: (error) => {
        const { status, problem } = refused(error) ?? { status: 0, problem: {} };
        return navigator.onLine && (status === 423 || problem.type === "/problems/upload_offset" || !(status >= 400 && status < 500));
      },
      onError: (error) => {
        const told = refused(error);
        if (told) notice(told);
        reject(told ?? error);
      },
    });
    held(upload);
    // What a cut left behind goes on where it stood.
    upload.findPreviousUploads().then(([before]) => {
      if (before) upload.resumeFromPreviousUpload(before);
      upload.start();
    }, reject);
  });
}

function refused(error: Error | DetailedError): Refused | null {
  const answer = "originalResponse" in error ? error.originalResponse : null;
  if (!answer) return null;
  let problem: Problem = {};
  try {
    problem = JSON.parse(answer.getBody()) as Problem;
  } catch {
    // an answer of something between
  }
  return new Refused(answer.getStatus(), problem);
}

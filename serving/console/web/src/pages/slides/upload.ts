// Resumable upload of a slide by the tus protocol. A worker computes its SHA-256 first.

import { Upload, type DetailedError } from "tus-js-client";
import { actingAsHeader, reportInterruption, ApiError, type Problem } from "../../ui/api";
import type { HashMessage } from "./hash-worker";

const CHUNK_BYTES = 8 * 1024 * 1024;

export function hashFile(file: File, onProgress: (share: number) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("./hash-worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<HashMessage>) => {
      if ("done" in data) {
        onProgress(file.size ? data.done / file.size : 1);
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

// Resolves with the slide's id, or "" if the service does not return it. `onUpload` receives the upload, to pause and resume it.
export function uploadSlide(file: File, metadata: Record<string, string>, onProgress: (share: number) => void, onUpload: (upload: Upload) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    let slide = "";
    const upload = new Upload(file, {
      endpoint: "/v1/uploads", headers: actingAsHeader(), chunkSize: CHUNK_BYTES, metadata, retryDelays: [0, 1000, 3000, 10000, 30000],
      removeFingerprintOnSuccess: true,
      fingerprint: async () => ["yuheng", metadata.sha256, metadata.accession, metadata.group, metadata.relativePath].filter(Boolean).join("-"),
      onAfterResponse: (_, response) => { slide = response.getHeader("Slide-Id") || slide; },
      onProgress: (sent, total) => onProgress(total ? sent / total : 0),
      onSuccess: () => resolve(slide),
      // Client errors are not retried, except an offset mismatch and a lock held by another request.
      onShouldRetry: (error) => {
        const { status, problem } = apiErrorOf(error) ?? { status: 0, problem: {} };
        return navigator.onLine && (status === 423 || problem.type === "/problems/upload_offset" || !(status >= 400 && status < 500));
      },
      onError: (error) => {
        const metadata = apiErrorOf(error);
        if (metadata) reportInterruption(metadata);
        reject(metadata ?? error);
      },
    });
    onUpload(upload);
    // An interrupted upload continues at its last offset.
    upload.findPreviousUploads().then(([previous]) => {
      if (previous) upload.resumeFromPreviousUpload(previous);
      upload.start();
    }, reject);
  });
}

function apiErrorOf(error: Error | DetailedError): ApiError | null {
  const response = "originalResponse" in error ? error.originalResponse : null;
  if (!response) return null;
  let problem: Problem = {};
  try {
    problem = JSON.parse(response.getBody()) as Problem;
  } catch {
    // the response of a proxy
  }
  return new ApiError(response.getStatus(), problem);
}

// node node_client.cjs OPTIONS: send a file by tus-js-client, as a laboratory's own program does, and print what came of it.
// OPTIONS is JSON: modules (a folder with node_modules), file, endpoint, token, metadata, options, pauseAfter (ms).
const { createRequire } = require("node:module");
const { createReadStream } = require("node:fs");
const { PassThrough } = require("node:stream");

const job = JSON.parse(process.argv[2]);
const tus = createRequire(`${job.modules}/package.json`)("tus-js-client");

const file = createReadStream(job.file);
const deferred = job.options.uploadLengthDeferred;
// A stream of unknown length is no file: of files the client never finds the end if their length is deferred.
const upload = new tus.Upload(deferred ? file.pipe(new PassThrough()) : file, {
  endpoint: job.endpoint,
  metadata: job.metadata,
  headers: { Authorization: `Bearer ${job.token}` },
  retryDelays: [0, 200, 500],
  ...job.options,
  onError(error) {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess({ lastResponse }) {
    console.log(JSON.stringify({ url: upload.url, slide: lastResponse.getHeader("Slide-Id") }));
  },
});
upload.start();
if (job.pauseAfter) {
  setTimeout(() => upload.abort(), job.pauseAfter);
  setTimeout(() => upload.start(), job.pauseAfter + 300);
}

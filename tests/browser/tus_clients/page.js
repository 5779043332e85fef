// A page of a laboratory's own system, on another origin than the service, with Uppy and tus-js-client as they come.
import Uppy from "@uppy/core";
import UppyTus from "@uppy/tus";
import * as tus from "tus-js-client";

/** Send the files chosen in #files by Uppy; the ids of their uploads. */
window.sendWithUppy = async (endpoint, token, meta, options) => {
  const uppy = new Uppy({ meta });
  uppy.use(UppyTus, { endpoint, headers: { Authorization: `Bearer ${token}` }, retryDelays: [0, 200, 500], ...options });
  for (const file of document.querySelector("#files").files) {
    const relativePath = file.webkitRelativePath || null;
    uppy.addFile({ name: file.name, type: file.type, data: file, meta: relativePath ? { relativePath } : {} });
  }
  const result = await uppy.upload();
  if (result.failed.length) throw new Error(result.failed.map((file) => file.error).join("; "));
  return result.successful.map((file) => file.uploadURL);
};

/** Send the first chosen file by tus-js-client, interrupted after `pauseAfter` ms and taken up again. */
window.sendWithTus = (endpoint, token, metadata, options, pauseAfter) =>
  new Promise((resolve, reject) => {
    const [file] = document.querySelector("#files").files;
    const upload = new tus.Upload(file, {
      endpoint,
      metadata,
      headers: { Authorization: `Bearer ${token}` },
      retryDelays: [0, 200, 500],
      ...options,
      onError: (error) => reject(new Error(String(error))),
      onSuccess: ({ lastResponse }) => resolve({ url: upload.url, slide: lastResponse.getHeader("Slide-Id") }),
    });
    upload.start();
    if (pauseAfter) {
      setTimeout(() => upload.abort(), pauseAfter);
      setTimeout(() => upload.start(), pauseAfter + 300);
    }
  });

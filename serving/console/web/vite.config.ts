import { appendFileSync, readFileSync } from "node:fs";
import { defineConfig } from "vite";

// Vite gathers the licences of the page alone, not of its workers.
const OF_WORKERS = ["js-sha256"];
const licences = {
  name: "licences-of-workers",
  closeBundle() {
    for (const one of OF_WORKERS) {
      const { version, license } = JSON.parse(readFileSync(`node_modules/${one}/package.json`, "utf8"));
      appendFileSync("../dist/licenses.md", `\n## ${one} - ${version} (${license})\n\n${readFileSync(`node_modules/${one}/LICENSE.txt`, "utf8")}`);
    }
  },
};

// What a browser of the last three years reads. Nothing is inlined into the page: its policy allows no inline script or style.
export default defineConfig({
  plugins: [licences],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // The licences of what is built in go with it, in licenses.md.
  build: { license: { fileName: "licenses.md" }, outDir: "../dist", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: true },
  server: { proxy: { "/v1": "http://127.0.0.1:3000", "/openapi.json": "http://127.0.0.1:3000" } },
});

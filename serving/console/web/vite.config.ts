import { appendFileSync, readdirSync, readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vite";

const LICENSES = "../dist/licenses.md";
const FONT_LICENSE = "../../pathology/report/fonts/OFL.txt";

// build.license covers the npm packages of the page, but neither those that only its workers import nor the font.
const workerPackages = new Set<string>();

const collectWorkerPackages = (): Plugin => ({
  name: "collect-worker-packages",
  generateBundle() {
    for (const id of this.getModuleIds()) {
      const name = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1];
      if (name) workerPackages.add(name);
    }
  },
});

const appendLicenses: Plugin = {
  name: "append-licenses",
  apply: "build",
  closeBundle() {
    const listed = readFileSync(LICENSES, "utf8");
    for (const name of [...workerPackages].sort().filter((name) => !listed.includes(`\n## ${name} - `))) {
      const folder = `node_modules/${name}`;
      const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
      const file = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file));
      if (!file) throw new Error(`${folder} has no licence file; its licence must be part of licenses.md`);
      appendFileSync(LICENSES, `\n## ${name} - ${version} (${license})\n\n${readFileSync(`${folder}/${file}`, "utf8")}`);
    }
    appendFileSync(LICENSES, `\n## Noto Sans SC (OFL-1.1)\n\n${readFileSync(FONT_LICENSE, "utf8")}`);
  },
};

// For browsers of the last three years. Nothing is inlined into the page: its policy allows no inline script or style.
export default defineConfig({
  plugins: [appendLicenses],
  worker: { plugins: () => [collectWorkerPackages()] },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: { license: { fileName: "licenses.md" }, outDir: "../dist", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: true },
  server: { proxy: { "/v1": "http://127.0.0.1:3000", "/openapi.json": "http://127.0.0.1:3000" } },
});

import { defineConfig } from "vite";

// What a browser of the last three years reads. Nothing is inlined into the page: its policy allows no inline script or style.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // The licences of what is built in go with it, in licenses.md.
  build: { license: { fileName: "licenses.md" }, outDir: "../dist", emptyOutDir: true, target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: true },
  server: { proxy: { "/v1": "http://127.0.0.1:3000", "/openapi.json": "http://127.0.0.1:3000" } },
});

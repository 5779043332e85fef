// The console's verifier under node: a question a line on standard input, its answer a line on standard output.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const built = (name) => import(pathToFileURL(`${process.argv[2]}/${name}.js`));
const [{ readReceipt, verify }, { readKey }, json, { summary }] = await Promise.all(["receipt", "checkpoint", "json", "summary"].map(built));
const bytes = (told) => (told === null ? null : Uint8Array.from(Buffer.from(told, "base64")));

const does = {
  verify: async ({ pem, receipt, answer, request, id }) => {
    try {
      const key = await readKey(pem);
      const read = await readReceipt(bytes(receipt));
      const { proved, checkpoint, steps } = await verify(key, read, bytes(answer), bytes(request), id);
      return { proved, facts: proved ? summary(read) : [], fingerprint: key.fingerprint, origin: checkpoint?.origin, size: String(checkpoint?.size), steps };
    } catch (error) {
      if (error.en === undefined) throw error;
      return { proved: false, en: error.en, zh: error.zh };
    }
  },
  canonical: ({ text }) => told(() => json.canonical(json.parse(text))),
  indicators: ({ text }) => told(() => json.indicators(json.parse(text))),
};

function told(make) {
  try {
    return { text: make() };
  } catch (error) {
    if (error.zh === undefined) throw error;
    return { refused: error.message };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  console.log(JSON.stringify(await does[question.do](question)));
}

// Runs the console's receipt verification under Node: one JSON request per line on standard input, one response per line on standard output.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const load = (name) => import(pathToFileURL(`${process.argv[2]}/${name}.js`));
const [{ readReceipt, verify }, { readKey }, json, { summary }] = await Promise.all(["receipt", "checkpoint", "json", "summary"].map(load));
const bytes = (base64) => (base64 === null ? null : Uint8Array.from(Buffer.from(base64, "base64")));

const actions = {
  verify: async ({ pem, receipt, answer, request, id }) => {
    try {
      const key = await readKey(pem);
      const parsed = await readReceipt(bytes(receipt));
      const { proved, checkpoint, steps } = await verify(key, parsed, bytes(answer), bytes(request), id);
      return { proved, facts: proved ? summary(parsed) : [], fingerprint: key.fingerprint, origin: checkpoint?.origin, size: String(checkpoint?.size), steps };
    } catch (error) {
      if (error.en === undefined) throw error;
      return { proved: false, en: error.en, zh: error.zh };
    }
  },
  canonical: ({ text }) => result(() => json.canonical(json.parse(text))),
  indicators: ({ text }) => result(() => json.indicators(json.parse(text))),
};

function result(action) {
  try {
    return { text: action() };
  } catch (error) {
    if (error.zh === undefined) throw error;
    return { refused: error.message };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  console.log(JSON.stringify(await actions[question.do](question)));
}

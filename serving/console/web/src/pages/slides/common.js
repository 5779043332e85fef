// What the viewer's modules share: elements made without markup, words in both languages, refusals.

import { ask, Refused } from "../../kit/api";
import { number, percent } from "../../kit/format";
import { plain } from "../../kit/words";

export { ask, number, percent, plain, Refused };
export const $ = (selector, root = document) => root.querySelector(selector);

// An element: make("p.note", {title: "x"}, "text", child, ...). Text never becomes markup.
export function make(what, attributes = {}, ...children) {
  const [name, ...classes] = what.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

// Both languages; the style sheet shows the chosen one, or both.
export function say(en, zh) {
  return make("span.both", {}, make("span", { lang: "en" }, en), " ", make("span", { lang: "zh-CN" }, zh));
}

export const word = (table, code) => say(...(table[code] || [String(code), String(code)]));
export const moment = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?(Z|\+00:00)$/, " UTC") : "–");

// What was refused, in both languages, with its faults.
export function failure(error) {
  if (!(error instanceof Refused)) console.error(error);
  const told = error instanceof Refused ? error.problem : { title: "The page failed", title_zh: "页面出错", detail: String(error), detail_zh: String(error) };
  const { title = error.message, title_zh: titleZh, detail = error.message, detail_zh: detailZh, errors = [] } = told;
  const faults = errors.map((each) => make("li", {}, make("code", {}, each.field), ` ${each.found}: `, say(each.needed, each.needed_zh || each.needed)));
  return make("div.refusal", { role: "alert" },
    make("strong", {}, say(title, titleZh || title)), make("p", {}, say(detail, detailZh || detail)),
    faults.length ? make("ul", {}, faults) : null);
}

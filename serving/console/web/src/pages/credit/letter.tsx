// A page to print and hand over: the decision in plain words, in both languages, and what the household may do.

import { useState } from "preact/hooks";
import { useAsk } from "../../ui/api";
import { Field } from "../../ui/field";
import { amount, money, unitOf } from "../../ui/format";
import { Shown } from "../../ui/feedback";
import { Say } from "../../ui/i18n";
import { waits, type Answer, type Listed, type Page, type Sentence } from "./types";

const MOST = 3; // reasons of each kind: a letter is one page
const WORDS = 300; // characters of a person's own

const RIGHTS: [string, string][] = [
  ["You may ask that a person decides instead of the machine, and for an explanation of this decision.", "您有权要求由人工作出决定，并要求对本决定作出说明。"],
  ["You may ask to see and correct the records that were used.", "您有权查阅并更正所用记录。"],
  ["You may withdraw your consent to the use of your conduct at any time. It can only raise a limit; without it nothing else changes.", "您可随时撤回品行数据的授权。品行只会提高额度，撤回后其他不受影响。"],
];

export function Letter({ id }: { id: string }) {
  const answer = useAsk<Answer>(`/v1/decisions/${id}`);
  const about = useAsk<Page>(`/v1/decisions?id=${id}`);
  return <Shown of={answer}>{(found) => <Shown of={about}>{({ decisions: [row] }) => (row ? <Written id={id} answer={found} row={row} /> : null)}</Shown>}</Shown>;
}

// What a person decided stands above what the machine did. Their reason was written for the log: to the household they write anew.
function Written({ id, answer, row }: { id: string; answer: Answer; row: Listed }) {
  const [words, setWords] = useState("");
  const person = row.override, waiting = waits(row);
  const limit = waiting ? null : person ? person.limit : answer.limit;
  const helped = answer.reasons.filter((reason) => reason.points > 0 && reason.indicator).slice(0, MOST);
  const held = answer.reasons.filter((reason) => reason.points < 0 && reason.indicator).slice(0, MOST);
  const raises = person || waiting ? [] : (answer.raises ?? []).slice(0, MOST); // of the machine's limit
  return (
    <>
      <div class="actions no-print"><a class="button" href={`/console/credit/decisions/${id}`}><Say en="Back" zh="返回" /></a><button type="button" class="main" onClick={() => print()}><Say en="Print" zh="打印" /></button></div>
      {person ? <div class="no-print"><Field label={{ en: "Your words to the household", zh: "给农户的说明" }} hint={{ en: "Printed on this letter and not kept. The reason in the log is not printed.", zh: "仅印在本告知书上，不留存；日志中的理由不会打印。" }}>{(control) => <textarea {...control} rows={2} maxLength={WORDS} value={words} onInput={(event) => setWords(event.currentTarget.value)} />}</Field></div> : null}
      <article class="letter card">
        {answer.simulated ? <p class="simulated">SIMULATED, not a real decision 模拟，非真实决定</p> : null}
        <h1>Your application for credit <span lang="zh-CN">授信申请告知书</span></h1>
        <p class="quiet">{day(person?.at ?? answer.created)} · <code>{id}</code></p>
        {waiting ? <Both en="A member of our staff is looking at your application and will decide." zh="您的申请正由工作人员审核并作出决定。" strong />
          : person?.decision === "decline" ? <Both en="A member of our staff has looked at your application and cannot offer you a limit now." zh="经工作人员审核，目前无法为您提供授信额度。" strong />
          : limit ? <Both en={`We can lend you up to ${money(limit, answer.currency)}.`} zh={`您的授信额度为 ${amount(limit)} ${unitOf(answer.currency)[1]}。`} strong />
          : <Both en="A member of our staff will decide about your application. Nothing was refused by the machine." zh="您的申请将由工作人员作出决定，系统未作拒绝。" strong />}
        {person && !waiting && person.decision === "approve" ? <Both en="A member of our staff decided this." zh="本决定由工作人员作出。" /> : null}
        {words.trim() ? <p>{words.trim()}</p> : null}
        {person ? null : answer.referral.map((each) => <Both key={each.code} en={each.en} zh={each.zh} />)}
        <Listing title={["What spoke for you", "有利因素"]} of={helped} />
        <Listing title={["What held the limit back", "不利因素"]} of={held} />
        <Listing title={["What would raise it", "如何提高额度"]} of={raises} />
        <h2>Your rights <span lang="zh-CN">您的权利</span></h2>
        <ul>{RIGHTS.map(([en, zh]) => <li key={en}><Both en={en} zh={zh} /></li>)}</ul>
        <p class="sign-line"><span>For the bank <span lang="zh-CN">银行经办</span></span><span>Date <span lang="zh-CN">日期</span></span></p>
      </article>
    </>
  );
}

function Listing({ title: [en, zh], of }: { title: readonly [string, string]; of: Sentence[] }) {
  return of.length ? <><h2>{en} <span lang="zh-CN">{zh}</span></h2><ul>{of.map((each) => <li key={each.code}><Both en={each.en} zh={each.zh} /></li>)}</ul></> : null;
}

// Where the letter is written, not in UTC.
const day = (moment: string | undefined) => (moment ? new Date(moment).toLocaleDateString("sv") : "");

function Both({ en, zh, strong }: { en: string; zh: string; strong?: boolean }) {
  return <p class={strong ? "strong" : undefined}><span lang="en">{en}</span><br /><span lang="zh-CN">{zh}</span></p>;
}

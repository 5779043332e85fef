// The printable letter to the household: the decision in plain language, in both languages, and the household's rights.

import { useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { Field } from "../../ui/field";
import { formatAmount, formatMoney, unitOf } from "../../ui/format";
import { ResourceView } from "../../ui/feedback";
import { Text, type Bilingual } from "../../ui/i18n";
import { awaitsColleague, type Answer, type DecisionRow, type DecisionsPage, type Sentence } from "./types";

const MAX_REASONS = 3; // of each kind, so that the letter fits on one page
const MAX_NOTE_CHARS = 300; // of the officer's own text

const RIGHTS: [string, string][] = [
  ["You have the right to a decision by a person instead of a computer model, and to an explanation of this decision.", "您有权要求以人工方式作出决定，并有权要求对本决定作出说明。"],
  ["You have the right to see and to correct the records that were used.", "您有权查阅、更正所使用的记录。"],
  ["You may withdraw your consent to the use of conduct data at any time. Conduct data can only raise a limit; nothing else changes without it.", "您可随时撤回对使用品行数据的同意。品行数据仅可能提高额度，撤回后其他事项不受影响。"],
];

export function Letter({ id }: { id: string }) {
  const answer = useResource<Answer>(`/v1/decisions/${id}`);
  const listing = useResource<DecisionsPage>(`/v1/decisions?id=${id}`);
  return <ResourceView resource={answer}>{(value) => <ResourceView resource={listing}>{({ decisions: [row] }) => (row ? <LetterPage id={id} answer={value} row={row} /> : null)}</ResourceView>}</ResourceView>;
}

// A human decision takes precedence over the model's. The reason in the log is internal; the officer writes a separate text for the household.
function LetterPage({ id, answer, row }: { id: string; answer: Answer; row: DecisionRow }) {
  const [note, setNote] = useState("");
  const override = row.override, pending = awaitsColleague(row);
  const limit = pending ? null : override ? override.limit : answer.limit;
  const strengths = answer.reasons.filter((reason) => reason.points > 0 && reason.indicator).slice(0, MAX_REASONS);
  const weaknesses = answer.reasons.filter((reason) => reason.points < 0 && reason.indicator).slice(0, MAX_REASONS);
  const raises = override || pending ? [] : (answer.raises ?? []).slice(0, MAX_REASONS); // they refer to the model's limit
  return (
    <>
      <div class="actions no-print"><a class="button" href={`/console/credit/decisions/${id}`}><Text en="Back" zh="返回" /></a><button type="button" class="main" onClick={() => print()}><Text en="Print" zh="打印" /></button></div>
      {override ? <div class="no-print"><Field label={{ en: "Text for the household", zh: "致农户的说明" }} hint={{ en: "Printed on this letter only and not stored. The reason in the log is not printed.", zh: "仅打印于本告知书，不作留存；日志中的理由不会打印。" }}>{(control) => <textarea {...control} rows={2} maxLength={MAX_NOTE_CHARS} value={note} onInput={(event) => setNote(event.currentTarget.value)} />}</Field></div> : null}
      <article class="letter card">
        {answer.simulated ? <p class="simulated">SIMULATED, not a real decision 模拟数据，并非真实决定</p> : null}
        <h1>Your application for credit <span lang="zh-CN">授信申请告知书</span></h1>
        <p class="quiet">{localDate(override?.at ?? answer.created)} · <code>{id}</code></p>
        {pending ? <BilingualParagraph en="A member of our staff is reviewing your application and will decide on it." zh="您的申请正由工作人员审核并作出决定。" strong />
          : override?.decision === "decline" ? <BilingualParagraph en="A member of our staff has reviewed your application. We are unable to offer you credit at this time." zh="经工作人员审核，暂无法为您提供授信额度。" strong />
          : limit ? <BilingualParagraph en={`We can lend you up to ${formatMoney(limit, answer.currency)}.`} zh={`您的授信额度为 ${formatAmount(limit)} ${unitOf(answer.currency)[1]}。`} strong />
          : <BilingualParagraph en="A member of our staff will decide on your application. It has not been declined automatically." zh="您的申请将由工作人员作出决定，系统并未自动拒绝。" strong />}
        {override && !pending && override.decision === "approve" ? <BilingualParagraph en="This decision was made by a member of our staff." zh="本决定由工作人员作出。" /> : null}
        {note.trim() ? <p>{note.trim()}</p> : null}
        {override ? null : answer.referral.map((sentence) => <BilingualParagraph key={sentence.code} en={sentence.en} zh={sentence.zh} />)}
        <SentenceList title={["Factors in your favour", "有利因素"]} sentences={strengths} />
        <SentenceList title={["Factors that lowered the limit", "不利因素"]} sentences={weaknesses} />
        <SentenceList title={["What would raise the limit", "如何提高额度"]} sentences={raises} />
        <h2>Your rights <span lang="zh-CN">您的权利</span></h2>
        <ul>{RIGHTS.map(([en, zh]) => <li key={en}><BilingualParagraph en={en} zh={zh} /></li>)}</ul>
        <p class="sign-line"><span>For the bank <span lang="zh-CN">银行经办</span></span><span>Date <span lang="zh-CN">日期</span></span></p>
      </article>
    </>
  );
}

function SentenceList({ title: [en, zh], sentences }: { title: Bilingual; sentences: Sentence[] }) {
  return sentences.length ? <><h2>{en} <span lang="zh-CN">{zh}</span></h2><ul>{sentences.map((sentence) => <li key={sentence.code}><BilingualParagraph en={sentence.en} zh={sentence.zh} /></li>)}</ul></> : null;
}

// In local time, not UTC.
const localDate = (moment: string | undefined) => (moment ? new Date(moment).toLocaleDateString("sv") : "");

function BilingualParagraph({ en, zh, strong }: { en: string; zh: string; strong?: boolean }) {
  return <p class={strong ? "strong" : undefined}><span lang="en">{en}</span><br /><span lang="zh-CN">{zh}</span></p>;
}

// The printable letter to the household, in the language of the page: the decision, the reasons of who decided, and the household's rights.

import { useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { Field } from "../../ui/field";
import { formatAmount, formatMoney, unitOf } from "../../ui/format";
import { ResourceView } from "../../ui/feedback";
import { Text, type Bilingual } from "../../ui/i18n";
import { awaitsColleague, type Answer, type Authority, type DecisionRow, type DecisionsPage, type Sentence } from "./types";

const MAX_REASONS = 3; // of each kind, so that the letter fits on one page
const MAX_NOTE_CHARS = 300; // of the officer's own text

const BY_MODEL: Bilingual = ["You have the right to a decision by a person instead of a computer model, and to an explanation of this decision.", "您有权要求以人工方式作出决定，并有权要求对本决定作出说明。"];
const BY_PERSON: Bilingual = ["A person made this decision. You have the right to an explanation of it, and to have another person review it.", "本决定由工作人员作出。您有权要求对本决定作出说明，并要求由其他工作人员复核。"];
const RIGHTS: Bilingual[] = [
  ["You have the right to see and to correct the records that were used.", "您有权查阅、更正所使用的记录。"],
  ["You may withdraw your consent to the use of conduct data at any time. Conduct data can only raise a limit; nothing else changes without it.", "您可随时撤回对使用品行数据的同意。品行数据仅可能提高额度，撤回后其他事项不受影响。"],
];

export function Letter({ id }: { id: string }) {
  const answer = useResource<Answer>(`/v1/decisions/${id}`);
  const listing = useResource<DecisionsPage>(`/v1/decisions?id=${id}`);
  const authority = useResource<Authority>("/v1/authority");
  return (
    <ResourceView resource={answer}>{(value) => (
      <ResourceView resource={listing}>{({ decisions: [row] }) => (
        <ResourceView resource={authority}>{(rules) => (row ? <LetterPage id={id} answer={value} row={row} authority={rules} /> : null)}</ResourceView>
      )}</ResourceView>
    )}</ResourceView>
  );
}

// Whoever decided gives the reasons. A person's own words in the log are internal; the officer writes a separate text for the household.
function LetterPage({ id, answer, row, authority }: { id: string; answer: Answer; row: DecisionRow; authority: Authority }) {
  const [note, setNote] = useState("");
  const override = row.override, pending = awaitsColleague(row) || row.proposal !== null;
  const isFirm = !override && !pending && answer.limit !== null; // the model decided
  const limit = pending ? null : override ? override.limit : answer.limit;
  const known = answer.reasons.filter((reason) => reason.indicator && reason.value !== null);
  const strengths = isFirm ? known.filter((reason) => reason.points > 0).slice(0, MAX_REASONS) : [];
  const weaknesses = isFirm ? known.filter((reason) => reason.points < 0).slice(0, MAX_REASONS) : [];
  const raises = isFirm ? (answer.raises ?? []).slice(0, MAX_REASONS) : []; // they refer to the model's limit
  const reason = override && !pending ? authority.reasons.find(({ code }) => code === override.reason_code) : undefined;
  const rights = [override && !pending ? BY_PERSON : BY_MODEL, ...RIGHTS];
  return (
    <>
      <div class="actions no-print"><a class="button" href={`/console/credit/decisions/${id}`}><Text en="Back" zh="返回" /></a><button type="button" class="main" onClick={() => print()}><Text en="Print" zh="打印" /></button></div>
      {override ? <div class="no-print"><Field label={{ en: "Text for the household", zh: "致农户的说明" }} hint={{ en: "Printed on this letter only and not stored. The reason in the log is not printed.", zh: "仅打印于本告知书，不作留存；日志中的理由不会打印。" }}>{(control) => <textarea {...control} rows={2} maxLength={MAX_NOTE_CHARS} value={note} onInput={(event) => setNote(event.currentTarget.value)} />}</Field></div> : null}
      <article class="letter card">
        {answer.simulated ? <p class="simulated"><Text en="SIMULATED, not a real decision" zh="模拟数据（SIMULATED），并非真实决定" /></p> : null}
        <h1><Text en="Your application for credit" zh="授信申请告知书" /></h1>
        <p class="quiet">{localDate(override?.at ?? answer.created)} · <code>{id}</code></p>
        {pending ? <Paragraph en="A member of our staff is reviewing your application and will decide on it." zh="您的申请正由工作人员审核并作出决定。" strong />
          : override?.decision === "decline" ? <Paragraph en="A member of our staff has reviewed your application. We are unable to offer you credit at this time." zh="经工作人员审核，暂无法为您提供授信额度。" strong />
          : limit ? <Paragraph en={`We can lend you up to ${formatMoney(limit, answer.currency)}.`} zh={`您的授信额度为 ${formatAmount(limit)} ${unitOf(answer.currency)[1]}。`} strong />
          : <Paragraph en="A member of our staff will decide on your application. It has not been declined automatically." zh="您的申请将由工作人员作出决定，系统并未自动拒绝。" strong />}
        {override && !pending && override.decision === "approve" ? <Paragraph en="This decision was made by a member of our staff." zh="本决定由工作人员作出。" /> : null}
        {reason ? <SentenceList title={["Reason", "理由"]} sentences={[reason]} /> : null}
        {note.trim() ? <p>{note.trim()}</p> : null}
        {override ? null : answer.referral.map((sentence) => <Paragraph key={sentence.code} en={sentence.en} zh={sentence.zh} />)}
        <SentenceList title={["Factors in your favour", "有利因素"]} sentences={strengths} />
        <SentenceList title={["Factors that lowered the limit", "不利因素"]} sentences={weaknesses} />
        <SentenceList title={["What would raise the limit", "如何提高额度"]} sentences={raises} />
        <h2><Text en="Your rights" zh="您的权利" /></h2>
        <ul>{rights.map(([en, zh]) => <li key={en}><Paragraph en={en} zh={zh} /></li>)}</ul>
        <p class="sign-line"><span><Text en="For the bank" zh="银行经办" /></span><span><Text en="Date" zh="日期" /></span></p>
      </article>
    </>
  );
}

function SentenceList({ title: [en, zh], sentences }: { title: Bilingual; sentences: Sentence[] }) {
  return sentences.length ? <><h2><Text en={en} zh={zh} /></h2><ul>{sentences.map((sentence) => <li key={sentence.code}><Paragraph en={sentence.en} zh={sentence.zh} /></li>)}</ul></> : null;
}

// In local time, not UTC.
const localDate = (moment: string | undefined) => (moment ? new Date(moment).toLocaleDateString("sv") : "");

function Paragraph({ en, zh, strong }: { en: string; zh: string; strong?: boolean }) {
  return <p class={strong ? "strong" : undefined}><Text en={en} zh={zh} /></p>;
}

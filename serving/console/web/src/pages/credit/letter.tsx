// A page to print and hand over: the decision in plain words, in both languages, and what the household may do.

import { useAsk } from "../../kit/api";
import { money } from "../../kit/format";
import { Shown } from "../../kit/state";
import { Say } from "../../kit/words";
import type { Answer, Page } from "./model";

const MOST = 3; // reasons of each kind: a letter is one page

const RIGHTS: [string, string][] = [
  ["You may ask that a person decides instead of the machine, and for an explanation of this decision.", "您有权要求由人工作出决定，并要求对本决定作出说明。"],
  ["You may ask to see and correct the records that were used.", "您有权查阅并更正所用记录。"],
  ["You may withdraw your consent to the use of your conduct at any time. It can only raise a limit; without it nothing else changes.", "您可随时撤回品行数据的授权。品行只会提高额度，撤回后其他不受影响。"],
];

export function Letter({ id }: { id: string }) {
  const answer = useAsk<Answer>(`/v1/decisions/${id}`);
  const about = useAsk<Page>(`/v1/decisions?id=${id}`);
  return (
    <Shown of={answer}>{(found) => {
      const person = about.value?.decisions[0]?.override;
      const limit = person ? person.limit : found.limit;
      const helped = found.reasons.filter((reason) => reason.points > 0 && reason.indicator).slice(0, MOST);
      const held = found.reasons.filter((reason) => reason.points < 0 && reason.indicator).slice(0, MOST);
      return (
        <>
          <p class="actions no-print"><a class="button" href={`/console/credit/decisions/${id}`}><Say en="Back" zh="返回" /></a><button type="button" class="main" onClick={() => print()}><Say en="Print" zh="打印" /></button></p>
          <article class="letter card">
            {found.simulated ? <p class="simulated">SIMULATED, not a real decision 模拟，非真实决定</p> : null}
            <h1>Your application for credit <span lang="zh-CN">授信申请告知书</span></h1>
            <p class="quiet">{found.created?.slice(0, 10)} · <code>{id}</code></p>
            {person?.decision === "decline" ? <Both en="A member of our staff has looked at your application and cannot offer you a limit now." zh="经工作人员审核，目前无法为您提供授信额度。" />
              : limit ? <Both en={`We can lend you up to ${money(limit)}.`} zh={`您的授信额度为人民币 ${money(limit, "").trim()} 元。`} strong />
              : <Both en="A member of our staff will decide about your application. Nothing was refused by the machine." zh="您的申请将由工作人员作出决定，系统未作拒绝。" strong />}
            {person ? <Both en={`Decided by a person: ${person.reason}`} zh={`人工决定理由：${person.reason}`} /> : null}
            {found.referral.map((each) => <Both key={each.code} en={each.en} zh={each.zh} />)}
            {helped.length ? <><h2>What spoke for you <span lang="zh-CN">有利因素</span></h2><ul>{helped.map((each) => <li key={each.code}><Both en={each.en} zh={each.zh} /></li>)}</ul></> : null}
            {held.length ? <><h2>What held the limit back <span lang="zh-CN">不利因素</span></h2><ul>{held.map((each) => <li key={each.code}><Both en={each.en} zh={each.zh} /></li>)}</ul></> : null}
            {found.raises?.length ? <><h2>What would raise it <span lang="zh-CN">如何提高额度</span></h2><ul>{found.raises.slice(0, MOST).map((each) => <li key={each.code}><Both en={each.en} zh={each.zh} /></li>)}</ul></> : null}
            <h2>Your rights <span lang="zh-CN">您的权利</span></h2>
            <ul>{RIGHTS.map(([en, zh]) => <li key={en}><Both en={en} zh={zh} /></li>)}</ul>
            <p class="sign-line"><span>For the bank <span lang="zh-CN">银行经办</span></span><span>Date <span lang="zh-CN">日期</span></span></p>
          </article>
        </>
      );
    }}</Shown>
  );
}

function Both({ en, zh, strong }: { en: string; zh: string; strong?: boolean }) {
  return <p class={strong ? "strong" : undefined}><span lang="en">{en}</span><br /><span lang="zh-CN">{zh}</span></p>;
}

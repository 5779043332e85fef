// One recorded decision, and what people have done with it since.

import type { ComponentChildren } from "preact";
import { useResource } from "../../ui/api";
import { formatTimestamp } from "../../ui/format";
import { ErrorMessage, Loading, ResourceView } from "../../ui/feedback";
import { Text } from "../../ui/i18n";
import { AnswerDetails, AnswerHeadline, SimulatedBanner } from "./answer";
import { HumanActionForms, HumanActions } from "./human-decision";
import { type Answer, type DecisionsPage } from "./types";

// `letterHref`: the letter, if the product has one. `renderExtra`: the parts of the answer that only this product has.
export function DecisionPage({ id, letterHref, renderExtra }: { id: string; letterHref?: string; renderExtra?: (answer: Answer) => ComponentChildren }) {
  const answer = useResource<Answer>(`/v1/decisions/${id}`);
  const listing = useResource<DecisionsPage>(`/v1/decisions?id=${id}`);
  const row = listing.value?.decisions[0];
  return (
    <ResourceView resource={answer}>{(value) => {
      const isSingle = Array.isArray(value.reasons); // a row of a batch has codes only, as in its file
      return <>
        <SimulatedBanner visible={value.simulated} />
        <div class="decision">
          <div class="stack">
            <section class="card">
              {isSingle ? <AnswerHeadline answer={value} /> : <h2><Text en="A row of a batch" zh="批次中的一行" /></h2>}
              <dl class="facts">
                <dt><Text en="Decision" zh="决定编号" /></dt><dd><code>{id}</code></dd>
                <dt><Text en="Created" zh="时间" /></dt><dd>{formatTimestamp(value.created ?? row?.created)}</dd>
                <dt><Text en="Model" zh="模型" /></dt><dd>{value.model.name} {value.model.version}, <Text en={`policy ${value.policy_version}`} zh={`政策 ${value.policy_version}`} /></dd>
                <dt><Text en="Indicators" zh="指标来源" /></dt><dd>{value.indicators_from === "store" ? <Text en={`from the store, under ${value.authorisations?.length ?? 0} authorisations; values hidden`} zh={`读取自库内，依据 ${value.authorisations?.length ?? 0} 项授权，数值不予显示`} /> : <Text en="as entered" zh="人工录入" />}</dd>
              </dl>
              <div class="actions">
                {letterHref && isSingle ? <a class="button" href={letterHref}><Text en="Letter to the household" zh="告知书" /></a> : null}
                <a class="button" href={`/v1/decisions/${id}/receipt`} download={`receipt-${id}.json`}><Text en="Receipt" zh="凭证" /></a>
              </div>
            </section>
            {row ? <HumanActions row={row} /> : null}
            {listing.error ? <ErrorMessage error={listing.error} retry={listing.reload} /> : null}
            {row ? <HumanActionForms key={row.acts.length} row={row} onDone={listing.reload} /> : listing.loading ? <Loading /> : null}
          </div>
          <div class="stack">{isSingle ? <>{renderExtra?.(value)}<AnswerDetails answer={value} /></> : <RawFields answer={value} />}</div>
        </div>
      </>;
    }}</ResourceView>
  );
}

function RawFields({ answer }: { answer: object }) {
  const fields = Object.entries(answer).filter(([, value]) => value !== null && value !== "" && typeof value !== "object");
  return <section class="card"><dl class="facts">{fields.map(([name, value]) => [<dt key={name}><code>{name}</code></dt>, <dd key={`${name}-value`}>{String(value)}</dd>])}</dl></section>;
}

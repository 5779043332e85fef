// All models: the serving version, the challenger, and the AUC.

import { useResource } from "../../ui/api";
import { Empty, ResourceView } from "../../ui/feedback";
import { formatTimestamp } from "../../ui/format";
import { ForcedChip, ForcedSentence } from "../../ui/forced-versions";
import { Text } from "../../ui/i18n";
import type { Model } from "./types";
import { GateChip, formatDecimal, PRODUCTS, SimulatedChip } from "./labels";

export function ModelList() {
  const list = useResource<{ models: Model[] }>("/v1/versions");
  return (
    <>
      <div class="page-head"><h1><Text en="Models" zh="模型" /></h1><p class="quiet"><Text en="The serving version, the challenger, and the evaluation on held-out rows." zh="在线版本、挑战者版本，以及留出数据上的评估结果。" /></p></div>
      <ResourceView resource={list}>
        {({ models }) => models.length ? <ul class="models">{models.map((model) => <li key={model.name}><ModelCard model={model} /></li>)}</ul> : (
          <Empty en="No model has been trained yet. Train one: make demo, or python -m training PRODUCT." zh="尚未训练任何模型。可运行 make demo 或 python -m training PRODUCT。" />
        )}
      </ResourceView>
    </>
  );
}

function ModelCard({ model }: { model: Model }) {
  const card = model.shown;
  const forced = model.forced.find((entry) => entry.version === model.serving);
  const auc = card?.figures?.auc;
  const [en, zh] = PRODUCTS[card?.product ?? ""] ?? [card?.product ?? "", card?.product ?? ""];
  return (
    <article class="card model-card">
      <div class="model-head">
        <h2><a href={`/console/models/${encodeURIComponent(model.name)}`}>{model.name}</a></h2>
        {card?.simulated ? <SimulatedChip /> : null}
      </div>
      <p class="quiet">{en ? <Text en={en} zh={zh} /> : null}</p>
      {model.alarm ? <p class="refusal"><Text en={model.alarm} zh={model.alarm_zh ?? model.alarm} /></p> : null}
      {forced ? <p class="refusal"><ForcedSentence entry={forced} /></p> : null}
      <dl class="tiles">
        <div class="tile"><dt>AUC</dt><dd>{auc && auc.value !== null ? <>{formatDecimal(auc.value)}<small class="interval"> [{formatDecimal(auc.low)}, {formatDecimal(auc.high)}]</small></> : "–"}</dd></div>
        <div class="tile"><dt><Text en="Versions" zh="版本数" /></dt><dd>{model.versions}</dd></div>
      </dl>
      <dl class="facts">
        <dt><Text en="Serving" zh="在线版本" /></dt><dd>{model.serving ?? <Text en="none" zh="无" />} {forced ? <ForcedChip /> : null}</dd>
        <dt><Text en="Challenger" zh="挑战者" /></dt><dd>{model.challenger ?? <Text en="none" zh="无" />}</dd>
        <dt><Text en="Trained" zh="训练时间" /></dt><dd>{formatTimestamp(card?.created)}</dd>
        <dt><Text en="Gate" zh="门槛检查" /></dt><dd><GateChip passed={card?.gate ?? null} /></dd>
      </dl>
    </article>
  );
}

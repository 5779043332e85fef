// Every model: what serves, what waits to serve, how good it is.

import { useAsk } from "../../ui/api";
import { Empty, Shown } from "../../ui/feedback";
import { moment } from "../../ui/format";
import { Say } from "../../ui/i18n";
import type { Model } from "./types";
import { Gate, places, PRODUCTS, Simulated } from "./labels";

export function List() {
  const asked = useAsk<{ models: Model[] }>("/v1/versions");
  return (
    <>
      <div class="page-head"><h1><Say en="Models" zh="模型" /></h1><p class="quiet"><Say en="What serves, what challenges it, and what the judge found on rows that no model had seen." zh="在线版本、挑战者，以及评审在模型未见过的数据上的发现。" /></p></div>
      <Shown of={asked}>
        {({ models }) => models.length ? <ul class="models">{models.map((model) => <li key={model.name}><Card model={model} /></li>)}</ul> : (
          <Empty en="No model has been trained yet. Train one: make demo, or python -m training PRODUCT." zh="尚未训练任何模型。可运行 make demo 或 python -m training PRODUCT。" />
        )}
      </Shown>
    </>
  );
}

function Card({ model }: { model: Model }) {
  const card = model.shown;
  const auc = card?.figures?.auc;
  const [en, zh] = PRODUCTS[card?.product ?? ""] ?? [card?.product ?? "", card?.product ?? ""];
  return (
    <article class="card model-card">
      <div class="model-head">
        <h2><a href={`/console/models/${encodeURIComponent(model.name)}`}>{model.name}</a></h2>
        {card?.simulated ? <Simulated /> : null}
      </div>
      <p class="quiet">{en ? <Say en={en} zh={zh} /> : null}</p>
      {model.alarm ? <p class="refusal"><Say en={model.alarm} zh={model.alarm_zh ?? model.alarm} /></p> : null}
      <dl class="tiles">
        <div class="tile"><dt>AUC</dt><dd>{auc && auc.value !== null ? <>{places(auc.value)}<small class="interval"> [{places(auc.low)}, {places(auc.high)}]</small></> : "–"}</dd></div>
        <div class="tile"><dt><Say en="Versions" zh="版本数" /></dt><dd>{model.versions}</dd></div>
      </dl>
      <dl class="facts">
        <dt><Say en="Serving" zh="在线版本" /></dt><dd>{model.serving ?? <Say en="none" zh="无" />}</dd>
        <dt><Say en="Challenger" zh="挑战者" /></dt><dd>{model.challenger ?? <Say en="none" zh="无" />}</dd>
        <dt><Say en="Trained" zh="训练时间" /></dt><dd>{moment(card?.created)}</dd>
        <dt><Say en="Gate" zh="门槛检查" /></dt><dd><Gate passed={card?.gate ?? null} /></dd>
      </dl>
    </article>
  );
}

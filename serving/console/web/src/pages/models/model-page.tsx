// One model: its versions, two of them side by side, the promotion gate, and monitoring.

import { useState } from "preact/hooks";
import { useResource } from "../../ui/api";
import { Empty, ResourceView } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { formatTimestamp } from "../../ui/format";
import { translate, Text } from "../../ui/i18n";
import { VersionComparison } from "./compare";
import { ForestPlot } from "./forest-plot";
import { Monitoring } from "./monitoring";
import { GatePanel } from "./promotion";
import type { VersionLine, VersionList, Promotion, Version } from "./types";
import { GateChip, PRODUCTS, CardSentence, SimulatedChip, VersionStatus, EstimateText } from "./labels";

const ACTIONS = {
  promote: <Text en="promoted" zh="上线" />,
  roll_back: <Text en="rolled back" zh="回退" />,
  force_request: <Text en="asked to be forced; a second person must confirm" zh="申请强制上线，待第二人确认" />,
  force: <span class="chip bad"><Text en="forced by two people" zh="两人确认强制上线" /></span>,
};

export function ModelPage({ name }: { name: string }) {
  const resource = useResource<VersionList>(`/v1/models/${encodeURIComponent(name)}/versions`);
  return (
    <>
      <p class="breadcrumb"><a href="/console/models"><Text en="All models" zh="全部模型" /></a></p>
      <ResourceView resource={resource}>{(list) => <ModelView list={list} reload={resource.reload} />}</ResourceView>
    </>
  );
}

const otherVersion = (list: VersionList, first: string) =>
  (list.versions.find((version) => version.aliases.includes("challenger") && version.version !== first) ?? list.versions.find((version) => version.version !== first))?.version ?? null;

function ModelView({ list, reload }: { list: VersionList; reload: () => void }) {
  const [first, setFirst] = useState(list.serving ?? list.versions[0]?.version ?? "");
  const [second, setSecond] = useState(otherVersion(list, first));
  const firstResource = useResource<Version>(first ? versionAddress(list.model, first) : null);
  const secondResource = useResource<Version>(second ? versionAddress(list.model, second) : null);
  const card = list.versions.find((left) => left.version === list.serving) ?? list.versions[0];
  if (!card) return <Empty en="This model has no version." zh="该模型没有版本。" />;
  const [en, zh] = PRODUCTS[card.product ?? ""] ?? ["", ""];
  const reloadAll = () => { reload(); firstResource.reload(); secondResource.reload(); };
  return (
    <div class="stack">
      <div class="page-head">
        <h1>{list.model}</h1><span class="quiet"><Text en={en} zh={zh} /></span>{card.simulated ? <SimulatedChip /> : null}
        {card.purpose ? <p class="quiet wide"><CardSentence en={card.purpose} zh={card.purpose_zh} /></p> : null}
        {card.not_for ? <p class="quiet wide"><strong><Text en="Not for: " zh="不适用于：" /></strong><CardSentence en={card.not_for} zh={card.not_for_zh} /></p> : null}
      </div>
      <section class="card">
        <h2><Text en="Versions" zh="版本" /></h2>
        <VersionTable list={list} first={first} second={second} setFirst={setFirst} setSecond={setSecond} />
      </section>
      <section class="stack" aria-live="polite">
        <h2><Text en={second ? "Side by side" : "Evaluation"} zh={second ? "并排比较" : "评估结果"} /></h2>
        <ResourceView resource={firstResource}>{(left) => second ? <ResourceView resource={secondResource}>{(right) => <VersionComparison versions={[left, right]} />}</ResourceView> : <VersionComparison versions={[left]} />}</ResourceView>
      </section>
      <section class="split">
        {[firstResource, ...(second ? [secondResource] : [])].map((resource, index) => <ResourceView key={index} resource={resource}>{(left) => <GatePanel key={left.version} version={left} onDone={reloadAll} variant={index ? "second" : "first"} />}</ResourceView>)}
      </section>
      <Monitoring model={list.model} />
      <section class="card">
        <h2><Text en="Promotions" zh="上线记录" /></h2>
        <PromotionTable rows={list.promotions} champion={list.champion} />
      </section>
    </div>
  );
}

const versionAddress = (model: string, version: string) => `/v1/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}`;

function VersionTable({ list, first, second, setFirst, setSecond }: {
  list: VersionList; first: string; second: string | null; setFirst: (version: string) => void; setSecond: (version: string) => void;
}) {
  const radio = (side: "first" | "second", line: VersionLine) => (
    <input type="radio" name={side} value={line.version} class={side} checked={(side === "first" ? first : second) === line.version}
      disabled={(side === "first" ? second : first) === line.version}
      aria-label={translate(`${side === "first" ? "Left" : "Right"}: ${line.version}`, `${side === "first" ? "左" : "右"}：${line.version}`)}
      onChange={() => (side === "first" ? setFirst : setSecond)(line.version)} />
  );
  const comparable = list.versions.length > 1;
  const known = list.versions.filter((line) => line.figures?.auc);
  return (
    <div class={known.length > 1 ? "versions" : ""}>
      <Table caption={["Versions, newest first", "版本，最新在前"]} rows={list.versions} keyOf={(line) => line.version} columns={[
        ...(comparable ? [
          { en: "Left", zh: "左", cell: (line: VersionLine) => radio("first", line) },
          { en: "Right", zh: "右", cell: (line: VersionLine) => radio("second", line) },
        ] : []),
        { en: "Version", zh: "版本", cell: (line) => <>{line.version}{line.refused ? <p class="bad-text small" lang="en">{line.refused}</p> : null}</> },
        { en: "Status", zh: "状态", cell: (line) => <span class="actions"><VersionStatus line={line} serving={list.serving} /></span> },
        { en: "Trained", zh: "训练时间", cell: (line) => formatTimestamp(line.created) },
        { en: "Gate", zh: "门槛检查", cell: (line) => <GateChip passed={line.gate} /> },
        { en: "AUC [95 %]", zh: "AUC [95 %]", number: true, cell: (line) => <EstimateText estimate={line.figures?.auc} /> },
        { en: "Run", zh: "运行", cell: (line) => line.run ? <a href={line.run} rel="noreferrer" target="_blank">MLflow<span class="hidden"> {line.version}</span></a> : "–" },
      ]} />
      {known.length > 1 ? (
        <ForestPlot title={["AUC of each version", "各版本 AUC"]} note={["With 95 % intervals, each on its own held-out rows.", "含 95% 置信区间，各在其留出数据上。"]}
          headers={[["Version", "版本"], ["AUC", "AUC"]]}
          rows={known.map((line) => ({ key: line.version, label: line.version, estimate: line.figures!.auc!, variant: line.version === second ? "second" as const : "first" as const }))} />
      ) : null}
      {list.next ? <p class="quiet"><Text en="Older versions are not listed." zh="更早的版本未显示。" /></p> : null}
    </div>
  );
}

function PromotionTable({ rows, champion }: { rows: Promotion[]; champion: string | null }) {
  if (!rows.length) return <Empty en="No version has been promoted from this page yet. Training promotes a version automatically when it passes the gate." zh="尚未在此更改过在线版本。训练所得版本通过门槛检查后自动上线。" />;
  return (
    <Table caption={["Promotions", "上线记录"]} rows={rows} keyOf={(row) => row.id} columns={[
      { en: "When", zh: "时间", cell: (row) => formatTimestamp(row.at) },
      { en: "Action", zh: "操作", cell: (row) => ACTIONS[row.kind] },
      { en: "Version", zh: "版本", cell: (row) => <>{row.version}{row.stands === false ? <p class="bad-text small"><Text en={`The pointer on disk names ${champion ?? "no version"}: it was changed by training or manually, or could not be written.`} zh={`磁盘上的上线指针为 ${champion ?? "无"}：由训练或人工改动，或未能写入。`} /></p> : null}</> },
      { en: "Replaced", zh: "替换版本", cell: (row) => row.before ?? "–" },
      { en: "By", zh: "操作人", cell: (row) => row.own ? [row.by, row.confirmed_by].filter(Boolean).join(", ") : <Text en="another institution" zh="其他机构" /> },
      { en: "Reason", zh: "理由", cell: (row) => row.reason ?? "–" },
    ]} />
  );
}

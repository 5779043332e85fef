// One model: its versions, two of them side by side, the gate, and how it does over time.

import { useState } from "preact/hooks";
import { useAsk } from "../../ui/api";
import { Empty, Shown } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { moment } from "../../ui/format";
import { plain, Say } from "../../ui/i18n";
import { Compare } from "./compare";
import { Forest } from "./forest-plot";
import { OverTime } from "./monitoring";
import { Promote } from "./promotion";
import type { Line, Listed, Promotion, Version } from "./types";
import { Gate, PRODUCTS, Sentence, Simulated, Standing, Told } from "./labels";

export function ModelPage({ name }: { name: string }) {
  const asked = useAsk<Listed>(`/v1/models/${encodeURIComponent(name)}/versions`);
  return (
    <>
      <p class="crumb"><a href="/console/models"><Say en="All models" zh="全部模型" /></a></p>
      <Shown of={asked}>{(listed) => <Whole listed={listed} again={asked.again} />}</Shown>
    </>
  );
}

const other = (listed: Listed, first: string) =>
  (listed.versions.find((one) => one.aliases.includes("challenger") && one.version !== first) ?? listed.versions.find((one) => one.version !== first))?.version ?? null;

function Whole({ listed, again }: { listed: Listed; again: () => void }) {
  const [first, setFirst] = useState(listed.serving ?? listed.versions[0]?.version ?? "");
  const [second, setSecond] = useState(other(listed, first));
  const a = useAsk<Version>(first ? address(listed.model, first) : null);
  const b = useAsk<Version>(second ? address(listed.model, second) : null);
  const card = listed.versions.find((one) => one.version === listed.serving) ?? listed.versions[0];
  if (!card) return <Empty en="This model has no version." zh="该模型没有版本。" />;
  const [en, zh] = PRODUCTS[card.product ?? ""] ?? ["", ""];
  const promoted = () => { again(); a.again(); b.again(); };
  return (
    <div class="stack">
      <div class="page-head">
        <h1>{listed.model}</h1><span class="quiet"><Say en={en} zh={zh} /></span>{card.simulated ? <Simulated /> : null}
        {card.purpose ? <p class="quiet wide"><Sentence en={card.purpose} zh={card.purpose_zh} /></p> : null}
        {card.not_for ? <p class="quiet wide"><strong><Say en="Not for: " zh="不适用于：" /></strong><Sentence en={card.not_for} zh={card.not_for_zh} /></p> : null}
      </div>
      <section class="card">
        <h2><Say en="Versions" zh="版本" /></h2>
        <Versions listed={listed} first={first} second={second} setFirst={setFirst} setSecond={setSecond} />
      </section>
      <section class="stack" aria-live="polite">
        <h2><Say en={second ? "Side by side" : "What the judge found"} zh={second ? "并排比较" : "评审结果"} /></h2>
        <Shown of={a}>{(one) => second ? <Shown of={b}>{(two) => <Compare versions={[one, two]} />}</Shown> : <Compare versions={[one]} />}</Shown>
      </section>
      <section class="split">
        {[a, ...(second ? [b] : [])].map((asked, at) => <Shown key={at} of={asked}>{(one) => <Promote version={one} done={promoted} look={at ? "second" : "first"} />}</Shown>)}
      </section>
      <OverTime model={listed.model} />
      <section class="card">
        <h2><Say en="Who made which version serve" zh="上线记录" /></h2>
        <History rows={listed.promotions} champion={listed.champion} />
      </section>
    </div>
  );
}

const address = (model: string, version: string) => `/v1/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}`;

function Versions({ listed, first, second, setFirst, setSecond }: {
  listed: Listed; first: string; second: string | null; setFirst: (version: string) => void; setSecond: (version: string) => void;
}) {
  const choice = (which: "first" | "second", line: Line) => (
    <input type="radio" name={which} value={line.version} class={which} checked={(which === "first" ? first : second) === line.version}
      disabled={(which === "first" ? second : first) === line.version}
      aria-label={plain(`${which === "first" ? "Left" : "Right"}: ${line.version}`, `${which === "first" ? "左" : "右"}：${line.version}`)}
      onChange={() => (which === "first" ? setFirst : setSecond)(line.version)} />
  );
  const many = listed.versions.length > 1;
  const known = listed.versions.filter((line) => line.figures?.auc);
  return (
    <div class={known.length > 1 ? "versions" : ""}>
      <Table caption={["Versions, newest first", "版本，最新在前"]} rows={listed.versions} keyOf={(line) => line.version} columns={[
        ...(many ? [
          { en: "Left", zh: "左", cell: (line: Line) => choice("first", line) },
          { en: "Right", zh: "右", cell: (line: Line) => choice("second", line) },
        ] : []),
        { en: "Version", zh: "版本", cell: (line) => <>{line.version}{line.refused ? <p class="bad-text small" lang="en">{line.refused}</p> : null}</> },
        { en: "Standing", zh: "状态", cell: (line) => <span class="actions"><Standing line={line} serving={listed.serving} /></span> },
        { en: "Trained", zh: "训练时间", cell: (line) => moment(line.created) },
        { en: "Gate", zh: "门槛检查", cell: (line) => <Gate passed={line.gate} /> },
        { en: "AUC [95 %]", zh: "AUC [95 %]", number: true, cell: (line) => <Told of={line.figures?.auc} /> },
        { en: "Run", zh: "运行", cell: (line) => line.run ? <a href={line.run} rel="noreferrer" target="_blank">MLflow<span class="hidden"> {line.version}</span></a> : "–" },
      ]} />
      {known.length > 1 ? (
        <Forest title={["AUC of each version", "各版本 AUC"]} note={["With 95 % intervals, each on its own held-out rows.", "含 95 % 置信区间，各在其留出数据上。"]}
          heads={[["Version", "版本"], ["AUC", "AUC"]]}
          rows={known.map((line) => ({ key: line.version, label: line.version, figure: line.figures!.auc!, look: line.version === second ? "second" as const : "first" as const }))} />
      ) : null}
      {listed.next ? <p class="quiet"><Say en="Older versions are not shown." zh="更早的版本未显示。" /></p> : null}
    </div>
  );
}

function History({ rows, champion }: { rows: Promotion[]; champion: string | null }) {
  if (!rows.length) return <Empty en="Nobody has changed what serves from here yet. Training promotes a version by itself where its gate passes." zh="尚无人在此更改在线版本。训练时若通过门槛检查会自动上线。" />;
  return (
    <Table caption={["Who made which version serve", "上线记录"]} rows={rows} keyOf={(row) => row.id} columns={[
      { en: "When", zh: "时间", cell: (row) => moment(row.at) },
      { en: "What", zh: "操作", cell: (row) => row.kind === "promote" ? <Say en="promoted" zh="上线" /> : <Say en="rolled back" zh="回退" /> },
      { en: "Version", zh: "版本", cell: (row) => <>{row.version}{row.stands === false ? <p class="bad-text small"><Say en={`The pointer on the disk names ${champion ?? "none"}: it was moved by training or by hand, or could not be written.`} zh={`磁盘上的上线指针为 ${champion ?? "无"}：由训练或人工改动，或未能写入。`} /></p> : null}</> },
      { en: "In place of", zh: "替换", cell: (row) => row.before ?? "–" },
      { en: "By", zh: "操作人", cell: (row) => row.own ? row.by : <Say en="another institution" zh="其他机构" /> },
      { en: "Reason", zh: "理由", cell: (row) => row.reason ?? "–" },
    ]} />
  );
}

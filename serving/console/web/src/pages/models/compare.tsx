// Two versions side by side, drawn from what their signed cards hold.

import { Lines } from "../../ui/chart/line-chart";
import { number, percent, unitOf } from "../../ui/format";
import { Empty } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { plain, Say } from "../../ui/i18n";
import { Forest } from "./forest-plot";
import { Spread } from "./histogram";
import type { Plots, Version } from "./types";
import { BEST, FIGURES, places, Told } from "./labels";

const LOOKS = ["first", "second"] as const;
const ATTRIBUTES: Record<string, string> = { sex: "性别", age: "年龄", ethnicity: "民族", religion: "宗教", health: "健康" };

const FAIRNESS = [
  { part: "approval", title: ["Approvals by audit group", "各群体的审批比例"] },
  { part: "limit", title: ["Limits at equal risk by audit group", "同等风险下各群体的额度"] },
] as const;
const OTHERS: Record<string, string> = { scorecard: "传统评分卡", unconstrained: "无约束 LightGBM", with_moral_data: "加入品行数据（不上线）", with_shell_flags: "加入空壳标志（不上线）" };

interface Drawn {
  version: Version;
  plots: Plots;
  look: (typeof LOOKS)[number];
}

export function Compare({ versions }: { versions: Version[] }) {
  const drawn: Drawn[] = versions.flatMap((version, at) => (version.plots ? [{ version, plots: version.plots, look: LOOKS[at]! }] : []));
  const bare = versions.filter((version) => !version.plots);
  return (
    <div class="stack">
      <Figures versions={versions} />
      {bare.map((version) => version.refused ? (
        <Empty key={version.version} en={`The bundle of ${version.version} is refused, so its card proves nothing: ${version.refused}`}
          zh={`版本 ${version.version} 的模型包被拒绝，其卡片不足为凭：${version.refused}`} />
      ) : (
        <Empty key={version.version} en={`The card of ${version.version} holds nothing to draw: it was signed before cards did. Its figures stand above; a new training brings the plots.`}
          zh={`版本 ${version.version} 的卡片不含绘图数据（签发早于该功能）。数值见上；重新训练后即有图。`} />
      ))}
      {drawn.length ? <Plotted drawn={drawn} /> : null}
    </div>
  );
}

function Figures({ versions }: { versions: Version[] }) {
  const names = Object.keys(FIGURES).filter((name) => versions.some((version) => version.figures?.[name]));
  const [a, b] = versions;
  return (
    <section class="card">
      <Table caption={["Figures with 95 % intervals", "数值及 95 % 置信区间"]} rows={names} keyOf={(name) => name} columns={[
        { en: "Figure", zh: "指标", cell: (name) => <><Say en={FIGURES[name]![0]} zh={FIGURES[name]![1]} />{BEST[name] ? <small class="interval"> <Say en={BEST[name]![0]} zh={BEST[name]![1]} /></small> : null}</> },
        ...versions.map((version, at) => ({ en: version.version, zh: version.version, number: true, cell: (name: string) => <span class={LOOKS[at]}><Told of={version.figures?.[name]} /></span> })),
        ...(a && b ? [{ en: "Right less left", zh: "右减左", number: true, cell: (name: string) => difference(a.figures?.[name]?.value, b.figures?.[name]?.value) }] : []),
      ]} />
      <p class="quiet">
        {versions.map((version) => <span key={version.version} class="held"><Say en={`${version.version}: ${version.rows ? number(version.rows) : "–"} held-out rows`} zh={`${version.version}：留出 ${version.rows ? number(version.rows) : "–"} 行`} /> </span>)}
        {b ? <Say en="The two may have been judged on different rows; the gate compares them on the same." zh="两版本的评审数据可能不同；门槛检查在相同数据上比较。" /> : null}
      </p>
    </section>
  );
}

const difference = (one: number | null | undefined, two: number | null | undefined) =>
  one === null || one === undefined || two === null || two === undefined ? "–" : `${two - one < 0 ? "−" : "+"}${Math.abs(two - one).toFixed(3)}`;

function Plotted({ drawn }: { drawn: Drawn[] }) {
  const share = (value: number) => percent(value, 0);
  const most = Math.min(1, 1.05 * Math.max(...drawn.flatMap(({ plots }) => plots.reliability.flatMap((one) => [one.stated, one.high]))));
  const fair = drawn.filter(({ plots }) => plots.fairness.length);
  const earned = drawn.filter(({ plots }) => plots.profit);
  const cut = Math.max(0.05, ...earned.map(({ plots }) => Math.max(...plots.profit!.x)));
  const beside = drawn.filter(({ version }) => Object.keys(version.metrics?.beside ?? {}).length);
  const slides = drawn.some(({ plots }) => plots.unit !== "rows");
  return (
    <div class="plots">
      <section class="card">
        <Lines square title={["Who is ranked first: ROC curve", "排序能力：ROC 曲线"]} note={["The nearer to the upper left corner, the better.", "越靠近左上角越好。"]} diagonal
          x={{ en: slides ? "share of negatives flagged" : "share of the good refused", zh: slides ? "阴性被标记比例" : "好客户被拒比例", domain: [0, 1], told: share }}
          y={{ en: "share of the bad found", zh: "坏客户识别比例", domain: [0, 1], told: share }}
          lines={drawn.flatMap(({ version, plots, look }) => plots.roc.slice(0, 1).map((curve) => ({
            key: version.version, en: `${version.version}: AUC ${places(curve.auc)}`, zh: `${version.version}：AUC ${places(curve.auc)}`, look,
            points: curve.x.map((x, at) => ({ x, y: curve.y[at]! })),
          })))}
          behind={{ heads: [["Version", "版本"], ["Model", "模型"], ["AUC", "AUC"]], rows: drawn.flatMap(({ version, plots }) => plots.roc.map((curve) => [version.version, curve.name.replaceAll("_", " "), places(curve.auc)])) }} />
      </section>
      <section class="card">
        <Lines square title={["Stated and seen risk", "校准：预测与实际"]} note={["Tenths of the rows with 95 % intervals; on the diagonal, stated is what came.", "按预测排序的十等分，含 95 % 置信区间；位于对角线即预测等于实际。"]} diagonal
          x={{ en: slides ? "stated probability" : "stated probability of default", zh: slides ? "预测概率" : "预测违约率", domain: [0, most], told: share }}
          y={{ en: "share seen", zh: "实际比例", domain: [0, most], told: share }}
          lines={drawn.map(({ version, plots, look }) => ({
            key: version.version, en: version.version, zh: version.version, look,
            points: plots.reliability.map((one) => ({ x: one.stated, y: one.seen, low: Math.max(0, one.low), high: Math.min(most, one.high) })),
          }))}
          behind={{ heads: [["Version", "版本"], ["Stated", "预测"], ["Seen", "实际"], ["Rows", "行数"]], rows: drawn.flatMap(({ version, plots }) => plots.reliability.map((one) => [version.version, percent(one.stated), `${percent(one.seen)} [${percent(one.low)}, ${percent(one.high)}]`, number(one.rows)])) }} />
      </section>
      {drawn.map(({ version, plots, look }) => plots.spread ? (
        <section class="card" key={`spread ${version.version}`}><p class={`whose ${look}`}>{version.version}</p>
          <Spread of={plots.spread} title={plots.spread.what === "score" ? ["Scores of those who repaid and those who did not", "评分分布"] : ["Stated probabilities of negatives and positives", "预测概率分布"]} />
        </section>
      ) : null)}
      {earned.length ? (
        <section class={beside.length === 1 ? "card" : "card wide"}>
          <Lines title={["Profit by cut-off", "不同审批线下的利润"]} note={["Per applicant and year, if all up to this probability of default were approved.", "若批准该违约率以内的全部申请人，人均年利润。"]}
            x={{ en: "approve up to this probability of default", zh: "批准至该违约率", domain: [0, Math.min(cut, 0.6)], told: share }}
            y={{ en: `${unitOf(earned[0]!.plots.currency)[0]} a year`, zh: `${unitOf(earned[0]!.plots.currency)[1]}/年`, told: (value) => number(value) }}
            lines={earned.map(({ version, plots, look }) => ({
              key: version.version, en: version.version, zh: version.version, look,
              points: plots.profit!.x.map((x, at) => ({ x, y: plots.profit!.y[at]! })).filter((point) => point.x <= 0.6),
            }))}
            behind={{ heads: [["Version", "版本"], ["Best cut-off", "最佳审批线"], ["Profit there", "此时利润"]], rows: earned.map(({ version, plots }) => {
              const best = plots.profit!.y.indexOf(Math.max(...plots.profit!.y));
              return [version.version, percent(plots.profit!.x[best]!), `${plots.currency} ${number(plots.profit!.y[best]!)}`];
            }) }} />
        </section>
      ) : null}
      {beside.map(({ version, look }) => (
        <section class="card" key={`beside ${version.version}`}><p class={`whose ${look}`}>{version.version}</p>
          <Forest title={["Beside other models on the same rows", "与同数据上的其他模型比较"]} note={["AUC with 95 % intervals; the others never serve.", "AUC 及 95 % 置信区间；其他模型不上线。"]} heads={[["Model", "模型"], ["AUC", "AUC"]]}
            rows={[
              { key: "ours", label: <Say en="this model" zh="本模型" />, figure: version.figures?.auc ?? { value: null, low: null, high: null }, look },
              ...Object.entries(version.metrics?.beside ?? {}).map(([name, other]) => ({ key: name, look: "soft" as const, figure: other.auc, label: <Say en={name.replaceAll("_", " ")} zh={OTHERS[name] ?? name} /> })),
            ]} />
        </section>
      ))}
      {FAIRNESS.map(({ part, title }) => fair.filter(({ plots }) => plots.fairness.some((one) => one[part].value !== null)).map(({ version, plots, look }) => (
        <section class="card" key={`${part} ${version.version}`}><p class={`whose ${look}`}>{version.version}</p>
          <Forest title={title} note={["Ratio to the attribute's largest group. 1 is alike; below 0.8 is looked into.", "与该属性最大群体之比。1 为一致；低于 0.8 需核查。"]}
            heads={[["Group", "群体"], ["Ratio", "比值"]]} marks={[{ at: 1, look: "even" }, { at: 0.8, look: "least" }]}
            rows={plots.fairness.map((one) => ({
              key: `${one.attribute} ${one.value}`, figure: one[part], look: (one[part].value ?? 1) < 0.8 ? "bad" as const : look,
              label: <><Say en={one.attribute} zh={ATTRIBUTES[one.attribute] ?? one.attribute} />: {one.value}</>,
            }))} />
        </section>
      )))}
      {drawn.map(({ version, plots, look }) => plots.weights.length ? (
        <section class="card" key={`weights ${version.version}`}><p class={`whose ${look}`}>{version.version}</p><Weights plots={plots} look={look} /></section>
      ) : null)}
      {drawn.map(({ version, plots, look }) => plots.learning.length ? (
        <section class="card" key={`learning ${version.version}`}><p class={`whose ${look}`}>{version.version}</p>
          <Lines title={["How it learned", "学习曲线"]} x={{ en: "epoch", zh: "轮次" }} y={{ en: "mean loss", zh: "平均损失" }}
            lines={plots.learning.map((curve) => ({
              key: curve.name, en: curve.name === "held" ? "groups held back" : "tiles learned from", zh: curve.name === "held" ? "留出数据" : "训练图块",
              look: curve.name === "held" ? "first" as const : "soft" as const, points: curve.x.map((x, at) => ({ x, y: curve.y[at]! })),
            }))} />
        </section>
      ) : null)}
    </div>
  );
}

function Weights({ plots, look }: { plots: Plots; look: string }) {
  const most = Math.max(...plots.weights.map((one) => one.points), 1e-9);
  return (
    <figure class="figure">
      <figcaption><strong><Say en="What moves the score most" zh="影响评分最大的指标" /></strong><p class="quiet"><Say en="Mean size of the points that an indicator adds or takes." zh="指标加减分的平均幅度（分）。" /></p></figcaption>
      <ul class={`forest ${look}`} aria-label={plain("What moves the score most", "影响评分最大的指标")}>
        {plots.weights.map((one) => (
          <li key={one.name}>
            <span class="words"><Say en={one.en} zh={one.zh} /></span>
            <svg viewBox="0 0 200 18" preserveAspectRatio="none" aria-hidden="true"><rect x="0" y="4" height="10" width={(200 * one.points) / most} /></svg>
            <b>{one.points.toFixed(1)}</b>
          </li>
        ))}
      </ul>
    </figure>
  );
}

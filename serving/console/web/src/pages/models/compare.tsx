// Two versions side by side, plotted from the data in their signed cards.

import { LineChart } from "../../ui/chart/line-chart";
import { formatNumber, formatPercent, unitOf } from "../../ui/format";
import { Empty } from "../../ui/feedback";
import { Table } from "../../ui/table";
import { translate, Text } from "../../ui/i18n";
import { ForestPlot } from "./forest-plot";
import { Histogram } from "./histogram";
import type { Plots, Version } from "./types";
import { IDEAL_VALUES, METRIC_LABELS, formatDecimal, EstimateText } from "./labels";

const VARIANTS = ["first", "second"] as const;
const ATTRIBUTES: Record<string, string> = { sex: "性别", age: "年龄", ethnicity: "民族", religion: "宗教", health: "健康" };

const FAIRNESS = [
  { part: "approval", title: ["Approvals by audit group", "各群体的审批比例"] },
  { part: "limit", title: ["Limits at equal risk by audit group", "同等风险下各群体的额度"] },
] as const;
const BASELINES: Record<string, string> = { scorecard: "传统评分卡", unconstrained: "无约束 LightGBM", with_moral_data: "加入品行数据（不上线）", with_shell_flags: "加入空壳标志（不上线）" };

interface PlottedVersion {
  version: Version;
  plots: Plots;
  variant: (typeof VARIANTS)[number];
}

export function VersionComparison({ versions }: { versions: Version[] }) {
  const plotted: PlottedVersion[] = versions.flatMap((version, index) => (version.plots ? [{ version, plots: version.plots, variant: VARIANTS[index]! }] : []));
  const unplotted = versions.filter((version) => !version.plots);
  return (
    <div class="stack">
      <MetricTable versions={versions} />
      {unplotted.map((version) => version.refused ? (
        <Empty key={version.version} en={`The bundle of ${version.version} was rejected, so its card cannot be relied on: ${version.refused}`}
          zh={`版本 ${version.version} 的模型包被拒绝加载，其模型卡不可作为依据：${version.refused}`} />
      ) : (
        <Empty key={version.version} en={`The card of ${version.version} has no plot data: it was signed before plot data were introduced. Its metrics are listed above; retraining adds the plots.`}
          zh={`版本 ${version.version} 的模型卡不含绘图数据（签署早于该功能）。评估指标见上表；重新训练后即可显示图表。`} />
      ))}
      {plotted.length ? <PlotGrid plotted={plotted} /> : null}
    </div>
  );
}

function MetricTable({ versions }: { versions: Version[] }) {
  const names = Object.keys(METRIC_LABELS).filter((name) => versions.some((version) => version.figures?.[name]));
  const [a, b] = versions;
  return (
    <section class="card">
      <Table caption={["Metrics with 95 % intervals", "评估指标及 95% 置信区间"]} rows={names} keyOf={(name) => name} columns={[
        { en: "Metric", zh: "指标", cell: (name) => <><Text en={METRIC_LABELS[name]![0]} zh={METRIC_LABELS[name]![1]} />{IDEAL_VALUES[name] ? <small class="interval"> <Text en={IDEAL_VALUES[name]![0]} zh={IDEAL_VALUES[name]![1]} /></small> : null}</> },
        ...versions.map((version, index) => ({ en: version.version, zh: version.version, number: true, cell: (name: string) => <span class={VARIANTS[index]}><EstimateText estimate={version.figures?.[name]} /></span> })),
        ...(a && b ? [{ en: "Right minus left", zh: "右减左", number: true, cell: (name: string) => difference(a.figures?.[name]?.value, b.figures?.[name]?.value) }] : []),
      ]} />
      <p class="quiet">
        {versions.map((version) => <span key={version.version} class="row-count"><Text en={`${version.version}: ${version.rows ? formatNumber(version.rows) : "–"} held-out rows`} zh={`${version.version}：留出 ${version.rows ? formatNumber(version.rows) : "–"} 行`} /> </span>)}
        {b ? <Text en="The two versions may have been evaluated on different rows; the gate compares them on the same rows." zh="两个版本的评估数据可能不同；门槛检查使用相同数据进行比较。" /> : null}
      </p>
    </section>
  );
}

const difference = (left: number | null | undefined, right: number | null | undefined) =>
  left === null || left === undefined || right === null || right === undefined ? "–" : `${right - left < 0 ? "−" : "+"}${Math.abs(right - left).toFixed(3)}`;

function PlotGrid({ plotted }: { plotted: PlottedVersion[] }) {
  const formatShare = (value: number) => formatPercent(value, 0);
  const max = Math.min(1, 1.05 * Math.max(...plotted.flatMap(({ plots }) => plots.reliability.flatMap((item) => [item.stated, item.high]))));
  const withFairness = plotted.filter(({ plots }) => plots.fairness.length);
  const withProfit = plotted.filter(({ plots }) => plots.profit);
  const maxCutoff = Math.max(0.05, ...withProfit.map(({ plots }) => Math.max(...plots.profit!.x)));
  const withBaselines = plotted.filter(({ version }) => Object.keys(version.metrics?.beside ?? {}).length);
  const slides = plotted.some(({ plots }) => plots.unit !== "rows");
  return (
    <div class="plots">
      <section class="card">
        <LineChart square title={["Discrimination: ROC curve", "排序能力：ROC 曲线"]} note={["Closer to the upper left corner is better.", "越靠近左上角越好。"]} diagonal
          x={{ en: slides ? "false positive rate" : "false positive rate: good applicants refused", zh: slides ? "假阳性率" : "假阳性率（好客户被拒）", domain: [0, 1], format: formatShare }}
          y={{ en: "true positive rate", zh: "真阳性率", domain: [0, 1], format: formatShare }}
          lines={plotted.flatMap(({ version, plots, variant }) => plots.roc.slice(0, 1).map((curve) => ({
            key: version.version, en: `${version.version}: AUC ${formatDecimal(curve.auc)}`, zh: `${version.version}：AUC ${formatDecimal(curve.auc)}`, variant,
            points: curve.x.map((x, index) => ({ x, y: curve.y[index]! })),
          })))}
          table={{ headers: [["Version", "版本"], ["Model", "模型"], ["AUC", "AUC"]], rows: plotted.flatMap(({ version, plots }) => plots.roc.map((curve) => [version.version, curve.name.replaceAll("_", " "), formatDecimal(curve.auc)])) }} />
      </section>
      <section class="card">
        <LineChart square title={["Calibration: predicted and observed", "校准：预测与实际"]} note={["Deciles of the rows with 95 % intervals; on the diagonal, predicted equals observed.", "按预测排序的十等分，含 95% 置信区间；位于对角线即预测等于实际。"]} diagonal
          x={{ en: slides ? "predicted probability" : "predicted probability of default", zh: slides ? "预测概率" : "预测违约概率", domain: [0, max], format: formatShare }}
          y={{ en: "observed share", zh: "实际比例", domain: [0, max], format: formatShare }}
          lines={plotted.map(({ version, plots, variant }) => ({
            key: version.version, en: version.version, zh: version.version, variant,
            points: plots.reliability.map((item) => ({ x: item.stated, y: item.seen, low: Math.max(0, item.low), high: Math.min(max, item.high) })),
          }))}
          table={{ headers: [["Version", "版本"], ["Predicted", "预测"], ["Observed", "实际"], ["Rows", "行数"]], rows: plotted.flatMap(({ version, plots }) => plots.reliability.map((item) => [version.version, formatPercent(item.stated), `${formatPercent(item.seen)} [${formatPercent(item.low)}, ${formatPercent(item.high)}]`, formatNumber(item.rows)])) }} />
      </section>
      {plotted.map(({ version, plots, variant }) => plots.spread ? (
        <section class="card" key={`spread ${version.version}`}><p class={`version-name ${variant}`}>{version.version}</p>
          <Histogram spread={plots.spread} title={plots.spread.what === "score" ? ["Score distribution by repayment", "评分分布"] : ["Distribution of the predicted probability", "预测概率分布"]} />
        </section>
      ) : null)}
      {withProfit.length ? (
        <section class={withBaselines.length === 1 ? "card" : "card wide"}>
          <LineChart title={["Profit by cut-off", "不同审批线下的利润"]} note={["Per applicant and year, if all applicants up to this probability of default were approved.", "假设违约概率不高于该值的申请人全部获批，人均年利润。"]}
            x={{ en: "approve up to this probability of default", zh: "审批线（违约概率）", domain: [0, Math.min(maxCutoff, 0.6)], format: formatShare }}
            y={{ en: `${unitOf(withProfit[0]!.plots.currency)[0]} a year`, zh: `${unitOf(withProfit[0]!.plots.currency)[1]}/年`, format: (value) => formatNumber(value) }}
            lines={withProfit.map(({ version, plots, variant }) => ({
              key: version.version, en: version.version, zh: version.version, variant,
              points: plots.profit!.x.map((x, index) => ({ x, y: plots.profit!.y[index]! })).filter((point) => point.x <= 0.6),
            }))}
            table={{ headers: [["Version", "版本"], ["Best cut-off", "最佳审批线"], ["Profit at the cut-off", "该线利润"]], rows: withProfit.map(({ version, plots }) => {
              const best = plots.profit!.y.indexOf(Math.max(...plots.profit!.y));
              return [version.version, formatPercent(plots.profit!.x[best]!), `${plots.currency} ${formatNumber(plots.profit!.y[best]!)}`];
            }) }} />
        </section>
      ) : null}
      {withBaselines.map(({ version, variant }) => (
        <section class="card" key={`beside ${version.version}`}><p class={`version-name ${variant}`}>{version.version}</p>
          <ForestPlot title={["Comparison with other models on the same rows", "与其他模型的比较（相同数据）"]} note={["AUC with 95 % intervals; the other models are never deployed.", "AUC 及 95% 置信区间；其他模型不上线。"]} headers={[["Model", "模型"], ["AUC", "AUC"]]}
            rows={[
              { key: "ours", label: <Text en="this model" zh="本模型" />, estimate: version.figures?.auc ?? { value: null, low: null, high: null }, variant },
              ...Object.entries(version.metrics?.beside ?? {}).map(([name, baseline]) => ({ key: name, variant: "soft" as const, estimate: baseline.auc, label: <Text en={name.replaceAll("_", " ")} zh={BASELINES[name] ?? name} /> })),
            ]} />
        </section>
      ))}
      {FAIRNESS.map(({ part, title }) => withFairness.filter(({ plots }) => plots.fairness.some((item) => item[part].value !== null)).map(({ version, plots, variant }) => (
        <section class="card" key={`${part} ${version.version}`}><p class={`version-name ${variant}`}>{version.version}</p>
          <ForestPlot title={title} note={["Ratio to the largest group of the attribute. 1 means parity; below 0.8 is investigated.", "与该属性最大群体之比。1 为一致；低于 0.8 须核查。"]}
            headers={[["Group", "群体"], ["Ratio", "比值"]]} marks={[{ value: 1, variant: "parity" }, { value: 0.8, variant: "minimum" }]}
            rows={plots.fairness.map((item) => ({
              key: `${item.attribute} ${item.value}`, estimate: item[part], variant: (item[part].value ?? 1) < 0.8 ? "bad" as const : variant,
              label: <><Text en={item.attribute} zh={ATTRIBUTES[item.attribute] ?? item.attribute} />: {item.value}</>,
            }))} />
        </section>
      )))}
      {plotted.map(({ version, plots, variant }) => plots.weights.length ? (
        <section class="card" key={`weights ${version.version}`}><p class={`version-name ${variant}`}>{version.version}</p><Weights plots={plots} variant={variant} /></section>
      ) : null)}
      {plotted.map(({ version, plots, variant }) => plots.learning.length ? (
        <section class="card" key={`learning ${version.version}`}><p class={`version-name ${variant}`}>{version.version}</p>
          <LineChart title={["Learning curve", "学习曲线"]} x={{ en: "epoch", zh: "轮次" }} y={{ en: "mean loss", zh: "平均损失" }}
            lines={plots.learning.map((curve) => ({
              key: curve.name, en: curve.name === "held" ? "validation groups" : "training tiles", zh: curve.name === "held" ? "留出数据" : "训练图块",
              variant: curve.name === "held" ? "first" as const : "soft" as const, points: curve.x.map((x, index) => ({ x, y: curve.y[index]! })),
            }))} />
        </section>
      ) : null)}
    </div>
  );
}

function Weights({ plots, variant }: { plots: Plots; variant: string }) {
  const max = Math.max(...plots.weights.map((item) => item.points), 1e-9);
  return (
    <figure class="figure">
      <figcaption><strong><Text en="Most influential indicators" zh="影响评分最大的指标" /></strong><p class="quiet"><Text en="Mean absolute points that an indicator contributes." zh="指标贡献分值的平均绝对值（分）。" /></p></figcaption>
      <ul class={`forest ${variant}`} aria-label={translate("Most influential indicators", "影响评分最大的指标")}>
        {plots.weights.map((item) => (
          <li key={item.name}>
            <span class="label"><Text en={item.en} zh={item.zh} /></span>
            <svg viewBox="0 0 200 18" preserveAspectRatio="none" aria-hidden="true"><rect x="0" y="4" height="10" width={(200 * item.points) / max} /></svg>
            <b>{item.points.toFixed(1)}</b>
          </li>
        ))}
      </ul>
    </figure>
  );
}

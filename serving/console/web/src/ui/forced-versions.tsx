// Versions that two people put into service although they had not passed the promotion gate. Each page that names a version marks them.

import { useResource } from "./api";
import { formatTimestamp } from "./format";
import { Text } from "./i18n";
import { Table } from "./table";

export interface ForcedPromotion {
  id: string;
  model: string;
  version: string;
  at: string;
  own: boolean;
  by: string | null; // this and the next two: null where another institution forced it
  confirmed_by: string | null;
  reason: string | null;
}

export interface ModelOnDisk {
  name: string;
  serving: string | null;
  forced: ForcedPromotion[];
}

export const useModelsOnDisk = () => useResource<{ models: ModelOnDisk[] }>("/v1/versions");

export const findForced = (models: ModelOnDisk[] | undefined, name: string, version: string): ForcedPromotion | undefined =>
  models?.find((model) => model.name === name)?.forced.find((entry) => entry.version === version);

export function ForcedChip() {
  return <span class="chip bad"><Text en="forced past its gate" zh="强制上线" /></span>;
}

const people = (entry: ForcedPromotion, and: string, unknown: string) => [entry.by, entry.confirmed_by].filter(Boolean).join(and) || unknown;

// Who forced a version, when and why.
export function ForcedSentence({ entry }: { entry: ForcedPromotion }) {
  const at = formatTimestamp(entry.at);
  return (
    <Text en={`Version ${entry.version} did not pass its gate. ${people(entry, " and ", "Another institution")} forced it into service on ${at}.${entry.reason ? ` Reason: ${entry.reason}` : ""}`}
      zh={`版本 ${entry.version} 未通过门槛检查，由${people(entry, "、", "其他机构")}于 ${at} 强制上线。${entry.reason ? `理由：${entry.reason}` : ""}`} />
  );
}

// All forced promotions, the newest first; nothing where there are none.
export function ForcedPromotions({ models }: { models: ModelOnDisk[] }) {
  const rows = models.flatMap((model) => model.forced.map((entry) => ({ ...entry, serves: model.serving === entry.version }))).sort((a, b) => (a.at < b.at ? 1 : -1));
  if (!rows.length) return null;
  return (
    <section class="card stack forced-promotions">
      <h2><Text en="Versions forced past their gate" zh="未通过门槛检查而强制上线的版本" /></h2>
      <Table caption={["Forced promotions, newest first", "强制上线记录（按时间倒序）"]} rows={rows} keyOf={(row) => row.id} columns={[
        { en: "When", zh: "时间", cell: (row) => formatTimestamp(row.at) },
        { en: "Version", zh: "版本", cell: (row) => <>{row.model} {row.version} {row.serves ? <span class="chip bad"><Text en="serving" zh="在线" /></span> : null}</> },
        { en: "By", zh: "操作人", cell: (row) => row.own ? <Text en={people(row, " and ", "–")} zh={people(row, "、", "–")} /> : <Text en="another institution" zh="其他机构" /> },
        { en: "Reason", zh: "理由", cell: (row) => row.reason ?? "–" },
      ]} />
    </section>
  );
}

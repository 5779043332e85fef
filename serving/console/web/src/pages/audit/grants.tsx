// Authorisations with their status, and the uses of each. The operator's section adds revocation.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { fetchJson, useResource } from "../../ui/api";
import { formatTimestamp, formatNumber } from "../../ui/format";
import { groupNames } from "../../ui/indicator-groups";
import { Empty, ErrorMessage, ResourceView } from "../../ui/feedback";
import { Table, type Column } from "../../ui/table";
import { translate, Text, labelOf } from "../../ui/i18n";
import { GRANT_KINDS, PRODUCTS, USE_KINDS } from "./labels";

export interface Grant {
  authorisation: string;
  kind: string;
  grantor: string;
  tenant: string;
  subject: string | null;
  purpose: string;
  groups: string[];
  valid_from: string;
  valid_to: string;
  revoked_at: string | null;
  document_sha256: string;
  created: string;
  by: string;
}

interface Use {
  leaf: number;
  kind: string;
  decision: string | null;
  what: string | null;
  at: string;
  tenant: string;
  product: string | null;
  model: string | null;
  version: string | null;
  rows: number | null;
}

interface GrantUsage extends Grant {
  used: number;
  uses: Use[];
  next: number | null;
  models: { model: string; version: string; bundle: string; data: string[] }[];
}

export function GrantState({ grant }: { grant: Grant }) {
  const now = new Date().toISOString();
  if (grant.revoked_at) return <span class="chip bad"><Text en="Revoked" zh="已撤销" /></span>;
  if (grant.valid_to <= now) return <span class="chip"><Text en="Expired" zh="已到期" /></span>;
  if (grant.valid_from > now) return <span class="chip warn"><Text en="Not yet valid" zh="未生效" /></span>;
  return <span class="chip good"><Text en="Valid" zh="有效" /></span>;
}

// An end at midnight was entered as the day before, which is included.
export function ValidUntil({ end }: { end: string }) {
  const day = /T00:00:00(\.0+)?Z$/.test(end) ? new Date(Date.parse(end) - 1).toISOString().slice(0, 10) : null;
  return day ? <Text en={`until ${day}, inclusive`} zh={`至 ${day}（含当日）`} /> : <Text en={`until ${formatTimestamp(end)}`} zh={`至 ${formatTimestamp(end)}`} />;
}

const shortId = (id: string) => `${id.slice(0, 8)}…${id.slice(-4)}`;

export function GrantTable({ basePath, showTenants, renderAction }: {
  basePath: string; // path to which an authorisation's id is appended
  showTenants?: boolean;
  renderAction?: (grant: Grant) => ComponentChildren;
}) {
  const list = useResource<{ authorisations: Grant[] }>("/v1/authorisations");
  const columns: Column<Grant>[] = [
    { en: "State", zh: "状态", cell: (grant) => <GrantState grant={grant} /> },
    { en: "Authorisation", zh: "编号", cell: (grant) => <a href={`${basePath}/${grant.authorisation}`}><code>{shortId(grant.authorisation)}</code></a> },
    { en: "Kind", zh: "类别", cell: (grant) => labelOf(GRANT_KINDS, grant.kind) },
    { en: "By", zh: "授权方", cell: (grant) => (grant.kind === "personal" ? <code>{shortId(grant.grantor)}</code> : grant.grantor) },
    ...(showTenants ? [{ en: "To", zh: "被授权机构", cell: (grant: Grant) => grant.tenant }] : []),
    { en: "Purpose", zh: "用途", cell: (grant) => labelOf(PRODUCTS, grant.purpose) },
    { en: "Groups", zh: "指标组", number: true, cell: (grant) => <span title={translate(groupNames(grant.groups, 0), groupNames(grant.groups, 1))}>{grant.groups.length}</span> },
    { en: "Valid", zh: "有效期", cell: (grant) => <ValidUntil end={grant.valid_to} /> },
    ...(renderAction ? [{ en: "Change", zh: "操作", cell: renderAction }] : []),
  ];
  return (
    <ResourceView resource={list}>
      {({ authorisations }) => !authorisations.length ? <Empty en="No authorisations have been entered yet." zh="暂无授权记录。" /> : (
        <section class="card stack">
          <Table caption={["Authorisations, newest first", "授权（按时间倒序）"]} columns={columns} rows={authorisations} keyOf={(grant) => grant.authorisation} />
          {authorisations.length === 200 ? <p class="quiet"><Text en="Only the latest 200 are shown." zh="仅显示最新 200 条。" /></p> : null}
        </section>
      )}
    </ResourceView>
  );
}

export function GrantPage({ id = "", backHref, decisionsHref }: { id?: string; backHref: string; decisionsHref?: string }) {
  const usage = useResource<GrantUsage>(`/v1/authorisations/${encodeURIComponent(id)}/uses`);
  return <div class="stack"><p><a href={backHref}><Text en="← All authorisations" zh="← 全部授权" /></a></p><ResourceView resource={usage}>{(grant) => <GrantDetails key={grant.authorisation} grant={grant} decisionsHref={decisionsHref} />}</ResourceView></div>;
}

function GrantDetails({ grant, decisionsHref }: { grant: GrantUsage; decisionsHref?: string }) {
  const [uses, setUses] = useState(grant.uses);
  const [next, setNext] = useState(grant.next);
  const [failure, setFailure] = useState<unknown>(null);
  const loadMore = async () => {
    setFailure(null);
    try {
      const page = await fetchJson<GrantUsage>(`/v1/authorisations/${grant.authorisation}/uses?before=${next}`);
      setUses([...uses, ...page.uses]);
      setNext(page.next);
    } catch (error) {
      setFailure(error);
    }
  };
  const decisionLink = ({ decision }: Use) => (decision === null ? "–" : decisionsHref ? <a href={`${decisionsHref}/${decision}`}><code>{decision}</code></a> : <code>{decision}</code>);
  const columns: Column<Use>[] = [
    { en: "Used", zh: "使用时间", cell: (use) => formatTimestamp(use.at) },
    { en: "By", zh: "使用方", cell: (use) => use.tenant },
    { en: "For", zh: "用于", cell: (use) => labelOf(USE_KINDS, use.what ?? use.kind) },
    { en: "Decision", zh: "决定", cell: decisionLink },
    { en: "Product", zh: "产品", cell: (use) => (use.product ? labelOf(PRODUCTS, use.product) : "–") },
    { en: "Model", zh: "模型", cell: (use) => (use.model ? `${use.model} ${use.version}` : "–") },
    { en: "Rows", zh: "行数", number: true, cell: (use) => (use.what ? "–" : use.rows === null ? "1" : formatNumber(use.rows)) },
    { en: "Log entry", zh: "日志序号", number: true, cell: (use) => use.leaf },
  ];
  return (
    <>
      <section class="card stack">
        <div class="page-head"><h1><Text en="Authorisation" zh="授权" /> <code>{grant.authorisation}</code></h1><GrantState grant={grant} /></div>
        <div class="split">
          <dl class="facts">
            <dt><Text en="Kind" zh="类别" /></dt><dd>{labelOf(GRANT_KINDS, grant.kind)}</dd>
            <dt><Text en="Granted by" zh="授权方" /></dt><dd>{grant.grantor}</dd>
            <dt><Text en="Granted to" zh="被授权机构" /></dt><dd>{grant.tenant}</dd>
            <dt><Text en="Subject" zh="授权对象" /></dt><dd>{grant.subject ? <code>{grant.subject}</code> : <Text en="all subjects" zh="全部主体" />}</dd>
            <dt><Text en="Purpose" zh="用途" /></dt><dd>{labelOf(PRODUCTS, grant.purpose)}</dd>
            <dt><Text en="Groups" zh="指标组" /></dt><dd><Text en={groupNames(grant.groups, 0)} zh={groupNames(grant.groups, 1)} /></dd>
          </dl>
          <dl class="facts">
            <dt><Text en="Valid" zh="有效期" /></dt><dd><Text en={`from ${formatTimestamp(grant.valid_from)}`} zh={`自 ${formatTimestamp(grant.valid_from)}`} /> <ValidUntil end={grant.valid_to} /></dd>
            <dt><Text en="Revoked" zh="撤销" /></dt><dd>{formatTimestamp(grant.revoked_at)}</dd>
            <dt><Text en="Entered" zh="录入" /></dt><dd>{formatTimestamp(grant.created)}, {grant.by}</dd>
            <dt><Text en="Signed document (SHA-256)" zh="签署文件（SHA-256）" /></dt><dd><code>{grant.document_sha256}</code></dd>
          </dl>
        </div>
      </section>
      <section class="card stack">
        <h2><Text en={`Used for ${formatNumber(grant.used)} ${grant.used === 1 ? "record" : "records"}`} zh={`共用于 ${formatNumber(grant.used)} 条记录`} /></h2>
        <p class="quiet"><Text en="According to the entries of the audit log. Viewing a stored company also counts as a use and is recorded at most once a minute." zh="以审计日志的记录为准。查看库内企业亦计为使用，每分钟最多记录一次。" /></p>
        {uses.length ? <Table caption={["Uses, newest first", "使用记录（按时间倒序）"]} columns={columns} rows={uses} keyOf={(use) => use.leaf} /> : <Empty en="This authorisation has not been used for any decision or view. Rows used for training are listed in the manifest of the data set." zh="尚无决定或查看使用过该授权。用于训练的数据见数据集清单。" />}
        {failure ? <ErrorMessage error={failure} retry={loadMore} /> : next !== null ? <div class="actions"><button type="button" onClick={loadMore}><Text en="Show older" zh="查看更早记录" /></button></div> : null}
      </section>
      {grant.models.length ? (
        <section class="card stack">
          <h2><Text en="Models trained on data under this authorisation" zh="使用该授权数据训练的模型" /></h2>
          <Table caption={["Models", "模型"]} rows={grant.models} keyOf={(model) => model.bundle} columns={[
            { en: "Model", zh: "模型", cell: (model) => `${model.model} ${model.version}` },
            { en: "Data sets", zh: "数据集", cell: (model) => model.data.join(", ") },
            { en: "Bundle", zh: "模型包", cell: (model) => <code>{model.bundle}</code> },
          ]} />
        </section>
      ) : null}
    </>
  );
}

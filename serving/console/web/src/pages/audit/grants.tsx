// Authorisations: which are live, ended or revoked, and who used one. The operator's pages show the same, with a way to revoke.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { ask, useAsk } from "../../ui/api";
import { moment, number } from "../../ui/format";
import { groupNames } from "../../ui/indicator-groups";
import { Empty, Failed, Shown } from "../../ui/feedback";
import { Table, type Column } from "../../ui/table";
import { plain, Say, word } from "../../ui/i18n";
import { GRANTS, PRODUCTS, USES } from "./labels";

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

interface Uses extends Grant {
  used: number;
  uses: Use[];
  next: number | null;
  models: { model: string; version: string; bundle: string; data: string[] }[];
}

export function State({ of }: { of: Grant }) {
  const now = new Date().toISOString();
  if (of.revoked_at) return <span class="chip bad"><Say en="Revoked" zh="已撤销" /></span>;
  if (of.valid_to <= now) return <span class="chip"><Say en="Ended" zh="已到期" /></span>;
  if (of.valid_from > now) return <span class="chip warn"><Say en="Not yet" zh="未生效" /></span>;
  return <span class="chip good"><Say en="Live" zh="有效" /></span>;
}

// What ends at midnight was entered as the day before, which it covers.
export function Until({ end }: { end: string }) {
  const day = /T00:00:00(\.0+)?Z$/.test(end) ? new Date(Date.parse(end) - 1).toISOString().slice(0, 10) : null;
  return day ? <Say en={`up to and with ${day}`} zh={`至 ${day}（含当日）`} /> : <Say en={`up to ${moment(end)}`} zh={`至 ${moment(end)}`} />;
}

const short = (id: string) => `${id.slice(0, 8)}…${id.slice(-4)}`;

export function Grants({ at, tenants, deed }: {
  at: string; // where one of them is shown
  tenants?: boolean;
  deed?: (grant: Grant) => ComponentChildren;
}) {
  const asked = useAsk<{ authorisations: Grant[] }>("/v1/authorisations");
  const columns: Column<Grant>[] = [
    { en: "State", zh: "状态", cell: (grant) => <State of={grant} /> },
    { en: "Authorisation", zh: "编号", cell: (grant) => <a href={`${at}/${grant.authorisation}`}><code>{short(grant.authorisation)}</code></a> },
    { en: "Kind", zh: "类别", cell: (grant) => word(GRANTS, grant.kind) },
    { en: "By", zh: "授权方", cell: (grant) => (grant.kind === "personal" ? <code>{short(grant.grantor)}</code> : grant.grantor) },
    ...(tenants ? [{ en: "To", zh: "被授权机构", cell: (grant: Grant) => grant.tenant }] : []),
    { en: "Purpose", zh: "用途", cell: (grant) => word(PRODUCTS, grant.purpose) },
    { en: "Groups", zh: "指标组", number: true, cell: (grant) => <span title={plain(groupNames(grant.groups, 0), groupNames(grant.groups, 1))}>{grant.groups.length}</span> },
    { en: "Valid", zh: "有效期", cell: (grant) => <Until end={grant.valid_to} /> },
    ...(deed ? [{ en: "Change", zh: "操作", cell: deed }] : []),
  ];
  return (
    <Shown of={asked}>
      {({ authorisations }) => !authorisations.length ? <Empty en="No authorisation was entered yet." zh="尚无授权。" /> : (
        <section class="card stack">
          <Table caption={["Authorisations, the newest first", "授权，最新在前"]} columns={columns} rows={authorisations} keyOf={(grant) => grant.authorisation} />
          {authorisations.length === 200 ? <p class="quiet"><Say en="The newest 200 are shown." zh="仅显示最新 200 条。" /></p> : null}
        </section>
      )}
    </Shown>
  );
}

export function GrantPage({ id = "", back, decisions }: { id?: string; back: string; decisions?: string }) {
  const first = useAsk<Uses>(`/v1/authorisations/${encodeURIComponent(id)}/uses`);
  return <div class="stack"><p><a href={back}><Say en="← All authorisations" zh="← 全部授权" /></a></p><Shown of={first}>{(told) => <One key={told.authorisation} told={told} decisions={decisions} />}</Shown></div>;
}

function One({ told, decisions }: { told: Uses; decisions?: string }) {
  const [uses, setUses] = useState(told.uses);
  const [next, setNext] = useState(told.next);
  const [failed, setFailed] = useState<unknown>(null);
  const more = async () => {
    setFailed(null);
    try {
      const page = await ask<Uses>(`/v1/authorisations/${told.authorisation}/uses?before=${next}`);
      setUses([...uses, ...page.uses]);
      setNext(page.next);
    } catch (error) {
      setFailed(error);
    }
  };
  const link = ({ decision }: Use) => (decision === null ? "–" : decisions ? <a href={`${decisions}/${decision}`}><code>{decision}</code></a> : <code>{decision}</code>);
  const columns: Column<Use>[] = [
    { en: "Used", zh: "使用时间", cell: (use) => moment(use.at) },
    { en: "By", zh: "使用方", cell: (use) => use.tenant },
    { en: "For", zh: "用于", cell: (use) => word(USES, use.what ?? use.kind) },
    { en: "Decision", zh: "决定", cell: link },
    { en: "Product", zh: "产品", cell: (use) => (use.product ? word(PRODUCTS, use.product) : "–") },
    { en: "Model", zh: "模型", cell: (use) => (use.model ? `${use.model} ${use.version}` : "–") },
    { en: "Rows", zh: "行数", number: true, cell: (use) => (use.what ? "–" : use.rows === null ? "1" : number(use.rows)) },
    { en: "Record in the log", zh: "日志序号", number: true, cell: (use) => use.leaf },
  ];
  return (
    <>
      <section class="card stack">
        <div class="page-head"><h1><Say en="Authorisation" zh="授权" /> <code>{told.authorisation}</code></h1><State of={told} /></div>
        <div class="split">
          <dl class="facts">
            <dt><Say en="Kind" zh="类别" /></dt><dd>{word(GRANTS, told.kind)}</dd>
            <dt><Say en="Granted by" zh="授权方" /></dt><dd>{told.grantor}</dd>
            <dt><Say en="Granted to" zh="被授权机构" /></dt><dd>{told.tenant}</dd>
            <dt><Say en="About" zh="对象" /></dt><dd>{told.subject ? <code>{told.subject}</code> : <Say en="all subjects" zh="全部主体" />}</dd>
            <dt><Say en="Purpose" zh="用途" /></dt><dd>{word(PRODUCTS, told.purpose)}</dd>
            <dt><Say en="Groups" zh="指标组" /></dt><dd><Say en={groupNames(told.groups, 0)} zh={groupNames(told.groups, 1)} /></dd>
          </dl>
          <dl class="facts">
            <dt><Say en="Valid" zh="有效期" /></dt><dd><Say en={`from ${moment(told.valid_from)}`} zh={`自 ${moment(told.valid_from)}`} /> <Until end={told.valid_to} /></dd>
            <dt><Say en="Revoked" zh="撤销" /></dt><dd>{moment(told.revoked_at)}</dd>
            <dt><Say en="Entered" zh="录入" /></dt><dd>{moment(told.created)}, {told.by}</dd>
            <dt><Say en="Signed document (SHA-256)" zh="签署文件（SHA-256）" /></dt><dd><code>{told.document_sha256}</code></dd>
          </dl>
        </div>
      </section>
      <section class="card stack">
        <h2><Say en={`Used for ${number(told.used)} ${told.used === 1 ? "record" : "records"}`} zh={`共用于 ${number(told.used)} 条记录`} /></h2>
        <p class="quiet"><Say en="As the audit log's leaves name it. Looks at a stored company stand here too, each at most once a minute." zh="以审计日志所载为准；查看已存企业亦列于此，同一查看每分钟至多记一次。" /></p>
        {uses.length ? <Table caption={["Uses, the newest first", "使用记录，最新在前"]} columns={columns} rows={uses} keyOf={(use) => use.leaf} /> : <Empty en="No answer and no look was made under it. Rows taken for training are told by their data set's manifest." zh="尚无答复或查看依据该授权。用于训练的数据见数据集清单。" />}
        {failed ? <Failed error={failed} again={more} /> : next !== null ? <div class="actions"><button type="button" onClick={more}><Say en="Older ones" zh="更早的" /></button></div> : null}
      </section>
      {told.models.length ? (
        <section class="card stack">
          <h2><Say en="Models trained on data taken under it" zh="以其授权数据训练的模型" /></h2>
          <Table caption={["Models", "模型"]} rows={told.models} keyOf={(one) => one.bundle} columns={[
            { en: "Model", zh: "模型", cell: (one) => `${one.model} ${one.version}` },
            { en: "Data sets", zh: "数据集", cell: (one) => one.data.join(", ") },
            { en: "Bundle", zh: "模型包", cell: (one) => <code>{one.bundle}</code> },
          ]} />
        </section>
      ) : null}
    </>
  );
}

// The auditor's section: decisions with their proofs, receipts from files, authorisations with their uses, monthly statements.

import { Route, Router, useLocation } from "preact-iso";
import { NotFound } from "../../ui/feedback";
import { translate, Text } from "../../ui/i18n";
import "./audit.css";
import { Decision } from "./decision";
import { Decisions } from "./decisions";
import { GrantPage, GrantTable } from "./grants";
import { StatementPage } from "./statement";
import { VerifyPage } from "./verify";

const HOME = "/console/audit";
const TABS = [
  { path: "", en: "Decisions", zh: "决定" },
  { path: "/verify", en: "Verify a receipt", zh: "核验凭证" },
  { path: "/authorisations", en: "Authorisations", zh: "授权" },
  { path: "/statement", en: "Statement", zh: "对账单" },
];

export default function Page() {
  const { path } = useLocation();
  const subpath = path.slice(HOME.length);
  const current = TABS.slice(1).find((tab) => subpath.startsWith(tab.path)) ?? TABS[0]!;
  return (
    <main id="main">
      <nav class="tabs" aria-label={translate("Audit", "审计")}>
        {TABS.map((tab) => <a key={tab.path} href={`${HOME}${tab.path}`} aria-current={tab === current ? "page" : undefined}><Text en={tab.en} zh={tab.zh} /></a>)}
      </nav>
      <Router>
        <Route path="/" component={Decisions} />
        <Route path="/decisions/:id" component={Decision} />
        <Route path="/verify" component={VerifyPage} />
        <Route path="/authorisations" component={GrantListRoute} />
        <Route path="/authorisations/:id" component={GrantRoute} />
        <Route path="/statement" component={StatementPage} />
        <Route default component={NotFound} />
      </Router>
    </main>
  );
}

const GrantListRoute = () => <GrantTable basePath={`${HOME}/authorisations`} />;
const GrantRoute = ({ id }: { id?: string }) => <GrantPage id={id} backHref={`${HOME}/authorisations`} decisionsHref={`${HOME}/decisions`} />;

// The auditor's pages: decisions and their proofs, a receipt from a file, authorisations and their uses, a month's statement.

import { Route, Router, useLocation } from "preact-iso";
import { Nowhere } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import "./audit.css";
import { Decision } from "./decision";
import { Decisions } from "./decisions";
import { GrantPage, Grants } from "./grants";
import { StatementPage } from "./statement";
import { Verify } from "./verify";

const HOME = "/console/audit";
const TABS = [
  { path: "", en: "Decisions", zh: "决定" },
  { path: "/verify", en: "Verify a receipt", zh: "核验凭证" },
  { path: "/authorisations", en: "Authorisations", zh: "授权" },
  { path: "/statement", en: "Statement", zh: "对账单" },
];

export default function Page() {
  const { path } = useLocation();
  const below = path.slice(HOME.length);
  const current = TABS.slice(1).find((tab) => below.startsWith(tab.path)) ?? TABS[0]!;
  return (
    <main id="main">
      <nav class="tabs" aria-label={plain("Audit", "审计")}>
        {TABS.map((tab) => <a key={tab.path} href={`${HOME}${tab.path}`} aria-current={tab === current ? "page" : undefined}><Say en={tab.en} zh={tab.zh} /></a>)}
      </nav>
      <Router>
        <Route path="/" component={Decisions} />
        <Route path="/decisions/:id" component={Decision} />
        <Route path="/verify" component={Verify} />
        <Route path="/authorisations" component={AllGrants} />
        <Route path="/authorisations/:id" component={OneGrant} />
        <Route path="/statement" component={StatementPage} />
        <Route default component={Nowhere} />
      </Router>
    </main>
  );
}

const AllGrants = () => <Grants at={`${HOME}/authorisations`} />;
const OneGrant = ({ id }: { id?: string }) => <GrantPage id={id} back={`${HOME}/authorisations`} decisions={`${HOME}/decisions`} />;

// The operator's section: the state of the service, and the authorisations.

import { Route, Router, useLocation } from "preact-iso";
import { NotFound } from "../../ui/feedback";
import { translate, Text } from "../../ui/i18n";
import "../audit/audit.css";
import { GrantPage } from "../audit/grants";
import { OperatorGrants } from "./grants";
import { Status } from "./status";
import "./operator.css";

const HOME = "/console/operator";
const GRANTS = `${HOME}/authorisations`;

export default function Page() {
  const { path } = useLocation();
  const grants = path.startsWith(GRANTS);
  return (
    <main id="main">
      <nav class="tabs" aria-label={translate("Operations", "运行")}>
        <a href={HOME} aria-current={grants ? undefined : "page"}><Text en="Status" zh="运行状态" /></a>
        <a href={GRANTS} aria-current={grants ? "page" : undefined}><Text en="Authorisations" zh="授权" /></a>
      </nav>
      <Router>
        <Route path="/" component={Status} />
        <Route path="/authorisations" component={GrantListRoute} />
        <Route path="/authorisations/:id" component={GrantRoute} />
        <Route default component={NotFound} />
      </Router>
    </main>
  );
}

const GrantListRoute = () => <OperatorGrants basePath={GRANTS} />;
const GrantRoute = ({ id }: { id?: string }) => <GrantPage id={id} backHref={GRANTS} />;

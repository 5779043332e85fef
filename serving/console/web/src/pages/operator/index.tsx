// The operator's pages: how the service is, and the authorisations.

import { Route, Router, useLocation } from "preact-iso";
import { Nowhere } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import "../audit/audit.css";
import { GrantPage } from "../audit/grants";
import { OperatorGrants } from "./grants";
import { Now } from "./status";
import "./operator.css";

const HOME = "/console/operator";
const GRANTS = `${HOME}/authorisations`;

export default function Page() {
  const { path } = useLocation();
  const grants = path.startsWith(GRANTS);
  return (
    <main id="main">
      <nav class="tabs" aria-label={plain("Operations", "运行")}>
        <a href={HOME} aria-current={grants ? undefined : "page"}><Say en="Now" zh="现状" /></a>
        <a href={GRANTS} aria-current={grants ? "page" : undefined}><Say en="Authorisations" zh="授权" /></a>
      </nav>
      <Router>
        <Route path="/" component={Now} />
        <Route path="/authorisations" component={AllGrants} />
        <Route path="/authorisations/:id" component={OneGrant} />
        <Route default component={Nowhere} />
      </Router>
    </main>
  );
}

const AllGrants = () => <OperatorGrants at={GRANTS} />;
const OneGrant = ({ id }: { id?: string }) => <GrantPage id={id} back={GRANTS} />;

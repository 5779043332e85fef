// The sci-tech desk's pages.

import { Route, Router, useLocation, useRoute } from "preact-iso";
import { Batches } from "../../kit/batches";
import { moment } from "../../kit/format";
import { LookUp } from "../../kit/lookup";
import { plain, Say } from "../../kit/words";
import { Company } from "./company";
import "../credit/credit.css";
import "./companies.css";
import { OF } from "./model";
import { Run } from "./run";

// Named, so that a change of language does not build a page anew.
const Runs = () => <Batches of={OF} named={(row) => <a href={`/console/companies/runs/${row.batch_id}`}>{moment(row.created)}</a>} />;
const OneRun = () => <Run id={useRoute().params.id!} />;

export default function Companies() {
  const { path } = useLocation();
  return (
    <main id="main">
      <div class="page-head">
        <h1><Say en="Technology companies" zh="科创企业" /></h1>
        <LookUp name="company" label={["Stored company", "库内企业"]} hint={["company number", "企业编号"]} to="/console/companies/company" />
      </div>
      <nav class="tabs" aria-label={plain("Technology companies", "科创企业")}>
        <a href="/console/companies" aria-current={path === "/console/companies" ? "page" : undefined}><Say en="Register runs" zh="名录批次" /></a>
      </nav>
      <Router>
        <Route path="/runs/:id" component={OneRun} />
        <Route path="/company/:id" component={Chosen} />
        <Route default component={Runs} />
      </Router>
    </main>
  );
}

function Chosen() {
  const id = decodeURIComponent(useRoute().params.id!);
  return <Company key={id} id={id} />;
}

// The sci-tech risk section.

import { Route, Router, useLocation, useRoute } from "preact-iso";
import { Batches } from "../../ui/batches";
import { formatTimestamp } from "../../ui/format";
import { SubjectLookup } from "../../ui/subject-lookup";
import { NotFound } from "../../ui/feedback";
import { translate, Text } from "../../ui/i18n";
import example from "../../../../../../configs/examples/company.json";
import { ApplicationForm, type FormProduct } from "../credit/application-form";
import { DecisionPage } from "../credit/decision";
import "../credit/credit.css";
import { CompanyCards, CompanyPage } from "./company";
import "./companies.css";
import type { Answer } from "../credit/types";
import { SCITECH_RISK, type CompanyAnswer } from "./types";
import { RunPage } from "./run";

const TABS: [string, string, string][] = [
  ["/console/companies", "Register batches", "名录批次"],
  ["/console/companies/new", "New company", "新企业"],
];
const renderCompanyCards = (answer: Answer) => <CompanyCards answer={answer as CompanyAnswer} />;
const PRODUCT: FormProduct = {
  model: SCITECH_RISK.model, route: SCITECH_RISK.route, home: "/console/companies", example, exampleName: ["a made-up company", "虚构企业示例"], renderExtra: renderCompanyCards,
  options: [{ name: "person", initial: false, en: "The company requests a human decision", zh: "企业要求人工决定" }],
};

// Module-level components, so that a change of language does not remount a page.
const RunsTab = () => <Batches api={SCITECH_RISK} renderCreated={(row) => <a href={`/console/companies/runs/${row.batch_id}`}>{formatTimestamp(row.created)}</a>} />;
const NewCompanyTab = () => <ApplicationForm product={PRODUCT} />;
const RunRoute = () => <RunPage id={useRoute().params.id!} />;

export default function Companies() {
  const { path } = useLocation();
  return (
    <main id="main">
      <div class="page-head">
        <h1><Text en="Technology companies" zh="科创企业" /></h1>
        <SubjectLookup name="company" label={["Stored company", "库内企业"]} hint={["company number", "企业编号"]} basePath="/console/companies/company" />
      </div>
      <nav class="tabs" aria-label={translate("Technology companies", "科创企业")}>
        {TABS.map(([href, en, zh]) => <a key={href} href={href} aria-current={path === href ? "page" : undefined}><Text en={en} zh={zh} /></a>)}
      </nav>
      <Router>
        <Route path="/runs/:id" component={RunRoute} />
        <Route path="/company/:id" component={CompanyRoute} />
        <Route path="/new" component={NewCompanyTab} />
        <Route path="/decisions/:id" component={DecisionRoute} />
        <Route path="/" component={RunsTab} />
        <Route default component={NotFound} />
      </Router>
    </main>
  );
}

function CompanyRoute() {
  const id = decodeURIComponent(useRoute().params.id!);
  return <CompanyPage key={id} id={id} />;
}

function DecisionRoute() {
  const id = useRoute().params.id!;
  return <DecisionPage key={id} id={id} renderExtra={renderCompanyCards} />;
}

// The sci-tech desk's pages.

import { Route, Router, useLocation, useRoute } from "preact-iso";
import { Batches } from "../../ui/batches";
import { moment } from "../../ui/format";
import { LookUp } from "../../ui/subject-lookup";
import { Nowhere } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import example from "../../../../../../configs/examples/company.json";
import { Apply, type Asks } from "../credit/application-form";
import { Decision } from "../credit/decision";
import "../credit/credit.css";
import { Beside, Company } from "./company";
import "./companies.css";
import type { Answer } from "../credit/types";
import { OF, type CompanyAnswer } from "./types";
import { Run } from "./run";

const TABS: [string, string, string][] = [
  ["/console/companies", "Register runs", "名录批次"],
  ["/console/companies/new", "New company", "新企业"],
];
const beside = (answer: Answer) => <Beside answer={answer as CompanyAnswer} />;
const ASKS: Asks = {
  model: OF.model, route: OF.route, home: "/console/companies", example, made: ["a made-up company", "虚构企业示例"], beside,
  wishes: [{ name: "person", at: false, en: "The company wants a person to decide", zh: "企业要求人工决定" }],
};

// Named, so that a change of language does not build a page anew.
const Runs = () => <Batches of={OF} named={(row) => <a href={`/console/companies/runs/${row.batch_id}`}>{moment(row.created)}</a>} />;
const New = () => <Apply asks={ASKS} />;
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
        {TABS.map(([to, en, zh]) => <a key={to} href={to} aria-current={path === to ? "page" : undefined}><Say en={en} zh={zh} /></a>)}
      </nav>
      <Router>
        <Route path="/runs/:id" component={OneRun} />
        <Route path="/company/:id" component={Chosen} />
        <Route path="/new" component={New} />
        <Route path="/decisions/:id" component={Decided} />
        <Route path="/" component={Runs} />
        <Route default component={Nowhere} />
      </Router>
    </main>
  );
}

function Chosen() {
  const id = decodeURIComponent(useRoute().params.id!);
  return <Company key={id} id={id} />;
}

function Decided() {
  const id = useRoute().params.id!;
  return <Decision key={id} id={id} more={beside} />;
}

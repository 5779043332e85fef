// The loan officer's section.

import { Router, Route, useLocation, useRoute } from "preact-iso";
import { Batches } from "../../ui/batches";
import { SubjectLookup } from "../../ui/subject-lookup";
import { NotFound } from "../../ui/feedback";
import { translate, Text } from "../../ui/i18n";
import example from "../../../../../../configs/examples/household.json";
import { ApplicationForm, type FormProduct } from "./application-form";
import "./credit.css";
import { DecisionPage } from "./decision";
import { Letter } from "./letter";
import { DecisionList, HouseholdPage, Inbox } from "./decision-lists";
import { MODEL, ROUTE } from "./types";

const TABS: [string, string, string][] = [
  ["", "New application", "新申请"],
  ["/decisions", "Decisions", "决定"],
  ["/inbox", "Inbox", "待办"],
  ["/batches", "Batches", "批量"],
];

const PRODUCT: FormProduct = {
  model: MODEL, route: ROUTE, home: "/console/credit", example, exampleName: ["a made-up household", "虚构农户示例"],
  options: [
    { name: "moral_data_consent", initial: false, en: "The household has agreed, in person or in writing, that conduct data may raise the limit", zh: "农户已当面或书面同意品行数据用于上浮额度" },
    { name: "person", initial: false, en: "The household requests a human decision", zh: "农户要求人工决定" },
  ],
};

// Module-level components, so that a change of language does not remount a page and lose its input.
const NewApplicationTab = () => <ApplicationForm product={PRODUCT} />;
const BatchesTab = () => <Batches api={{ product: MODEL, route: ROUTE, model: MODEL }} />;
const useRouteId = () => decodeURIComponent(useRoute().params.id!);
const DecisionRoute = () => {
  const id = useRouteId();
  return <DecisionPage key={id} id={id} letterHref={`/console/credit/decisions/${id}/letter`} />;
};
const LetterRoute = () => <Letter id={useRouteId()} />;
const HouseholdRoute = () => {
  const id = useRouteId();
  return <HouseholdPage key={id} id={id} />;
};

export default function Credit() {
  const { path } = useLocation();
  const subpath = path.replace(/^\/console\/credit/, "").replace(/\/$/, "");
  return (
    <main id="main">
      <div class="page-head">
        <h1><Text en="Household credit" zh="农户授信" /></h1>
        <SubjectLookup name="household" label={["Stored household", "库内农户"]} hint={["household number", "户号"]} basePath="/console/credit/household" />
      </div>
      <nav class="tabs" aria-label={translate("Household credit", "农户授信")}>
        {TABS.map(([tab, en, zh]) => <a key={tab} href={`/console/credit${tab}`} aria-current={subpath === tab ? "page" : undefined}><Text en={en} zh={zh} /></a>)}
      </nav>
      <Router>
        <Route path="/" component={NewApplicationTab} />
        <Route path="/decisions" component={DecisionList} />
        <Route path="/inbox" component={Inbox} />
        <Route path="/batches" component={BatchesTab} />
        <Route path="/decisions/:id" component={DecisionRoute} />
        <Route path="/decisions/:id/letter" component={LetterRoute} />
        <Route path="/household/:id" component={HouseholdRoute} />
        <Route default component={NotFound} />
      </Router>
    </main>
  );
}

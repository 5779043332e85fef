// The loan officer's pages.

import { Router, Route, useLocation, useRoute } from "preact-iso";
import { Batches } from "../../ui/batches";
import { LookUp } from "../../ui/subject-lookup";
import { Nowhere } from "../../ui/feedback";
import { plain, Say } from "../../ui/i18n";
import example from "../../../../../../configs/examples/household.json";
import { Apply, type Asks } from "./application-form";
import "./credit.css";
import { Decision } from "./decision";
import { Letter } from "./letter";
import { Decisions, Household, Inbox } from "./decision-lists";
import { MODEL, ROUTE } from "./types";

const TABS: [string, string, string][] = [
  ["", "New application", "新申请"],
  ["/decisions", "Decisions", "决定"],
  ["/inbox", "Waiting for me", "待办"],
  ["/batches", "Batches", "批量"],
];

const ASKS: Asks = {
  model: MODEL, route: ROUTE, home: "/console/credit", example, made: ["a made-up household", "虚构农户示例"],
  wishes: [
    { name: "moral_data_consent", at: true, en: "The household agrees that its conduct counts", zh: "农户同意品行数据用于上浮额度" },
    { name: "person", at: false, en: "The household wants a person to decide", zh: "农户要求人工决定" },
  ],
};

// Named, so that a change of language does not build a page anew and lose what was typed into it.
const New = () => <Apply asks={ASKS} />;
const Sent = () => <Batches of={{ product: MODEL, route: ROUTE, model: MODEL }} />;
const useId = () => decodeURIComponent(useRoute().params.id!);
const OneDecision = () => {
  const id = useId();
  return <Decision key={id} id={id} letter={`/console/credit/decisions/${id}/letter`} />;
};
const OneLetter = () => <Letter id={useId()} />;
const OneHousehold = () => {
  const id = useId();
  return <Household key={id} id={id} />;
};

export default function Credit() {
  const { path } = useLocation();
  const here = path.replace(/^\/console\/credit/, "").replace(/\/$/, "");
  return (
    <main id="main">
      <div class="page-head">
        <h1><Say en="Household credit" zh="农户授信" /></h1>
        <LookUp name="household" label={["Stored household", "库内农户"]} hint={["household number", "户号"]} to="/console/credit/household" />
      </div>
      <nav class="tabs" aria-label={plain("Household credit", "农户授信")}>
        {TABS.map(([to, en, zh]) => <a key={to} href={`/console/credit${to}`} aria-current={here === to ? "page" : undefined}><Say en={en} zh={zh} /></a>)}
      </nav>
      <Router>
        <Route path="/" component={New} />
        <Route path="/decisions" component={Decisions} />
        <Route path="/inbox" component={Inbox} />
        <Route path="/batches" component={Sent} />
        <Route path="/decisions/:id" component={OneDecision} />
        <Route path="/decisions/:id/letter" component={OneLetter} />
        <Route path="/household/:id" component={OneHousehold} />
        <Route default component={Nowhere} />
      </Router>
    </main>
  );
}

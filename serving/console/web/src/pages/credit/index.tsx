// The loan officer's pages.

import { Router, Route, useLocation, useRoute } from "preact-iso";
import { useState } from "preact/hooks";
import { Batches } from "../../kit/batches";
import { plain, Say } from "../../kit/words";
import { Apply } from "./apply";
import "./credit.css";
import { Decision } from "./decision";
import { Letter } from "./letter";
import { Decisions, Household, Inbox } from "./lists";
import { MODEL, ROUTE } from "./model";

const TABS: [string, string, string][] = [
  ["", "New application", "新申请"],
  ["/decisions", "Decisions", "决定"],
  ["/inbox", "Waiting for me", "待办"],
  ["/batches", "Batches", "批量"],
];

export default function Credit() {
  const { path } = useLocation();
  const here = path.replace(/^\/console\/credit/, "").replace(/\/$/, "");
  return (
    <main id="main">
      <div class="page-head">
        <h1><Say en="Household credit" zh="农户授信" /></h1>
        <LookUp />
      </div>
      <nav class="tabs" aria-label={plain("Household credit", "农户授信")}>
        {TABS.map(([to, en, zh]) => <a key={to} href={`/console/credit${to}`} aria-current={here === to ? "page" : undefined}><Say en={en} zh={zh} /></a>)}
      </nav>
      <Router>
        <Route path="/console/credit" component={Apply} />
        <Route path="/decisions" component={Decisions} />
        <Route path="/inbox" component={Inbox} />
        <Route path="/batches" component={() => <Batches of={{ product: MODEL, route: ROUTE, model: MODEL }} />} />
        <Route path="/decisions/:id" component={() => <Decision id={useRoute().params.id!} />} />
        <Route path="/decisions/:id/letter" component={() => <Letter id={useRoute().params.id!} />} />
        <Route path="/household/:id" component={() => <Household id={decodeURIComponent(useRoute().params.id!)} />} />
        <Route default component={Apply} />
      </Router>
    </main>
  );
}

function LookUp() {
  const [id, setId] = useState("");
  const { route } = useLocation();
  const go = (event: Event) => {
    event.preventDefault();
    if (id.trim()) route(`/console/credit/household/${encodeURIComponent(id.trim())}`);
  };
  return (
    <form class="actions look-up" role="search" onSubmit={go}>
      <label for="household"><Say en="Stored household" zh="库内农户" /></label>
      <input id="household" class="short" value={id} maxLength={255} autocomplete="off" placeholder={plain("household number", "户号")} onInput={(event) => setId(event.currentTarget.value)} />
      <button type="submit"><Say en="Look up" zh="查询" /></button>
    </form>
  );
}

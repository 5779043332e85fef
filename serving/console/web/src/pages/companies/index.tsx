// The sci-tech desk's pages.

import { Route, Router, useLocation, useRoute } from "preact-iso";
import { useState } from "preact/hooks";
import { Batches } from "../../kit/batches";
import { moment } from "../../kit/format";
import { plain, Say } from "../../kit/words";
import { Company } from "./company";
import "../credit/credit.css";
import "./companies.css";
import { OF } from "./model";
import { Run } from "./run";

export default function Companies() {
  const { path } = useLocation();
  return (
    <main id="main">
      <div class="page-head">
        <h1><Say en="Technology companies" zh="科创企业" /></h1>
        <LookUp />
      </div>
      <nav class="tabs" aria-label={plain("Technology companies", "科创企业")}>
        <a href="/console/companies" aria-current={path === "/console/companies" ? "page" : undefined}><Say en="Register runs" zh="名录批次" /></a>
      </nav>
      <Router>
        <Route path="/runs/:id" component={() => <Run id={useRoute().params.id!} />} />
        <Route path="/company/:id" component={Chosen} />
        <Route default component={() => <Batches of={OF} named={(row) => <a href={`/console/companies/runs/${row.batch_id}`}>{moment(row.created)}</a>} />} />
      </Router>
    </main>
  );
}

function Chosen() {
  const id = decodeURIComponent(useRoute().params.id!);
  return <Company key={id} id={id} />;
}

function LookUp() {
  const [id, setId] = useState("");
  const { route } = useLocation();
  const go = (event: Event) => {
    event.preventDefault();
    if (id.trim()) route(`/console/companies/company/${encodeURIComponent(id.trim())}`);
  };
  return (
    <form class="actions look-up" role="search" onSubmit={go}>
      <label for="company"><Say en="Stored company" zh="库内企业" /></label>
      <input id="company" class="short" value={id} maxLength={255} autocomplete="off" placeholder={plain("company number", "企业编号")} onInput={(event) => setId(event.currentTarget.value)} />
      <button type="submit"><Say en="Look up" zh="查询" /></button>
    </form>
  );
}

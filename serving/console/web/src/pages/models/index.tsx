// The data scientist's section: all models, and the versions of one.

import { useLocation } from "preact-iso";
import { NotFound } from "../../ui/feedback";
import { ModelList } from "./model-list";
import { ModelPage } from "./model-page";
import "./models.css";

export default function Models() {
  const [name, rest] = useLocation().path.split("/").slice(3);
  return <main id="main">{rest ? <NotFound /> : name ? <ModelPage key={name} name={decodeURIComponent(name)} /> : <ModelList />}</main>;
}

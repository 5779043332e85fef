// The data scientist's pages: every model, and one model's versions side by side.

import { useLocation } from "preact-iso";
import { Nowhere } from "../../ui/feedback";
import { List } from "./model-list";
import { ModelPage } from "./model-page";
import "./models.css";

export default function Models() {
  const [name, more] = useLocation().path.split("/").slice(3);
  return <main id="main">{more ? <Nowhere /> : name ? <ModelPage key={name} name={decodeURIComponent(name)} /> : <List />}</main>;
}

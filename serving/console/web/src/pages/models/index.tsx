// The data scientist's pages: every model, and one model's versions side by side.

import { useLocation } from "preact-iso";
import { List } from "./list";
import { ModelPage } from "./model";
import "./models.css";

export default function Models() {
  const name = useLocation().path.split("/")[3];
  return <main id="main">{name ? <ModelPage key={name} name={decodeURIComponent(name)} /> : <List />}</main>;
}

import { render } from "preact";
import "./styles/base.css";
import { Console } from "./shell";

render(<Console />, document.getElementById("console")!);

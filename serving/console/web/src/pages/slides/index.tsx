// Slides: the worklist with the upload at /console/slides, one slide at /console/slides/{id}.

import { useLocation } from "preact-iso";
import { Nowhere } from "../../kit/state";
import "./slides.css";
import { Slide } from "./slide";
import { Work } from "./work";

export default function Page() {
  const [id, more] = useLocation().path.split("/").slice(3);
  return more ? <main id="main"><Nowhere /></main> : id ? <Slide key={id} id={id} /> : <Work />;
}

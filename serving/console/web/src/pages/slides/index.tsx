// Slides: the worklist with the upload at /console/slides, one slide at /console/slides/{id}.

import { useLocation } from "preact-iso";
import "./slides.css";
import { Slide } from "./slide";
import { Work } from "./work";

export default function Page() {
  const id = useLocation().path.split("/")[3];
  return id ? <Slide key={id} id={id} /> : <Work />;
}

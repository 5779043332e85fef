// Slides: the worklist with the upload at /console/slides, one slide at /console/slides/{id}.

import { useLocation } from "preact-iso";
import { Nowhere } from "../../kit/state";
import "./slides.css";
import { Slide } from "./slide";
import { Work } from "./work";

export default function Page() {
  const [id, more] = useLocation().path.split("/").slice(3);
  if (!id) return <Work />;
  return more || !/^[0-9a-f]{32}$/.test(id) ? <main id="main"><Nowhere /></main> : <Slide key={id} id={id} />;
}

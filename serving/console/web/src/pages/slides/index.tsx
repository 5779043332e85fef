// Slides: the worklist with the upload at /console/slides, one slide at /console/slides/{id}.

import { useLocation } from "preact-iso";
import { Nowhere } from "../../ui/feedback";
import "./slides.css";
import { SlidePage } from "./slide-page";
import { Work } from "./worklist";

export default function Page() {
  const [id, more] = useLocation().path.split("/").slice(3);
  if (!id) return <Work />;
  return more || !/^[0-9a-f]{32}$/.test(id) ? <main id="main"><Nowhere /></main> : <SlidePage key={id} id={id} />;
}

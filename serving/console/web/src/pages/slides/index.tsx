// Slides: the worklist with the upload at /console/slides, one slide at /console/slides/{id}.

import { useLocation } from "preact-iso";
import { NotFound } from "../../ui/feedback";
import "./slides.css";
import { SlidePage } from "./slide-page";
import { Worklist } from "./worklist";

export default function Page() {
  const [id, rest] = useLocation().path.split("/").slice(3);
  if (!id) return <Worklist />;
  return rest || !/^[0-9a-f]{32}$/.test(id) ? <main id="main"><NotFound /></main> : <SlidePage key={id} id={id} />;
}

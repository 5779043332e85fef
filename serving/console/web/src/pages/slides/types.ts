// The slide resource of the API, as the worklist and the viewer read it.

export interface Sentence {
  code: string;
  en: string;
  zh: string;
}

export interface Slide {
  slide_id: string;
  state: string;
  code: string | null;
  name: string;
  accession: string | null;
  specimen: string | null;
  progress: { done: number; total: number };
  priority: number;
  triage: string | null;
  audit: boolean; // only known once the slide is signed
  to_review: boolean;
  created: string;
}

// Evidence on the slide, in pixels of its full resolution.
export interface Region {
  x: number;
  y: number;
  width: number;
  height: number;
  code: string;
  probability: number;
}

export interface Reading {
  simulated: boolean;
  triage: string;
  probability: number | null;
  threshold: number;
  abstained: Sentence[];
  classes: (Sentence & { probability: number })[];
  adequacy: { adequate: boolean | null; tiles: number; needed: number; en: string; zh: string };
  evidence: Region[];
  patient: { level: string; points: number; reasons: (Sentence & { points: number })[]; unknown: string[] } | null;
  model: { name: string; version: string; bundle: string };
  policy_version: string;
  config_sha256: string;
  // planes: focal planes, counted from 1 at the glass; plane: the one that was read, null where each tile was read in its sharpest.
  slide: {
    width: number; height: number; mpp: [number, number] | null; mpp_from: string; sha256: string;
    planes?: number; plane_spacing?: number | null; plane?: number | null;
  };
  tiles: { read: number; grid: number; unknown: number; unfit: Record<string, number> };
  claim: { en: string; zh: string };
  created: string;
}

export interface Proof {
  at: string;
  readers: { name: string; version: string }[];
  words: number;
  files: number;
  bytes: number;
  tiles: number;
  regions: number;
  original_sha256: string;
  copy_sha256: string;
}

// Microns per pixel as a field of the file, or of the request form, states them.
export interface Scale {
  source: string;
  x: number;
  y: number;
}

export interface SlideDetail extends Slide {
  sha256: string | null;
  proof?: Proof | null;
  reasons: { code?: string; en?: string; zh?: string; scales?: Scale[] }[] | null;
  reading: Reading | null;
}

export interface Report {
  diagnosis: string;
  findings: string;
  signed_by: { name: string; licence: string };
  signed_at: string;
  version: number;
  amends: number | null;
  reason: string | null;
}

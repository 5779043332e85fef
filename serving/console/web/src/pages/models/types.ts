// API types of /v1/versions, /v1/models/{name}/versions and /v1/effects.

import type { ForcedPromotion } from "../../ui/forced-versions";

export interface Estimate {
  value: number | null;
  low: number | null;
  high: number | null;
}

export interface VersionLine {
  version: string;
  bundle: string;
  aliases: string[];
  refused: string | null;
  gate: boolean | null;
  served?: boolean;
  forced?: ForcedPromotion | null; // the newest promotion by force
  run?: string | null;
  product?: string;
  created?: string;
  simulated?: boolean;
  purpose?: string;
  not_for?: string;
  purpose_zh?: string; // this and the next: empty where the card is in English only
  not_for_zh?: string;
  git_commit?: string;
  figures?: Record<string, Estimate>;
  rows?: number | null;
}

export interface Model {
  name: string;
  versions: number;
  champion: string | null;
  challenger: string | null;
  serving: string | null;
  alarm: string | null;
  alarm_zh: string | null;
  shown: VersionLine | null;
  forced: ForcedPromotion[];
}

export interface Promotion {
  id: string;
  version: string;
  kind: "promote" | "roll_back" | "force_request" | "force";
  gate: boolean | null;
  before: string | null;
  at: string;
  own: boolean;
  by: string | null;
  confirmed_by: string | null; // the second person of a promotion by force
  reason: string | null;
  stands: boolean | null;
}

export interface VersionList {
  model: string;
  serving: string | null;
  champion: string | null;
  versions: VersionLine[];
  next: string | null;
  promotions: Promotion[];
}

export interface Check {
  name: string;
  passed: boolean;
  found: string;
  needed: string;
  found_zh: string; // empty in earlier cards
  needed_zh: string;
}

export interface Curve {
  name: string;
  x: number[];
  y: number[];
  auc: number | null;
}

export interface Plots {
  unit: string;
  rows: number;
  roc: Curve[];
  reliability: { rows: number; stated: number; seen: number; low: number; high: number }[];
  spread: { what: string; line: number; edges: number[]; negative: number[]; positive: number[] } | null;
  line: number | null;
  profit: Curve | null;
  currency: string;
  fairness: { attribute: string; value: string; rows: number; approval: Estimate; limit: Estimate }[];
  weights: { name: string; en: string; zh: string; points: number }[];
  learning: Curve[];
}

export interface Version extends Omit<VersionLine, "plots"> {
  model: string;
  serving: boolean;
  plots: Plots | null;
  metrics?: { beside?: Record<string, { what: string; auc: Estimate; ours_less: Estimate }> };
  verdict: { passed: boolean; checks: Check[] } | null;
  data?: { name: string; rows: number; source: string; simulated: boolean; split: string }[];
  inputs?: number;
  horizon?: string;
}

export interface Week {
  week: string;
  decisions?: number;
  slides?: number;
  rows?: number;
  psi?: number | null;
  moved?: { name: string; psi: number }[];
  positive_rate: Estimate | null;
  abstained_rate?: Estimate | null;
  outcomes?: { total: number; defaulted: number; stated: number };
  auc?: Estimate | null;
  ratio?: Estimate | null;
}

export interface Shift {
  name: string;
  en: string;
  zh: string;
  psi: number;
  threshold: number;
  drifted: boolean;
}

export interface Effect {
  kind: "decisions" | "slides";
  model: string;
  version: string;
  tenant: string;
  decisions?: number;
  slides?: number;
  outcomes?: { total: number; defaulted: number };
  auc: Estimate | null;
  calibration?: { groups: { pd: number; bad: number; low: number; high: number; rows: number }[] } | null;
  drift?: { rows: number; reference_rows: number; inputs: Shift[]; score: Shift } | null;
  remarks: { code: string; en: string; zh: string }[];
  series: Week[];
}

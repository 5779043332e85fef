// API types of a decision and of the application form.

export interface Sentence {
  code: string;
  en: string;
  zh: string;
}

export interface Bound extends Sentence {
  amount: number | null;
  binding: boolean;
}

export interface Ledger {
  bounds: Bound[];
  base_limit: number | null;
  conduct?: Sentence & { multiplier: number | null; score: number | null };
  uplift?: number;
  caps: (Sentence & { amount: number | null; applied: boolean })[];
  rounding: Sentence & { amount: number };
  limit: number | null;
}

export interface Answer {
  decision_id?: string;
  decision: "approve" | "refer";
  limit: number | null;
  indicative_limit: number | null;
  indicative?: { en: string; zh: string } | null;
  currency: string;
  pd: number;
  score: number;
  grade: string | null;
  approval_line: number;
  referral: Sentence[];
  ledger: Ledger | null;
  reasons: (Sentence & { indicator: string; value: unknown; points: number })[];
  raises?: (Sentence & { indicator: string; gain: number; limit: number })[];
  remarks?: Sentence[];
  model: { name: string; version: string; bundle: string };
  policy_version: string;
  simulated: boolean;
  indicators_from?: string;
  authorisations?: string[];
  created?: string;
}

export interface FormField {
  name: string;
  group: string;
  kind: "number" | "category" | "text";
  unit: string;
  unit_zh: string;
  low: number | null;
  high: number | null;
  integer: boolean;
  levels: string[];
  en: string;
  zh: string;
  needed: string;
  needed_zh: string;
}

export interface Form {
  model: string;
  product: string;
  simulated: boolean;
  currency: string;
  fields: FormField[];
}

export interface DecisionRow {
  decision_id: string;
  product: string;
  created: string;
  model: string;
  version: string;
  decision: "approve" | "refer";
  limit: number | null;
  indicative_limit: number | null;
  indicative?: { en: string; zh: string } | null;
  currency: string | null;
  pd: number | null;
  grade: string | null;
  stored: boolean;
  simulated: boolean;
  override: OverrideAct | null;
  proposal: OverrideAct | null;
  referral: ReferralAct | null;
  acts: Act[];
}

// What a person decided; `proposed`: beyond their authority, until another person approves the same amount.
export interface OverrideAct {
  kind: "override";
  id: string;
  decision: string;
  limit: number | null;
  reason: string;
  reason_code: string | null;
  state: "decided" | "proposed" | "confirmed";
  proposed_by: string | null;
  by: string;
  at: string;
}

export interface ReferralAct {
  kind: "referral";
  id: string;
  to: string;
  note: string;
  by: string;
  at: string;
}

export type Act = OverrideAct | ReferralAct;

export interface Authority {
  limits: Record<string, number>;
  min_text: number;
  confirm_hours: number;
  reasons: { code: string; decision: string; en: string; zh: string }[];
}

export interface DecisionsPage {
  decisions: DecisionRow[];
  next: string | null;
}

export interface Batch {
  batch_id: string;
  state: string;
  rows: number;
  answered: number;
  faulty: number;
  faults_cut: boolean;
  model: string;
  version: string;
  created: string;
  finished: string | null;
  simulated: boolean;
}

// Whether a colleague still has to act: the referral is later than the last human decision.
export const awaitsColleague = (row: Pick<DecisionRow, "override" | "referral">): boolean => row.referral !== null && (row.override === null || row.referral.at > row.override.at);

export const ROUTE = "/v1/credit-limits";
export const MODEL = "credit_limit";

export const VERDICTS: Record<string, readonly [string, string, string]> = {
  approve: ["Approved", "通过", "good"],
  refer: ["Human decision", "转人工", "warn"],
  decline: ["Declined by a person", "人工拒绝", "bad"],
};

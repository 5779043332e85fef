// API types of the sci-tech risk section: rows of a batch, a company's months, its network, stress scenarios.

import type { Answer, Sentence } from "../credit/types";
import type { Labels } from "../../ui/i18n";

export const SCITECH_RISK = { product: "scitech_risk", route: "/v1/scitech-risks", model: "scitech_risk" };
export const GRADES = ["AAA", "AA", "A", "BBB", "BB", "B", "CCC", "CC", "C"];
export const GATES: Record<string, readonly [string, string, string]> = {
  pass: ["pass", "通过", "good"],
  review: ["review", "复核", "warn"],
  block: ["block", "拦截", "bad"],
};

export interface Row {
  id: string;
  decision_id: string;
  decision: string | null;
  grade: string | null;
  pd: number | null;
  limit: number | null;
  innovation: number | null;
  gate: string | null;
  warnings: string | null;
  error: string | null;
}

export interface Month {
  month: string;
  warnings: (Sentence & { severity: string })[];
  grade: string | null;
  pd: number | null;
  limit: number | null;
  gate: string | null;
  innovation: number | null;
}

export interface History {
  company_id: string;
  simulated: boolean;
  months: Month[];
  decisions: { decision_id: string; created: string; decision: string; grade: string | null; pd: number; limit: number | null; currency: string | null; gate: string }[];
}

export interface CompanyAnswer extends Answer {
  gate: { verdict: string; points: number; evidence: (Sentence & { points: number })[]; en: string; zh: string };
  innovation: { score: number | null; en: string; zh: string; parts: { group: string; score: number | null; weight: number | null; en: string; zh: string }[] } | null;
  warnings: (Sentence & { severity: string })[];
}

const COLUMNS = "company_id|subject_id|row,decision_id,decision,grade,pd,indicative_limit,innovation,gate,warnings,error";

// Parses a batch's rows; 100,000 of them are about 20 MB of NDJSON.
export async function parseRows(text: string): Promise<Row[]> {
  const rows: Row[] = [];
  for (const line of text.split("\n")) {
    if (!line) continue;
    const { company_id, subject_id, row, indicative_limit, ...rest } = JSON.parse(line);
    rows.push({ id: String(company_id ?? subject_id ?? row), limit: indicative_limit, ...rest });
  }
  return rows;
}

export const rowsAddress = (batch: string) => `/v1/batches/${batch}/rows?format=ndjson&columns=${encodeURIComponent(COLUMNS)}`;

export interface Node {
  kind: string;
  company_id?: string | null;
  insures_nobody?: boolean | null;
  companies?: number;
}

export interface Edge {
  from: number;
  to: number;
  kind: string;
  loop: boolean;
}

export interface Network {
  company_id: string;
  month: string | null;
  nodes: Node[];
  edges: Edge[];
  left_out: number;
}

export const TIE_LABELS: Labels = { officer: ["officer", "高管"], address: ["address", "地址"], owner: ["owner", "股东"] };

export interface Shock {
  code: string;
  en: string;
  zh: string;
  why_en: string;
  why_zh: string;
  own_trade: boolean;
  rate: number;
  log_odds: number;
  moves: { indicator: string; en: string; zh: string; times: number }[];
}

export interface Shocks {
  shocks: Shock[];
  step: number;
  most: number;
}

// Rounded by the service, so that a company's figures cannot be inferred by moving the sliders.
export interface StressedAnswer {
  decision: string;
  grade: string | null;
  pd: number;
  limit: number | null;
  indicative_limit: number | null;
  currency: string;
  bounds: { code: string; binding: boolean; amount: number | null }[];
}

export interface StressResult {
  subject_id: string;
  recorded: false;
  before: StressedAnswer;
  after: StressedAnswer;
}

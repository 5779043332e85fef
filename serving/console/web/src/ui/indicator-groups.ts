// Names of the indicator groups, in the order of the entry form.

import type { Labels } from "./i18n";

export const INDICATOR_GROUPS: Labels = {
  credit_behaviour: ["Credit behaviour", "信贷行为"],
  household_assets: ["Household assets", "家庭资产"],
  tax: ["Tax", "税务"],
  social_security: ["Social security", "社会保障"],
  market_regulation: ["Market regulation", "市场监管"],
  public_security: ["Public security", "公安"],
  village_appraisal: ["Village appraisal", "村社评议"],
  self_assessment: ["Self-assessment", "道德自评"],
  registration: ["Registration", "工商登记"],
  technology: ["Technology", "技术创新"],
  growth: ["Growth", "成长经营"],
  auxiliary: ["Auxiliary indicators", "辅助指标"],
  financial: ["Finances", "财务"],
  public_records: ["Public records", "公共记录"],
  months: ["Last months", "近月变化"],
  shell: ["Shell company signs", "空壳特征"],
  data_assets: ["Patents and data assets", "专利与数据资产"],
  audit: ["For legal capacity and audit only", "仅用于行为能力核验与审计"],
  slide: ["The slide", "切片"],
  other: ["Other", "其他"],
};

// Shown next to a group in the entry form.
export const GROUP_NOTES: Labels = {
  village_appraisal: ["can only raise the limit", "只会提高额度"],
  self_assessment: ["can only raise the limit", "只会提高额度"],
};

export const groupNames = (codes: string[], languageIndex: 0 | 1): string => codes.map((code) => INDICATOR_GROUPS[code]?.[languageIndex] ?? code).join(languageIndex ? "、" : ", ");

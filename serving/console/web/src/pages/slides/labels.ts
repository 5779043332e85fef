// Labels of a slide's codes.

import type { Labels } from "../../ui/i18n";

export const TBS: Labels = {
  "NILM": ["Negative for intraepithelial lesion or malignancy", "未见上皮内病变或恶性病变"],
  "ASC-US": ["Atypical squamous cells of undetermined significance", "意义不明确的非典型鳞状细胞"],
  "LSIL": ["Low-grade squamous intraepithelial lesion", "低级别鳞状上皮内病变"],
  "ASC-H": ["Atypical squamous cells, cannot exclude HSIL", "非典型鳞状细胞，不除外高级别鳞状上皮内病变"],
  "HSIL": ["High-grade squamous intraepithelial lesion", "高级别鳞状上皮内病变"],
  "SCC": ["Squamous cell carcinoma", "鳞状细胞癌"],
  "AGC": ["Atypical glandular cells", "非典型腺细胞"],
  "UNSATISFACTORY": ["Unsatisfactory for evaluation", "标本不满意，无法评估"],
};
export const STATES: Labels = {
  uploading: ["Uploading", "上传中"],
  verifying: ["Verifying", "校验中"],
  awaiting_scale: ["Scale to be confirmed", "待确认比例"],
  deidentified: ["De-identified", "已去标识"],
  quality_passed: ["Quality passed", "质量合格"],
  quality_failed: ["Quality failed: rescan", "质量不合格，请重新扫描"],
  queued: ["Queued for reading", "等待判读"],
  inferring: ["Reading", "判读中"],
  aggregating: ["Aggregating", "汇总中"],
  ready: ["Awaiting review", "待审核"],
  abstained: ["No AI result; awaiting review", "AI 不作判断，待审核"],
  in_review: ["In review", "审核中"],
  signed: ["Signed", "已签发"],
  amended: ["Amended", "已更正"],
  failed: ["Failed", "失败"],
  cancelled: ["Cancelled", "已取消"],
};
export const PROCESSING_STATES: string[] = [
  "uploading", "verifying", "deidentified", "quality_passed", "queued", "inferring", "aggregating", "ready",
];
export const READ_STATES: string[] = ["ready", "abstained", "in_review", "signed", "amended"];
export const FAILED_STATES: string[] = ["quality_failed", "failed", "cancelled"];
export const TRIAGE: Labels = {
  negative: ["Negative", "阴性"],
  review: ["Review", "需复核"],
  positive: ["Positive", "阳性"],
  abstained: ["No AI result", "AI 不作判断"],
};
export const RISK_LEVELS: Labels = { routine: ["Routine", "常规"], raised: ["Raised", "升高"], urgent: ["Urgent", "紧急"] };
export const SPECIMENS: Labels = {
  cervical_cytology: ["Cervical cytology", "宫颈细胞学"],
  breast_histology: ["Breast histology", "乳腺组织学"],
  lymph_node: ["Lymph node", "淋巴结"],
};
export const UNFIT_REASONS: Labels = { blank: ["blank", "空白"], pen: ["pen", "笔迹"], focus: ["out of focus", "失焦"] };
export const REQUEST_FIELDS: Labels = {
  hpv_result: ["HPV result", "HPV 结果"], hpv_genotype: ["HPV types", "HPV 型别"], previous_result: ["previous result", "既往结果"],
  menopause: ["menopause", "绝经情况"], context: ["clinical context", "临床情况"],
};

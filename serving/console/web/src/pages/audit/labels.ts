// Labels of the audit section.

import type { Labels } from "../../ui/i18n";

export const PRODUCTS: Labels = { credit_limit: ["Household credit", "农户授信"], scitech_risk: ["Sci-tech risk", "科创风险"], pathology: ["Pathology", "病理"], training: ["Training", "训练"] };
export const DECISIONS: Labels = { approve: ["Approved", "通过"], refer: ["Referred for human decision", "转人工"], decline: ["Declined", "拒绝"] };
export const PRICE_RULES: Labels = { free: ["free, public benefit", "公益免费"], set: ["provider's price", "自主定价"], market: ["market price", "市场竞价"] };
export const LINK_KINDS: Labels = {
  decision: ["Decision", "决定"], slide: ["Slide", "切片"], model: ["Model", "模型"], run: ["Training run", "训练运行"], commit: ["Commit", "代码提交"],
  override: ["Decision of a person", "人工决定"], referral: ["Referral", "转交"],
  data: ["Data set", "数据集"], authorisation: ["Authorisation", "授权"], more: ["More", "其余"],
};
export const GRANT_KINDS: Labels = { government: ["Government", "政府授权"], personal: ["Personal", "个人授权"] };
export const USE_KINDS: Labels = {
  decision: ["Decision", "决定"], chunk: ["Rows of a batch", "批次分段"], slide_state: ["Slide reading", "切片判读"],
  history: ["History viewed", "查看历史"], network: ["Network viewed", "查看关联网络"], stress: ["Stress test", "压力测试"],
};
export const DETAIL_LABELS: Labels = {
  tenant: ["Tenant", "机构"], created: ["Created", "时间"], said: ["Conclusion", "结论"], policy_version: ["Policy", "政策"], bundle: ["Bundle", "模型包"], live: ["In service", "在用"], seed: ["Seed", "随机种子"],
  sha256: ["SHA-256", "SHA-256"], rows: ["Rows", "行数"], simulated: ["Simulated", "模拟"], licence: ["Licence", "许可"], source: ["Source", "来源"], grantor: ["Granted by", "授权方"], purpose: ["Purpose", "用途"],
  groups: ["Groups", "指标组"], valid_from: ["Valid from", "有效期自"], valid_to: ["Valid", "有效期"], revoked_at: ["Revoked", "撤销"], document_sha256: ["Document", "签署文件"], by: ["By", "经办人"],
  decision: ["Decision", "决定"], limit: ["Limit", "额度"], reason_code: ["Reason", "理由"], state: ["State", "状态"], proposed_by: ["Proposed by", "提议人"], at: ["At", "时间"], to: ["To", "转交给"],
};

// The terms of the audit's pages, in both languages.

type Words = Record<string, readonly [string, string]>;

export const PRODUCTS: Words = { credit_limit: ["Household credit", "农户授信"], scitech_risk: ["Sci-tech risk", "科创风险"], pathology: ["Pathology", "病理"], training: ["Training", "训练"] };
export const DECISIONS: Words = { approve: ["Approve", "同意"], refer: ["Refer to a person", "转人工"], decline: ["Decline", "拒绝"] };
export const KINDS: Words = {
  decision: ["Decision", "决定"], slide: ["Slide", "切片"], model: ["Model", "模型"], run: ["Training run", "训练运行"], commit: ["Commit", "代码提交"],
  data: ["Data set", "数据集"], authorisation: ["Authorisation", "授权"], more: ["More", "其余"],
};
export const GRANTS: Words = { government: ["Government", "政府授权"], personal: ["Personal", "个人授权"] };
export const USES: Words = { decision: ["Decision", "决定"], chunk: ["Rows of a batch", "批次分段"], slide_state: ["Slide's reading", "切片阅片"] };

// Which pages there are and who sees them: the one table of it. What a role may ask of the service stands in serving/trust/access.py.

import type { ComponentType } from "preact";

export interface Area {
  path: string; // below /console
  en: string;
  zh: string;
  roles: string[];
  load: () => Promise<{ default: ComponentType }>;
}

export const AREAS: Area[] = [
  { path: "credit", en: "Households", zh: "农户授信", roles: ["bank"], load: () => import("./pages/credit") },
  { path: "companies", en: "Companies", zh: "科创企业", roles: ["bank"], load: () => import("./pages/companies") },
  { path: "slides", en: "Slides", zh: "切片", roles: ["clinic", "pathologist"], load: () => import("./pages/slides") },
  { path: "models", en: "Models", zh: "模型", roles: ["scientist"], load: () => import("./pages/models") },
  { path: "audit", en: "Audit", zh: "审计", roles: ["auditor"], load: () => import("./pages/audit") },
  { path: "operator", en: "Operations", zh: "运行", roles: ["operator"], load: () => import("./pages/operator") },
];

export const areasOf = (roles: string[]): Area[] => AREAS.filter((area) => area.roles.some((role) => roles.includes(role)));
